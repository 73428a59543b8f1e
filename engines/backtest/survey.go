package backtest

import (
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// survey is the first reading of a history: what a replay or a simulation has to know
// before it begins, and what was recorded.
type survey struct {
	config  *Config
	overlay *engines.Overlay
	meter   *meter
	cloud   *cloud
	events  int      // in the range
	inputs  []uint64 // the input sequence of each decision in the range
	site    string   // of the first launch
	changed bool     // the other config is another one, or would be refused
	last    time.Time

	seen *events.Domain // the last one that changed was judged by
}

func newSurvey(c *Config, overlay *engines.Overlay) *survey {
	s := &survey{config: c, overlay: overlay, meter: newMeter(c.Known), cloud: newCloud(c.Seed)}
	for n, i := range c.Known.Instances(c.Domain) {
		if s.cloud.know(i); n == 0 {
			s.site = i.Site
		}
	}
	if c.Known.Domain(c.Domain) != nil {
		s.last = c.Known.Time
	}
	return s
}

// take takes the next event.
func (s *survey) take(env events.Envelope, ev events.Event) error {
	m := s.meter
	if !m.on && s.config.begun(env) {
		s.begin(env.Time)
	}
	if m.on {
		s.events++
	}
	switch ev := ev.(type) {
	case events.DecisionMade:
		if m.on {
			s.inputs = append(s.inputs, ev.InputSeq)
		}
	case events.LaunchRequested:
		if s.site == "" {
			s.site = ev.Site
		}
	default:
	}
	_, name, _ := env.Key.Parts()
	before := m.state.Instance(name)
	m.apply(env, ev)
	if env.Key.Kind() == events.KindInstance {
		s.cloud.learn(env, before, m.state.Instance(name))
	}
	if env.Seq > s.config.Known.Seq {
		s.last = env.Time
	}
	if m.on && env.Key.Kind() == events.KindDomain {
		s.judge()
	}
	return nil
}

// begin begins the range, at its first event, or before that where something is known
// of the domain already.
func (s *survey) begin(first time.Time) {
	if since := s.config.since(); !since.IsZero() && !s.last.IsZero() {
		first = since
	}
	s.meter.begin(first)
	s.judge()
}

// judge finds out whether the other config makes a difference just now.
func (s *survey) judge() {
	d := s.meter.state.Domain(s.config.Domain)
	if d == nil || d == s.seen || s.changed || s.config.Over.Size() == 0 {
		return
	}
	s.seen = d
	laid, err := s.overlay.Config(d.Config)
	s.changed = err != nil || !laid.Equal(d.Config)
}

// end ends the survey with the range.
func (s *survey) end(until time.Time) {
	at := s.last
	if until.After(at) {
		at = until
	}
	if since := s.config.since(); !s.meter.on && !s.last.IsZero() && !since.IsZero() && since.Before(at) {
		s.begin(since)
	}
	s.meter.end(at)
	s.cloud.end(s.meter.state, s.meter.to)
}
