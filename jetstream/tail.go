package jetstream

import (
	"context"
	"fmt"
	"math"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// decodeBatch is how many events are handed on at once under load; alone an
	// event is handed on at once.
	decodeBatch = 128
	// decodeAhead is how many such batches may wait for apply.
	decodeAhead = 32
)

// Tail calls apply with every event from start on, in order and from the calling
// goroutine. It ends with ctx's error, or with one that wraps ErrTailBroken or
// projections.ErrNoQuorum: then open it anew behind the last event applied, after
// a check that the log is still the same. With start.From behind the log's end it
// waits for that event. Any number of tails may run at once.
func (l *Log) Tail(ctx context.Context, start projections.TailStart, apply func(events.Envelope, events.Event)) error {
	from, err := l.tailFrom(ctx, start)
	if err != nil {
		return fmt.Errorf("tail of the log: %w", err)
	}
	f, err := openFeed(ctx, l.nc, l.stream, natsjs.ConsumerConfig{DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: from}, feedBuffer)
	if err != nil {
		return fmt.Errorf("tail of the log: %w", err)
	}
	defer f.close()
	err = l.readFeed(ctx, f, 0, func(r *events.Recorded) error {
		apply(r.Envelope, r.Event)
		return nil
	})
	return fmt.Errorf("tail of the log: %w", err)
}

// readFeed calls each with every event of a feed, in order and from the calling
// goroutine, until it breaks, ctx ends or each fails; then it returns the reason. With an
// upTo above 0 it returns nil once the feed has been through the log up to there, and
// gives nothing beyond. What each gets is filled anew once it has returned.
func (l *Log) readFeed(ctx context.Context, f *feed, upTo uint64, each func(*events.Recorded) error) error {
	// Decoding overlaps with applying: two goroutines, in order.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches, used := make(chan []events.Recorded, decodeAhead), make(chan []events.Recorded, decodeAhead+2)
	var broken error // set before batches is closed
	go func() {
		defer close(batches)
		broken = l.decodeAll(ctx, f, upTo, batches, used)
	}()
	for batch := range batches {
		for n := range batch {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := each(&batch[n]); err != nil {
				return err
			}
		}
		used <- batch[:0]
	}
	return broken
}

// tailFrom is the sequence at which a tail begins.
func (l *Log) tailFrom(ctx context.Context, start projections.TailStart) (uint64, error) {
	from := max(start.From, 1)
	if start.Since.IsZero() || from == 1 {
		return from, nil
	}
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Next: l.prefix.AllEvents(), Since: &start.Since})
	switch {
	case notFound(err):
		// All is older by its time. A clock that was set back can make it seem so:
		// the event before from is what says that nothing is left to be read back.
		return from - 1, nil
	case err != nil:
		return 0, err
	case m.Seq >= from:
		return from, nil
	case from-m.Seq > projections.MaxRemembered:
		return from - projections.MaxRemembered, nil
	}
	return m.Seq, nil
}

// decodeAll reads the feed until it breaks, ctx ends, or it has been through the log up
// to a sequence (0: it goes on). Events are handed on as soon as no more have come, or
// there are enough of them. Batches that were used are filled again; no more than used
// has room for are ever about.
func (l *Log) decodeAll(ctx context.Context, f *feed, upTo uint64, batches chan<- []events.Recorded, used <-chan []events.Recorded) error {
	if upTo == 0 {
		upTo = math.MaxUint64
	}
	for last := uint64(0); last < upTo; {
		m, info, err := f.readUpTo(ctx, upTo)
		if m == nil || err != nil {
			return err
		}
		var batch []events.Recorded
		select {
		case batch = <-used:
		default:
			batch = make([]events.Recorded, 0, decodeBatch)
		}
		for more := true; more && err == nil; {
			if last = info.seq; last <= upTo {
				batch = append(batch, l.decode(m, info))
			}
			if more = len(batch) < decodeBatch && last < upTo; more {
				m, info, more, err = f.tryRead()
			}
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decode reads a message of the log.
func (l *Log) decode(m *nats.Msg, info meta) events.Recorded {
	return l.prefix.Record(m.Subject, info.seq, info.time, m.Header, m.Data)
}

// Keys calls seen with the key of each event in (after, upTo], in order; it reads
// headers only. The event at upTo must be there: a replica of the log that does not
// have it yet is no source. The error wraps projections.ErrNoQuorum or
// ErrTailBroken, or is ctx's.
func (l *Log) Keys(ctx context.Context, after, upTo uint64, seen func(events.Key)) error {
	if after >= upTo {
		return nil
	}
	f, err := openFeed(ctx, l.nc, l.stream, natsjs.ConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: after + 1, HeadersOnly: true,
	}, feedBuffer)
	if err != nil {
		return fmt.Errorf("keys of the log: %w", err)
	}
	defer f.close()
	for at := after; at < upTo; {
		m, info, err := f.readUntilIdle(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("keys of the log: %w", err)
		case m == nil:
			return fmt.Errorf("keys of the log: %w: it ends at %d, not at %d", projections.ErrNoQuorum, at, upTo)
		}
		if at = info.seq; at <= upTo {
			seen(l.prefix.EventKey(m.Subject))
		}
	}
	return nil
}
