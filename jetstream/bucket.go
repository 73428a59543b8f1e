package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// maxWritten is the most documents of one write; the checkpoint is one more
	// message of the batch.
	maxWritten = maxBatch - 1
	// purgeTTL is how long the marker of a purged document stays: a watcher that
	// was away for less still sees it, and markers do not pile up (design §2, 3).
	purgeTTL = "1h"
)

// Bucket is the state bucket of a cell. It is safe for concurrent use. Its errors
// wrap ErrBucketGone where the bucket was deleted.
type Bucket struct {
	nc     *nats.Conn
	pub    *publisher
	name   string // for errors
	stream string
	prefix string // of the subjects
	ensure func(ctx context.Context) error
}

var _ projections.Bucket = (*Bucket)(nil)

// State is the cell's state bucket.
func (c *Cell) State() *Bucket { return c.bucket(events.BucketState, c.streams.state) }

// Purged is the bucket of the snapshot that stands for the events that were purged.
func (c *Cell) Purged() *Bucket { return c.bucket(events.BucketPurged, c.streams.purged) }

func (c *Cell) bucket(name string, cfg natsjs.StreamConfig) *Bucket {
	return &Bucket{
		nc:     c.nc,
		pub:    c.pub,
		name:   name + " bucket",
		stream: cfg.Name,
		prefix: "$KV." + c.cfg.Prefix.Stream(name) + ".",
		ensure: func(ctx context.Context) error { return reconcile(ctx, c.js, cfg, c.cfg.Logger) },
	}
}

// Ensure creates the bucket again where it was deleted, and puts its settings
// right. Several processes may do so at once.
func (b *Bucket) Ensure(ctx context.Context) error { return b.ensure(ctx) }

// Read gives the documents that the keys match, in one isolated answer of one
// server and in no order; on a replicated bucket that server may be behind, which
// the checkpoint shows where it is among the keys. projections.ErrTooMany where
// they are more than 1,024 or more than the server sends at once (64 MiB).
func (b *Bucket) Read(ctx context.Context, keys ...events.Key) ([]projections.Entry, error) {
	if len(keys) == 0 {
		return []projections.Entry{}, nil
	}
	subjects := make([]string, len(keys))
	for n, k := range keys {
		subjects[n] = b.prefix + string(k)
	}
	messages, err := multiGet(ctx, b.nc, b.stream, subjects)
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", b.name, b.gone(ctx, err))
	}
	entries := make([]projections.Entry, 0, len(messages))
	for _, m := range messages {
		subject, isCopy := answerHeader(m.Header, "Nats-Subject"), answerCopied(m.Header)
		if purged(m.Header) && !isCopy {
			continue
		}
		seq, err := strconv.ParseUint(answerHeader(m.Header, "Nats-Sequence"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the %s: sequence of %s: %w", b.name, subject, err)
		}
		entries = append(entries, b.entry(subject, m.Data, isCopy, seq))
	}
	return entries, nil
}

// Newest gives the entry of one key as the bucket's leader has it, which is heard by
// enough of its followers. The error wraps projections.ErrNotFound where there is
// none, or no bucket; projections.ErrForged where no Write has written it or taken it
// away; projections.ErrNoQuorum where nobody can say.
func (b *Bucket) Newest(ctx context.Context, key events.Key) (projections.Entry, error) {
	m, err := b.newest(ctx, key)
	switch {
	case err != nil && errors.Is(b.gone(ctx, err), ErrBucketGone):
		err = projections.ErrNotFound
	case err == nil && (m.copied || events.Header(m.header, events.HeaderBatchID) == ""):
		return projections.Entry{Revision: m.Seq}, fmt.Errorf("read %s of the %s: %w", key, b.name, projections.ErrForged)
	case err == nil && purged(m.header):
		err = projections.ErrNotFound
	case err == nil:
		return b.entry(m.Subject, m.Data, m.copied, m.Seq), nil
	}
	return projections.Entry{}, fmt.Errorf("read %s of the %s: %w", key, b.name, err)
}

