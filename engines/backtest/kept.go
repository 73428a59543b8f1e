package backtest

import (
	"context"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// What is kept of a history, so that it need not be read from the log a second time: a
// server has to look for a domain's events. A longer one is read twice.
const (
	mostKept      = 200_000
	mostKeptBytes = 48 << 20 // of bodies; decoded they take about twice as much
)

// kept is a history that was read. It is made by the first reading.
type kept struct {
	events []keptEvent
	bytes  int
	whole  bool // there is no more
	long   bool // there is too much
}

type keptEvent struct {
	env events.Envelope
	ev  events.Event
}

// read calls each with every event of the domain up to the end of the range, in order.
func (c *Config) read(ctx context.Context, each func(events.Envelope, events.Event) error) error {
	k := &c.kept
	if k.whole {
		for n := range k.events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := each(k.events[n].env, k.events[n].ev); err != nil {
				return err
			}
		}
		return nil
	}
	q := projections.Query{Keys: c.Domain.Keys(), To: projections.Point{Seq: c.To}}
	err := c.History.History(ctx, q, func(r *events.Recorded) error {
		if r.Seq <= c.Known.Seq && !c.lastDecision(r) {
			return nil
		}
		k.add(r)
		return each(r.Envelope, r.Event)
	})
	k.whole = err == nil && !k.long
	return err
}

func (k *kept) add(r *events.Recorded) {
	if k.long {
		return
	}
	k.bytes += len(r.Body)
	if len(k.events) == mostKept || k.bytes > mostKeptBytes {
		*k = kept{long: true}
		return
	}
	k.events = append(k.events, keptEvent{r.Envelope, r.Event})
}
