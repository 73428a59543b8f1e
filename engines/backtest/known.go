package backtest

import (
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// PurgedError is returned where the range begins, or ends, before the history does.
type PurgedError struct {
	Seq  uint64    // up to this event the log was purged
	Time time.Time // of it
}

func (e *PurgedError) Error() string {
	return fmt.Sprintf("backtest: the domain's history up to event %d was purged from the log", e.Seq)
}

// Unwrap makes it a projections.ErrPurged.
func (e *PurgedError) Unwrap() error { return projections.ErrPurged }

// lived reports whether the domain had lived before its history begins.
func (c *Config) lived() bool {
	domain, decision, instances := c.Known.Look(c.Domain)
	return domain != nil || decision != nil || len(instances) > 0
}

// purged returns an error where the range is not within the history.
func (c *Config) purged() error {
	seq, at := c.Known.Seq, c.Known.Time
	if c.lived() && (c.To <= seq || c.From.Seq > 0 && c.From.Seq <= seq || !c.From.Time.IsZero() && c.From.Time.Before(at)) {
		return &PurgedError{Seq: seq, Time: at}
	}
	return nil
}

// since is when the range begins, where that is not with an event; zero: with one.
func (c *Config) since() time.Time {
	if c.From == (projections.Point{}) && c.Known.Domain(c.Domain) != nil {
		return c.Known.Time
	}
	return c.From.Time
}

// beginning says that the range begins later than it was asked for.
func (c *Config) beginning() []string {
	if c.From != (projections.Point{}) || !c.lived() {
		return nil
	}
	return []string{fmt.Sprintf("the domain's history up to event %d was purged from the log: the range begins there, with what the snapshot of the purge says", c.Known.Seq)}
}

// lastDecision reports whether an event is a decision on the domain as it was where its
// history begins. Of such the last one is still there: what was read, and wanted.
func (c *Config) lastDecision(r *events.Recorded) bool {
	made, ok := r.Event.(events.DecisionMade)
	domain := c.Known.Domain(c.Domain)
	return ok && domain != nil && made.DomainSeq == domain.AddedSeq
}
