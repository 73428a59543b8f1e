package backtest_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/engines/backtest/histories"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// purgedHistory is a history that was purged up to an event: of each key the last one is
// left.
type purgedHistory struct {
	of   *histories.History
	upTo uint64
}

// History implements projections.History.
func (h purgedHistory) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	last := map[events.Key]uint64{}
	for _, r := range h.of.Log[:h.upTo] {
		last[r.Key] = r.Seq
	}
	return h.of.History(ctx, q, func(r *events.Recorded) error {
		if r.Seq <= h.upTo && last[r.Key] != r.Seq {
			return nil
		}
		return each(r)
	})
}

// purge purges a history up to an event, and gives what a backtest of it needs, and
// what is known of it then.
func purge(h *histories.History, upTo uint64) (change func(*backtest.Config), known *events.State) {
	known = events.NewState()
	for _, r := range h.Log[:upTo] {
		events.Apply(known, r.Envelope, events.Decode(r.Type, r.Body))
	}
	return func(c *backtest.Config) { c.History, c.Known = purgedHistory{h, upTo}, known }, known
}

// TestRun_Purged: behind any purge the rest of a history is what it was before it.
func TestRun_Purged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
		h.Fails = func(n int) bool { return n%4 == 0 }
		h.Lives = func(n int) time.Duration { return time.Duration(n%7+1) * 10 * time.Minute }
		h.Live(time.Hour)
		h.Reconfigure(histories.Config("", `{"preserve_n":5,"force_site":"west"}`))
		h.Live(time.Hour)
		upTo := uint64(rapid.IntRange(2, len(h.Log)-1).Draw(rt, "purged up to"))
		at := h.Log[upTo-1].Time
		whole := run(t, h, func(c *backtest.Config) { c.From = projections.Point{Time: at} })
		change, known := purge(h, upTo)
		rest := run(t, h, change)
		if rest.Replayed == nil || rest.Replayed.Same != rest.Recorded.Decisions || len(rest.Notes) == 0 {
			rt.Fatalf("%+v, %q", rest.Replayed, rest.Notes)
		}
		if !rest.From.Equal(at) {
			rt.Errorf("from %s, not %s", rest.From, at)
		}
		for what, figures := range map[string][2]float64{
			"instance-hours": {rest.Recorded.InstanceHours, whole.Recorded.InstanceHours},
			"below target":   {rest.Recorded.BelowTarget.Seconds(), whole.Recorded.BelowTarget.Seconds()},
			"made again":     {rest.Candidate.InstanceHours, rest.Recorded.InstanceHours},
		} {
			if math.Abs(figures[0]-figures[1]) > 1e-6 {
				rt.Errorf("%s: %g, and of the whole log %g", what, figures[0], figures[1])
			}
		}
		running := 0
		for _, i := range known.Instances(h.Domain) {
			if i.State == events.Running {
				running++
			}
		}
		other := run(t, h, func(c *backtest.Config) {
			change(c)
			c.Over = histories.Config("", `{"preserve_n":9}`)
		})
		// Where no launch behind the purge came to anything, simulated ones run at once.
		if first := other.Candidate.Running[0]; first.Value != running && len(other.Notes) == 1 {
			rt.Errorf("simulated, it begins with %+v running, not %d", first, running)
		}
	})
}

// TestRun_PurgedRange: a range that is not behind the purge is refused; one of a domain
// that was added later is not.
func TestRun_PurgedRange(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
	h.Live(time.Hour)
	h.Reconfigure(histories.Config("", `{"preserve_n":5}`))
	h.Live(time.Hour)
	upTo := uint64(len(h.Log)) / 2
	for what, change := range map[string]func(*backtest.Config){
		"from a sequence": func(c *backtest.Config) { c.From = projections.Point{Seq: upTo} },
		"from a time":     func(c *backtest.Config) { c.From = projections.Point{Time: h.Log[upTo-1].Time.Add(-time.Second)} },
		"to a sequence":   func(c *backtest.Config) { c.To = upTo },
	} {
		purged, _ := purge(h, upTo)
		_, err := try(t, h, func(c *backtest.Config) { purged(c); change(c) })
		if p, ok := errors.AsType[*backtest.PurgedError](err); !ok || p.Seq != upTo || !errors.Is(err, projections.ErrPurged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := run(t, h, func(c *backtest.Config) {
		c.Known, c.From = events.NewState(), projections.Point{Time: histories.Start.Add(-time.Hour)}
		c.Known.Seq, c.Known.Time = 1, histories.Start // the leader's
	})
	if r.Replayed.Same != r.Recorded.Decisions || len(r.Notes) > 0 {
		t.Errorf("%+v, %q", r.Replayed, r.Notes)
	}
}
