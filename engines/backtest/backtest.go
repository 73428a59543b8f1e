package backtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// ErrNoHistory is returned where the log has no event of the domain in the range.
var ErrNoHistory = errors.New("backtest: the log has nothing of this domain there")

// Config is what a backtest needs. Fields are required unless they say so.
type Config struct {
	Domain  events.DomainID
	History projections.History
	// Known is what is known of the domain where its history begins, in a log that was
	// purged: the fold at the purge point. nil: the history is whole.
	Known *events.State
	From  projections.Point // where the range begins; zero: with the history
	To    uint64            // its last sequence
	// Until is when the range ends, where that is later than the domain's last event
	// in it; zero: it is not.
	Until time.Time
	// Engines gives the engines that there are, with the site at which a config
	// launches that names none: that of the first recorded launch. "": there is none.
	Engines func(site string) *engines.Registry
	Over    events.Config // laid over the domain's config; empty: nothing
	// Simulate has the recorded policy simulated, too, where Over changes nothing.
	Simulate bool
	Every    time.Duration // between full decide passes of a simulation; 0: 5 s
	Seed     uint64        // of what chance decides in a simulation
	ReapAge  time.Duration // of an ended instance's record before it goes; 0: 2 h
	// Ask answers the questions of engines that run outside in a simulation; nil:
	// nobody does.
	Ask func(q engines.Question, body []byte) *engines.Answer

	kept kept
}

// begun reports whether an event is in the range.
func (c *Config) begun(env events.Envelope) bool {
	return env.Seq > c.Known.Seq && env.Seq >= c.From.Seq && !env.Time.Before(c.From.Time)
}

const (
	defaultEvery   = 5 * time.Second // decider_loop_interval
	defaultReapAge = 2 * time.Hour   // record_reaping_max_age
)

// Result is what a backtest found.
type Result struct {
	Domain    events.DomainID
	From, To  time.Time // the range as it was run
	Events    int       // of the domain in the range
	Policy    string    // the engine that was run, "" where the history has no config
	Recorded  Side
	Candidate Side // replayed or simulated
	Replayed  *Replayed
	Simulated *Simulated
	Notes     []string // what this run in particular could not know
}

// Replayed is how a replay of the recorded policy went.
type Replayed struct {
	Same        int
	Unknowable  int          // records that do not hold all that was decided on
	Differing   int          // all of them; Differences has the first
	Differences []Difference // in the order of the log
}

// Simulated is how a simulation went.
type Simulated struct {
	Failures int    // evaluations in which the engine failed
	Failure  string // of the first of them
	Refused  int    // recorded reconfigures that the service would have refused on top of the other config
}

// Run runs a backtest. It fails with a *engines.FieldError where the config is one
// that the service would refuse, with ErrNoHistory, and with a *PurgedError.
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.Every <= 0 {
		c.Every = defaultEvery
	}
	if c.ReapAge <= 0 {
		c.ReapAge = defaultReapAge
	}
	if c.Known == nil {
		c.Known = events.NewState()
	}
	if err := c.purged(); err != nil {
		return nil, err
	}
	overlay, err := engines.NewOverlay(c.Engines(""), c.Over)
	if err != nil {
		return nil, err
	}
	s := newSurvey(&c, overlay)
	if err := c.read(ctx, s.take); err != nil {
		return nil, err
	}
	if s.end(c.Until); s.meter.from.IsZero() {
		return nil, fmt.Errorf("%w: %s of %s", ErrNoHistory, c.Domain.Name, c.Domain.Owner)
	}
	r := &Result{Domain: c.Domain, From: s.meter.from, To: s.meter.to, Events: s.events, Recorded: s.meter.side(), Notes: c.beginning()}
	registry := c.Engines(s.site)
	if !c.Simulate && !s.changed {
		p := newReplay(&c, s, registry)
		err = c.read(ctx, p.take)
		p.finish(r)
		return r, err
	}
	if overlay, err = engines.NewOverlay(registry, c.Over); err != nil {
		return nil, err
	}
	m := newSimulation(ctx, &c, s, registry, overlay)
	if err := c.read(ctx, m.take); err != nil {
		return nil, err
	}
	return r, m.finish(r)
}
