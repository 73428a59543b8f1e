package jetstream

import (
	"context"
	"math"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// decodeBatch is how many events are handed on at once under load; alone an
	// event is handed on at once.
	decodeBatch = 128
	// decodeBytes is how many bytes of them: a large one has many.
	decodeBytes = 1 << 20
	// decodeAhead is how many such batches may wait for apply.
	decodeAhead = 32
)

// decoding reads a feed of the log in a goroutine of its own, ahead of whoever takes the
// events: decoding overlaps with what is done with them.
type decoding struct {
	batches chan []events.Recorded
	used    chan []events.Recorded
	broken  error // why it has ended; set before batches is closed

	batch []events.Recorded
	taken int // of batch
}

// startDecoding starts one, which ends with ctx. upTo is as in decodeAll.
func (l *Log) startDecoding(ctx context.Context, f *feed, upTo uint64) *decoding {
	d := &decoding{batches: make(chan []events.Recorded, decodeAhead), used: make(chan []events.Recorded, decodeAhead+2)}
	go func() {
		defer close(d.batches)
		d.broken = l.decodeAll(ctx, f, upTo, d.batches, d.used)
	}()
	return d
}

// head is the next event, which is the same until taken moves on; nil: it has ended.
func (d *decoding) head() *events.Recorded {
	for d.taken == len(d.batch) {
		if d.batch != nil {
			d.used <- d.batch[:0]
		}
		batch, ok := <-d.batches
		if !ok {
			d.batch, d.taken = nil, 0
			return nil
		}
		d.batch, d.taken = batch, 0
	}
	return &d.batch[d.taken]
}

// readFeeds calls each with every event of some feeds of the log, in order and from the
// calling goroutine, until one breaks, ctx ends or each fails; then it returns the
// reason. It reads a feed whose upTo is above 0 up to that sequence, and returns nil once
// all are read. What each gets is filled anew once it has returned.
func (l *Log) readFeeds(ctx context.Context, feeds []*feed, upTo []uint64, each func(*events.Recorded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	open := make([]*decoding, len(feeds))
	for n, f := range feeds {
		open[n] = l.startDecoding(ctx, f, upTo[n])
	}
	for {
		var first *decoding
		for n := 0; n < len(open); n++ {
			d := open[n]
			if r := d.head(); r == nil {
				if d.broken != nil {
					return d.broken
				}
				open = append(open[:n], open[n+1:]...)
				n--
			} else if first == nil || r.Seq < first.head().Seq {
				first = d
			}
		}
		if first == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := each(first.head()); err != nil {
			return err
		}
		first.taken++
	}
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
		for more, size := true, 0; more && err == nil; {
			if last = info.seq; last <= upTo {
				batch = append(batch, l.decode(m, info))
				size += m.Size()
			}
			if more = len(batch) < decodeBatch && size < decodeBytes && last < upTo; more {
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