func (b *Bucket) newest(ctx context.Context, key events.Key) (stored, error) {
	info, err := streamInfo(ctx, b.nc, b.stream)
	if err != nil {
		return stored{}, err
	}
	if err := quorum(info.Config.Replicas, info.Cluster); err != nil {
		return stored{}, fmt.Errorf("%w: %w", projections.ErrNoQuorum, err)
	}
	return readStored(ctx, b.nc, get{stream: b.stream, Last: b.prefix + string(key)})
}

// entry is what a message of the bucket is. A copy is no document, so it is one that
// nobody can read: that a key has none, it does not say.
func (b *Bucket) entry(subject string, value []byte, isCopy bool, seq uint64) projections.Entry {
	if isCopy {
		value = []byte{}
	}
	return projections.Entry{Key: events.Key(strings.TrimPrefix(subject, b.prefix)), Value: value, Revision: seq}
}

// All calls each with every entry of the bucket but purged ones, by revision and
// not isolated from writes: an entry that is overwritten meanwhile may be left
// out. It ends with the first error of each.
func (b *Bucket) All(ctx context.Context, each func(projections.Entry) error) error {
	_, err := b.after(ctx, 0, natsjs.ConsumerConfig{DeliverPolicy: natsjs.DeliverAllPolicy}, func(m *nats.Msg, seq uint64) error {
		if isCopy := events.Copied(m.Header); isCopy || !purged(m.Header) {
			return each(b.entry(m.Subject, m.Data, isCopy, seq))
		}
		return nil
	})
	return err
}

// Strays gives the keys that somebody else than a Write has written, deleted or
// purged after a revision, and up to which revision that was looked for.
func (b *Bucket) Strays(ctx context.Context, after uint64) (keys []events.Key, upTo uint64, err error) {
	cfg := natsjs.ConsumerConfig{DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: after + 1, HeadersOnly: true}
	upTo, err = b.after(ctx, after, cfg, func(m *nats.Msg, _ uint64) error {
		if events.Copied(m.Header) || events.Header(m.Header, events.HeaderBatchID) == "" {
			keys = append(keys, events.Key(strings.TrimPrefix(m.Subject, b.prefix)))
		}
		return nil
	})
	return keys, upTo, err
}

// after calls each with every message after a sequence that is there now and stays,
// and gives the last one's sequence; the one it was given where there are none.
func (b *Bucket) after(ctx context.Context, at uint64, cfg natsjs.ConsumerConfig, each func(m *nats.Msg, seq uint64) error) (uint64, error) {
	// What stands at or before the last message now, and stays, is what has to be
	// given. What the server says is pending is no measure: under writes it
	// counts messages that are gone, and leaves out others.
	last, err := readStored(ctx, b.nc, get{stream: b.stream, Last: b.prefix + ">"})
	if notFound(err) || err == nil && last.Seq <= at {
		return at, nil
	}
	if err != nil {
		return at, fmt.Errorf("read the whole %s: %w", b.name, b.gone(ctx, err))
	}
	f, err := openFeed(ctx, b.nc, b.stream, cfg, feedBuffer)
	if err != nil {
		return at, fmt.Errorf("read the whole %s: %w", b.name, b.gone(ctx, err))
	}
	defer f.close()
	for at < last.Seq {
		m, info, err := f.readUntilIdle(ctx)
		switch {
		case err != nil:
			return at, fmt.Errorf("read the whole %s: %w", b.name, err)
		case m == nil:
			// A replica of the bucket that lags.
			return at, fmt.Errorf("read the whole %s: %w: it ends at %d, not at %d", b.name, projections.ErrNoQuorum, at, last.Seq)
		}
		at = info.seq
		if err := each(m, at); err != nil {
			return at, err
		}
	}
	return at, nil
}

