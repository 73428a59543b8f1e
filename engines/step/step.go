package step

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// engine has its config and nothing else: all it decides on is in the view.
type engine struct{ conf conf }

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	c := &e.conf
	m := c.remember(v)
	before := m.Wanted
	got := v.Measure(c.Metric)
	unbounded, reason := c.follow(m, v.Now, &got)
	return v.Size(c.fleet, m.Wanted, reason+got.MissingClause(), m, struct {
		Measured     engines.Measured `json:"measured"`
		ThresholdOut *float64         `json:"threshold_out,omitempty"`
		ThresholdIn  *float64         `json:"threshold_in,omitempty"`
		Before       int              `json:"before"`
		Unbounded    int              `json:"unbounded"` // what the step asked for
		Wanted       int              `json:"wanted"`
	}{got, c.out.shown(), c.in.shown(), before, unbounded, m.Wanted})
}

// shown is the threshold, where there is one.
func (s *side) shown() *float64 {
	if s.steps == nil {
		return nil
	}
	return &s.threshold
}

// remember gives the memory; where there is none, what is there is wanted.
func (c *conf) remember(v *engines.View) *engines.Scaled {
	m := engines.Recall[engines.Scaled](v)
	if m == nil {
		m = &engines.Scaled{Wanted: v.Healthy()}
	}
	m.Wanted = c.Clamp(m.Wanted)
	return m
}

// follow takes the step that a reading asks for. It gives what that would come to
// without the bounds, and says what it does.
func (c *conf) follow(m *engines.Scaled, now time.Time, got *engines.Measured) (int, string) {
	switch {
	case got.FailsOut():
		return c.stepOut(m, now, &c.out.steps[0], "too little is known, which asks for the first step")
	case got.Average == nil && got.Missing == 0:
		return m.Wanted, fmt.Sprintf("no instance runs whose %s could be read: keep %d", c.Metric.Name, m.Wanted)
	case got.Average == nil:
		return m.Wanted, fmt.Sprintf("nothing is known: keep %d", m.Wanted)
	}
	value := *got.Average
	situation := fmt.Sprintf("%s of %d readings is %s", c.Metric.Name, got.Fresh, engines.Figure(value))
	if s := c.out.at(value - c.out.threshold); s != nil {
		return c.stepOut(m, now, s, fmt.Sprintf("%s, %s or more above %s", situation, engines.Figure(s.from), engines.Figure(c.out.threshold)))
	}
	if s := c.in.at(c.in.threshold - value); s != nil {
		situation = fmt.Sprintf("%s, %s or more below %s", situation, engines.Figure(s.from), engines.Figure(c.in.threshold))
		if !got.MayScaleIn() {
			return m.Wanted, fmt.Sprintf("%s, but too little is known: keep %d", situation, m.Wanted)
		}
		return c.stepIn(m, now, s, situation)
	}
	return m.Wanted, fmt.Sprintf("%s, at which no step begins: keep %d", situation, m.Wanted)
}

func (c *conf) stepOut(m *engines.Scaled, now time.Time, s *step, why string) (int, string) {
	from := m.Wanted
	unbounded := from + s.amount.Of(from, math.Floor)
	to := c.Clamp(unbounded)
	if to == from {
		return unbounded, fmt.Sprintf("%s: %d are the most that are allowed", why, from)
	}
	if until := m.OutFrom(c.cooldownOut); now.Before(until) {
		return unbounded, fmt.Sprintf("%s, but after the last scale-out %d stay until %s", why, from, until.Format(time.RFC3339))
	}
	m.Wanted, m.OutAt = to, now
	return unbounded, fmt.Sprintf("%s: from %d to %d of at most %d", why, from, to, c.Maximum)
}

func (c *conf) stepIn(m *engines.Scaled, now time.Time, s *step, why string) (int, string) {
	from := m.Wanted
	unbounded := from - s.amount.Of(from, math.Floor)
	to := c.Clamp(unbounded)
	if to == from {
		return unbounded, fmt.Sprintf("%s: %d are the fewest that are kept", why, from)
	}
	if until := m.InFrom(c.cooldownIn); now.Before(until) {
		return unbounded, fmt.Sprintf("%s, but after the last change %d stay until %s", why, from, until.Format(time.RFC3339))
	}
	m.Wanted, m.InAt = to, now
	return unbounded, fmt.Sprintf("%s: from %d to %d of at least %d", why, from, to, c.Minimum)
}
