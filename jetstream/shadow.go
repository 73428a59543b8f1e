package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

// shadowDecided is the ce-type of a shadow's record. It is no event of the log: nothing
// is derived from it.
const shadowDecided = "epum.shadow.decided.v1"

// Shadows is the stream of what second engines have decided alongside, a subject a
// domain. It is safe for concurrent use.
type Shadows struct {
	nc     *nats.Conn
	pub    *publisher
	prefix events.Prefix
	stream string
	source string
}

// Shadows is the cell's stream of shadows' decisions.
func (c *Cell) Shadows() *Shadows {
	return &Shadows{
		nc: c.nc, pub: c.pub, prefix: c.cfg.Prefix, stream: c.streams.shadow.Name,
		source: "/" + string(c.cfg.Prefix) + "/" + c.cfg.Process,
	}
}

// Append appends a domain's record, of an id, behind the last one of the domain (0:
// there is none), and gives its sequence. It fails with an *events.ConflictError where
// another one was first, or there is none any more (its Got is 0); the error wraps
// events.ErrUnavailable where the outcome is not known.
func (s *Shadows) Append(ctx context.Context, domain events.DomainID, id string, body []byte, after uint64) (uint64, error) {
	if len(body) > maxMessage {
		return 0, fmt.Errorf("%w: append to %s: %d bytes, at most %d are allowed", ErrRefused, s.stream, len(body), maxMessage)
	}
	const most = 6
	h := newHeaders(most)
	h.set(events.HeaderSpecVersion, events.SpecVersion)
	h.set(events.HeaderID, id)
	h.set(events.HeaderSource, s.source)
	h.set(events.HeaderType, shadowDecided)
	h.set(events.HeaderCETime, time.Now().UTC().Format(time.RFC3339Nano))
	h.set(events.HeaderGuard, strconv.FormatUint(after, 10))
	m := &nats.Msg{Subject: s.prefix.Shadow(domain), Header: h.header, Data: body}
	var found stored // what was read back last
	return write{
		what: "append " + m.Subject,
		send: func(ctx context.Context) (pubAck, error) { return s.pub.send(ctx, m, ackPatience) },
		landed: func(ctx context.Context, _ bool) (_ uint64, ok bool, err error) {
			found, err = readStored(ctx, s.nc, get{stream: s.stream, Last: m.Subject})
			if notFound(err) {
				return 0, false, nil
			}
			return found.Seq, err == nil && events.Header(found.header, events.HeaderID) == id, err
		},
		conflict: func(context.Context) error {
			return &events.ConflictError{Guard: events.Guard{Key: domain.DecisionKey(), Seq: after}, Got: found.Seq}
		},
		repeatable: true,
	}.do(ctx)
}

// Last gives the sequence and the body of a domain's last record, from the stream's
// leader; projections.ErrNotFound where there is none, and events.ErrUnavailable where
// there is no such stream.
func (s *Shadows) Last(ctx context.Context, domain events.DomainID) (uint64, []byte, error) {
	m, err := readStored(ctx, s.nc, get{stream: s.stream, Last: s.prefix.Shadow(domain)})
	if err != nil {
		return 0, nil, s.missing(fmt.Errorf("last record of %s: %w", s.stream, err))
	}
	return m.Seq, m.Data, nil
}

// missing says what to do where there is no such stream, as in a cell of an older
// program.
func (s *Shadows) missing(err error) error {
	if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeStreamNotFound {
		return fmt.Errorf("%w: there is no stream %s yet; a service of this version makes it when it starts", events.ErrUnavailable, s.stream)
	}
	return err
}

// Read calls each with all records of a domain that there are, in order. It ends with
// the first error of each; others are as those of Log.Tail.
func (s *Shadows) Read(ctx context.Context, domain events.DomainID, each func(stored time.Time, body []byte) error) error {
	f, err := openFeed(ctx, s.nc, s.stream, natsjs.ConsumerConfig{
		DeliverPolicy: natsjs.DeliverAllPolicy, FilterSubject: s.prefix.Shadow(domain),
	}, feedBuffer)
	if err != nil {
		return s.missing(fmt.Errorf("records of %s: %w", s.stream, err))
	}
	defer f.close()
	for range f.pending {
		m, info, err := f.readUntilIdle(ctx)
		if err != nil {
			return fmt.Errorf("records of %s: %w", s.stream, err)
		}
		if m == nil { // the rest has gone meanwhile
			return nil
		}
		if events.Header(own(m.Header), events.HeaderType) != shadowDecided {
			continue // nobody's record
		}
		if err := each(info.time, m.Data); err != nil {
			return err
		}
	}
	return nil
}