// Write puts and purges (a nil value) at most 999 entries and the checkpoint as
// one atomic batch, guarded by the checkpoint's last revision, and gives its new
// one. With revision 0 there must be no checkpoint, or a purged one. The error is
// an *events.ConflictError where somebody else moved the checkpoint, and wraps
// events.ErrUnavailable where the outcome is not known.
func (b *Bucket) Write(ctx context.Context, entries []projections.Entry, checkpoint []byte, revision uint64) (uint64, error) {
	if len(entries) > maxWritten {
		return 0, fmt.Errorf("%w: write the state bucket: %d entries, at most %d are allowed", ErrRefused, len(entries), maxWritten)
	}
	id := uuid.NewString()
	batch := make([]*nats.Msg, 0, len(entries)+1)
	for _, e := range entries {
		if len(e.Value)+len(e.Key) > maxMessage {
			return 0, fmt.Errorf("%w: write the state bucket: %s has %d bytes, at most %d are allowed", ErrRefused, e.Key, len(e.Value), maxMessage)
		}
		batch = append(batch, b.message(e))
	}
	mark := b.message(projections.Entry{Key: events.CheckpointKey, Value: checkpoint})
	mark.Header[events.HeaderID] = []string{id}
	mark.Header[events.HeaderGuard] = []string{strconv.FormatUint(revision, 10)}
	batch = append(batch, mark)

	guard := events.Guard{Key: events.CheckpointKey, Seq: revision}
	var found stored // the checkpoint that was read back last
	seq, err := write{
		what: "write the state bucket",
		send: func(ctx context.Context) (pubAck, error) {
			ack, err := b.pub.sendBatch(ctx, len(batch), func(n int) (*nats.Msg, error) { return batch[n], nil })
			if ack.noResponders {
				return ack, b.gone(ctx, nil)
			}
			return ack, err
		},
		landed: func(ctx context.Context, _ bool) (seq uint64, ok bool, err error) {
			found, err = readStored(ctx, b.nc, get{stream: b.stream, Last: b.prefix + string(events.CheckpointKey)})
			if notFound(err) {
				return 0, false, nil
			}
			return found.Seq, err == nil && events.Header(found.header, events.HeaderID) == id, b.gone(ctx, err)
		},
		conflict:   func(context.Context) error { return &events.ConflictError{Guard: guard, Got: found.Seq} },
		repeatable: true,
	}.do(ctx)
	if _, conflict := errors.AsType[*events.ConflictError](err); conflict && revision == 0 && found.Seq > 0 && purged(found.header) {
		return b.Write(ctx, entries, checkpoint, found.Seq)
	}
	return seq, err
}

func (b *Bucket) message(e projections.Entry) *nats.Msg {
	m := &nats.Msg{Subject: b.prefix + string(e.Key), Data: e.Value, Header: make(nats.Header, 6)}
	if e.Value == nil {
		m.Header[headerKVOperation] = []string{"PURGE"}
		m.Header[headerRollup] = []string{"sub"}
		m.Header[headerTTL] = []string{purgeTTL}
	}
	return m
}

// gone is ErrBucketGone where the bucket was deleted, else err.
func (b *Bucket) gone(ctx context.Context, err error) error {
	if api, ok := errors.AsType[*apiError](err); ok {
		if api.ErrCode == codeStreamNotFound {
			return ErrBucketGone
		}
		return err
	}
	if err != nil && !noQuorum(err) {
		return err
	}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if askAPI(ctx, b.nc, "STREAM.INFO."+b.stream, struct{}{}, &answer) == nil && answer.Error != nil && answer.Error.ErrCode == codeStreamNotFound {
		return ErrBucketGone
	}
	return err
}

// purged tells whether a message of a bucket says that its key is gone: deleted,
// purged, or expired.
func purged(h nats.Header) bool {
	return events.Header(h, headerKVOperation) != "" || events.Header(h, headerMarker) != ""
}
