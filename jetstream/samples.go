package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Samples is the bucket of what was last read of each domain's metrics (design
// §5). It is safe for concurrent use. A bucket that was deleted is created again
// by the next write.
type Samples struct {
	bucket *Bucket

	mu   sync.Mutex
	seen map[events.Key]written // this process's last write
}

// written is a write of a key.
type written struct{ epoch, revision uint64 }

var _ projections.Samples = (*Samples)(nil)

// Samples is the cell's bucket of samples.
func (c *Cell) Samples() *Samples {
	return &Samples{bucket: c.bucket(events.BucketSamples, c.streams.samples), seen: map[events.Key]written{}}
}

// Put writes a domain's document in a term, behind the revision that it knows of.
// The error is events.ErrDeposed where a later term has written, an
// *events.ConflictError where the same one wrote twice at once, and wraps
// events.ErrUnavailable where the outcome is not known.
func (s *Samples) Put(ctx context.Context, epoch uint64, domain events.DomainID, data []byte) error {
	if len(data) > maxMessage {
		return fmt.Errorf("%w: write the %s: %d bytes, at most %d are allowed", ErrRefused, s.bucket.name, len(data), maxMessage)
	}
	if data == nil {
		data = []byte{} // nil is a purge
	}
	return s.replace(ctx, epoch, projections.Entry{Key: domain.Key(), Value: data})
}

// Delete purges a domain's document, on the same terms as Put.
func (s *Samples) Delete(ctx context.Context, epoch uint64, domain events.DomainID) error {
	return s.replace(ctx, epoch, projections.Entry{Key: domain.Key()})
}

// Get gives a domain's document; projections.ErrNotFound where there is none.
func (s *Samples) Get(ctx context.Context, domain events.DomainID) ([]byte, error) {
	entries, err := s.bucket.Read(ctx, domain.Key())
	switch {
	case err != nil:
		return nil, err
	case len(entries) == 0:
		return nil, fmt.Errorf("read the %s: %w", s.bucket.name, projections.ErrNotFound)
	}
	return entries[0].Value, nil
}

// All calls each with every document. It ends with the first error of each.
func (s *Samples) All(ctx context.Context, each func(domain events.DomainID, data []byte) error) error {
	return s.bucket.All(ctx, func(e projections.Entry) error {
		domain, _, ok := e.Key.Parts()
		if !ok || e.Key.Kind() != events.KindDomain {
			return nil // not ours
		}
		return each(domain, e.Value)
	})
}

// Follow calls apply with a domain's document, and with each that replaces it, from the
// calling goroutine. It gets over whatever breaks, and ends with ctx's error.
func (s *Samples) Follow(ctx context.Context, domain events.DomainID, apply func(data []byte)) error {
	pause := newPause(shortestReopen, longestReopen)
	for ctx.Err() == nil {
		if s.follow(ctx, domain, apply) {
			pause = newPause(shortestReopen, longestReopen)
		}
		pause.wait(ctx)
	}
	return ctx.Err()
}

// follow follows until the consumer breaks; came says that anything came before.
func (s *Samples) follow(ctx context.Context, domain events.DomainID, apply func(data []byte)) (came bool) {
	f, err := openFeed(ctx, s.bucket.nc, s.bucket.stream, natsjs.ConsumerConfig{
		DeliverPolicy: natsjs.DeliverLastPerSubjectPolicy, FilterSubject: s.bucket.prefix + string(domain.Key()),
	}, smallBuffer)
	if err != nil {
		return false
	}
	defer f.close()
	for {
		m, _, err := f.read(ctx)
		if err != nil {
			return came
		}
		came = true
		if h := own(m.Header); len(m.Data) > 0 && events.Header(h, headerKVOperation) == "" {
			apply(m.Data)
		}
	}
}

// replace writes an entry; where it does not know the last revision, or somebody
// else wrote, once more behind what is there.
func (s *Samples) replace(ctx context.Context, epoch uint64, e projections.Entry) error {
	s.mu.Lock()
	known := s.seen[e.Key]
	s.mu.Unlock()
	if known.epoch > epoch {
		return fmt.Errorf("write the %s: %w", s.bucket.name, events.ErrDeposed)
	}
	seq, err := s.write(ctx, epoch, e, known.revision)
	if errors.Is(err, ErrBucketGone) {
		if err = s.bucket.ensure(ctx); err == nil {
			seq, err = s.write(ctx, epoch, e, 0)
		}
	}
	if conflict, ok := errors.AsType[*events.ConflictError](err); ok {
		seq, err = s.write(ctx, epoch, e, conflict.Got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.seen, e.Key) // what is there may be ours, or not
		return err
	}
	s.seen[e.Key] = written{epoch: epoch, revision: seq}
	return nil
}

// write writes an entry behind a revision. Before it fails with a conflict it
// looks whether a later term has written.
func (s *Samples) write(ctx context.Context, epoch uint64, e projections.Entry, revision uint64) (uint64, error) {
	b, id := s.bucket, uuid.NewString()
	m := b.message(e)
	m.Header[events.HeaderID] = []string{id}
	m.Header[events.HeaderCEEpoch] = []string{strconv.FormatUint(epoch, 10)}
	m.Header[events.HeaderGuard] = []string{strconv.FormatUint(revision, 10)}
	var found stored // what was read back last
	return write{
		what: "write the " + b.name,
		send: func(ctx context.Context) (pubAck, error) {
			ack, err := b.pub.send(ctx, m, ackPatience)
			if ack.noResponders {
				return ack, b.gone(ctx, nil)
			}
			return ack, err
		},
		landed: func(ctx context.Context, _ bool) (_ uint64, ok bool, err error) {
			found, ok, err = s.readBack(ctx, e.Key, id)
			if err == nil && !ok && events.ParseEpoch(events.Header(found.header, events.HeaderCEEpoch)) > epoch {
				err = events.ErrDeposed
			}
			return found.Seq, ok, err
		},
		conflict: func(context.Context) error {
			return &events.ConflictError{Guard: events.Guard{Key: e.Key, Seq: revision}, Got: found.Seq}
		},
		repeatable: true,
	}.do(ctx)
}

// readBack gives the last message of a key, its sequence 0 where there is none,
// and whether it is the one with an id.
func (s *Samples) readBack(ctx context.Context, key events.Key, id string) (stored, bool, error) {
	b := s.bucket
	m, err := readStored(ctx, b.nc, get{stream: b.stream, Last: b.prefix + string(key)})
	if notFound(err) {
		return stored{header: nats.Header{}}, false, nil
	}
	return m, err == nil && events.Header(m.header, events.HeaderID) == id, b.gone(ctx, err)
}
