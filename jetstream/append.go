package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// maxMessage is the most that an event's headers and body may take, in
	// bytes: the server's max_payload (1 MiB) without room for what the client
	// and the server add.
	maxMessage = 1<<20 - 8<<10
	// maxHeaders is the most that an event's own header values may take, in
	// bytes: the server counts all headers of a message in 16 bits.
	maxHeaders = 32 << 10
)

// Append appends one event and gives its sequence. The draft's guard must hold,
// else the error is an *events.ConflictError and nothing was written. A draft
// that is in the log already (the same id, behind its guard) is a success with
// the sequence that it has, so an append may be repeated with the same draft.
// It tries until ctx ends, without a deadline 5 s; then, and where the log has no
// room, the error wraps events.ErrUnavailable and the outcome is not known. A
// draft with no guard is never sent a second time while its outcome is not known.
// Thousands may call it at once.
func (l *Log) Append(ctx context.Context, d events.Draft) (uint64, error) {
	msg, err := l.message(d, time.Now().UTC().Format(time.RFC3339Nano), 0)
	if err != nil {
		return 0, err
	}
	guarded := d.Guard != events.Guard{}
	return write{
		what: "append " + msg.Subject,
		send: func(ctx context.Context) (pubAck, error) { return l.pub.send(ctx, msg, ackPatience) },
		landed: func(ctx context.Context, doubt bool) (uint64, bool, error) {
			if l.anew(ctx, msg) {
				return 0, false, nil
			}
			return l.find(ctx, d, doubt)
		},
		conflict:   func(ctx context.Context) error { return l.conflict(ctx, d.Guard) },
		repeatable: guarded && d.Guard.Key == d.Key,
	}.do(ctx)
}

// conflict says what stands where a guard failed.
func (l *Log) conflict(ctx context.Context, guard events.Guard) error {
	e := &events.ConflictError{Guard: guard}
	if m, err := readStored(ctx, l.nc, get{stream: l.stream, Last: l.prefix.Event(guard.Key)}); err == nil {
		e.Got = m.Seq
	}
	return e
}

// find looks for a draft's own event, behind its guard. In doubt it fails where that may
// have been purged.
func (l *Log) find(ctx context.Context, d events.Draft, doubt bool) (uint64, bool, error) {
	subject := l.prefix.Event(d.Key)
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Last: subject})
	from := d.Guard.Seq + 1
	for {
		switch {
		case notFound(err):
			return 0, false, nil
		case err != nil:
			return 0, false, err
		case events.Header(m.header, events.HeaderID) == d.ID:
			return m.Seq, true, nil
		case m.Seq < from:
			return 0, false, nil // the last one of the subject is from before the guard
		}
		m, err = readStored(ctx, l.nc, get{stream: l.stream, Seq: from, Next: subject})
		if err == nil && d.Guard.Key == d.Key && events.Header(m.header, events.HeaderID) != d.ID {
			// It could only have been the first behind its guard, if that is still there.
			if doubt {
				err = l.notPurged(ctx, from)
			}
			return 0, false, err
		}
		from = m.Seq + 1
	}
}

// notPurged returns an error that wraps events.ErrUnavailable where events from a
// sequence on may have been purged, as while this process was stopped: nobody can say
// then whether one of them was there.
func (l *Log) notPurged(ctx context.Context, from uint64) error {
	info, err := streamInfo(ctx, l.nc, l.stream)
	if err != nil {
		return err
	}
	point, err := l.origin.Point(ctx, info.Created)
	if err == nil && point.Seq >= from {
		err = fmt.Errorf("%w: %w up to %d, from %d on they were to be looked through", events.ErrUnavailable, projections.ErrPurged, point.Seq, from)
	}
	return err
}

// message makes the message of a draft with room for more headers.
func (l *Log) message(d events.Draft, now string, more int) (*nats.Msg, error) {
	if err := checkDraft(d); err != nil {
		return nil, err
	}
	if d.Body == nil {
		if err := d.Encode(); err != nil {
			return nil, fmt.Errorf("%w: append %s: %w", ErrRefused, d.Key, err)
		}
	}
	guarded := d.Guard != (events.Guard{}) && !unguarded(d)
	const always = 7 // headers that each event has
	for _, has := range []bool{d.CausationID != "", d.Epoch > 0, guarded, guarded && d.Guard.Key != d.Key} {
		if has {
			more++
		}
	}
	h := newHeaders(always + more)
	h.set(events.HeaderSpecVersion, events.SpecVersion)
	h.set(events.HeaderID, d.ID)
	h.set(events.HeaderSource, l.source)
	h.set(events.HeaderType, d.Event.Type())
	h.set(events.HeaderCETime, now)
	h.set(events.HeaderActor, d.Actor)
	if d.CausationID != "" {
		h.set(events.HeaderCausation, d.CausationID)
	}
	if d.Epoch > 0 {
		h.set(events.HeaderCEEpoch, strconv.FormatUint(d.Epoch, 10))
	}
	subject := l.prefix.Event(d.Key)
	if guarded {
		h.set(events.HeaderGuard, strconv.FormatUint(d.Guard.Seq, 10))
		if d.Guard.Key != d.Key {
			h.set(events.HeaderGuardSubject, l.prefix.Event(d.Guard.Key))
		}
	}
	h.set(events.HeaderSeal, events.Seal(subject, h.header, d.Body))
	switch {
	case h.size > maxHeaders:
		return nil, fmt.Errorf("%w: append %s: %d bytes of headers, at most %d are allowed", ErrRefused, d.Key, h.size, maxHeaders)
	case h.size+len(d.Body) > maxMessage:
		return nil, fmt.Errorf("%w: append %s: %d bytes, at most %d are allowed", ErrRefused, d.Key, h.size+len(d.Body), maxMessage)
	}
	return &nats.Msg{Subject: subject, Header: h.header, Data: d.Body}, nil
}

func checkDraft(d events.Draft) error {
	var err error
	switch {
	case d.ID == "":
		err = errors.New("a draft without an id")
	case d.Event == nil:
		err = errors.New("a draft without an event")
	case !exact(d.Key):
		err = fmt.Errorf("no exact key: %q", d.Key)
	case d.Guard != (events.Guard{}) && d.Guard.Key != d.Key && !exact(d.Guard.Key):
		err = fmt.Errorf("a guard on no exact key: %q", d.Guard.Key)
	default:
		return nil
	}
	return fmt.Errorf("%w: append %s: %w", ErrRefused, d.Key, err)
}

// exact tells whether a key names one aggregate: a guard on a wildcard does not
// hold on a replicated stream, and one outside of the stream always does.
func exact(k events.Key) bool {
	_, _, ok := k.Parts()
	return ok
}
