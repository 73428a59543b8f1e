package jetstream

import (
	"context"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
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
	err = l.readFeeds(ctx, []*feed{f}, []uint64{0}, func(r *events.Recorded) error {
		apply(r.Envelope, r.Event)
		return nil
	})
	return fmt.Errorf("tail of the log: %w", err)
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

// Keys calls seen with the key of each event in (after, upTo], in order; it reads
// headers only. The event at upTo must be there: a replica of the log that does not
// have it yet is no source. The error wraps projections.ErrNoQuorum or
// ErrTailBroken, or is ctx's.
func (l *Log) Keys(ctx context.Context, after, upTo uint64, seen func(events.Key)) error {
	return l.walk(ctx, after, upTo, func(_ uint64, key events.Key) { seen(key) })
}

// walk is Keys with the sequences.
func (l *Log) walk(ctx context.Context, after, upTo uint64, seen func(uint64, events.Key)) error {
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
			seen(at, l.prefix.EventKey(m.Subject))
		}
	}
	return nil
}
