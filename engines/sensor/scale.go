package sensor

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// scaling is what the engine makes of its metric. Its JSON is what a decision
// record says the engine saw.
type scaling struct {
	Measured  engines.Measured `json:"measured"`
	Above     *float64         `json:"scale_up_threshold,omitempty"`
	Below     *float64         `json:"scale_down_threshold,omitempty"`
	Minimum   int              `json:"minimum"`
	Maximum   *int             `json:"maximum,omitempty"`
	Healthy   int              `json:"healthy"`
	From      int              `json:"from"`                       // what was wanted before, within the limits
	Unclamped int              `json:"unclamped"`                  // what the metric asks for
	Wanted    int              `json:"wanted"`                     // that within the limits
	Cooldown  float64          `json:"cooldown_seconds,omitempty"` // that are left of it

	reason string
}

// A direction is where the metric points to.
type direction int

const (
	down direction = iota - 1
	stay
	up
)

// look says what is wanted now, and why.
func (c *conf) look(v *engines.View, kept memory) *scaling {
	s := &scaling{
		Measured: v.Measure(c.metric), Above: c.above, Below: c.below, Minimum: c.minimum,
		Healthy: v.Healthy(), From: kept.Wanted, Unclamped: kept.Wanted, Wanted: kept.Wanted,
	}
	if c.maximum != noMaximum {
		s.Maximum = &c.maximum
	}
	if !kept.ScaledAt.IsZero() {
		if until := kept.ScaledAt.Add(c.cooldown); v.Now.Before(until) {
			s.Cooldown = until.Sub(v.Now).Seconds()
			s.reason = fmt.Sprintf("cool-down of the last scale action until %s: stay at %d", until.UTC().Format(time.DateTime), s.From)
			return s
		}
	}
	to, why := c.direct(&s.Measured)
	switch to {
	case up:
		s.reason = why + ": " + c.grow(s)
	case down:
		s.reason = why + ": " + c.shrink(s)
	case stay:
		s.reason = fmt.Sprintf("%s: stay at %d", why, s.From)
	}
	return s
}

// direct says where the metric points to, and why.
func (c *conf) direct(m *engines.Measured) (direction, string) {
	switch {
	case m.FailsOut():
		return up, c.lack(m) + " and on_missing is fail_out"
	case m.Average == nil:
		return stay, c.lack(m)
	}
	average := fmt.Sprintf("average %s %s of %d readings is ", m.Metric, figure(*m.Average), m.Fresh)
	switch {
	case c.above != nil && *m.Average > *c.above:
		return up, average + "above " + figure(*c.above)
	case c.below != nil && *m.Average < *c.below && !m.MayScaleIn():
		return stay, average + "below " + figure(*c.below) + ", but " + c.lack(m)
	case c.below != nil && *m.Average < *c.below:
		return down, average + "below " + figure(*c.below)
	case c.below == nil:
		return stay, average + "not above " + figure(*c.above)
	case c.above == nil:
		return stay, average + "not below " + figure(*c.below)
	}
	return stay, average + "between " + figure(*c.below) + " and " + figure(*c.above)
}

// grow wants a step more than there is. What is wanted already and not there is a
// part of that step: where launches do not come through, the number does not run
// away.
func (c *conf) grow(s *scaling) string {
	there := min(s.Healthy, s.From)
	s.Unclamped = there + min(c.upBy, math.MaxInt-there)
	s.Wanted = max(s.From, c.clamp(s.Unclamped))
	switch {
	case s.From == c.maximum:
		return fmt.Sprintf("stay at the maximum of %d", s.From)
	case s.Wanted == s.From:
		return fmt.Sprintf("stay at %d, of which %d are to come", s.From, s.From-there)
	case s.Maximum == nil:
		return fmt.Sprintf("from %d to %d", s.From, s.Wanted)
	}
	return fmt.Sprintf("from %d to %d of at most %d", s.From, s.Wanted, c.maximum)
}

// shrink wants a step less.
func (c *conf) shrink(s *scaling) string {
	s.Unclamped = s.From - c.downBy
	s.Wanted = c.clamp(s.Unclamped)
	if s.Wanted == s.From {
		return fmt.Sprintf("stay at the minimum of %d", s.From)
	}
	return fmt.Sprintf("from %d to %d of at least %d", s.From, s.Wanted, c.minimum)
}

// lack says what is missing, in figures: the record names some of them.
func (c *conf) lack(m *engines.Measured) string {
	ofDomain := len(m.Absent) > 0 && m.Absent[0] == engines.OfDomain
	switch {
	case c.sensing.Source == "":
		return "nothing reads " + m.Metric + ", since sensor_type is not given"
	case m.Missing == 0:
		return "no instance runs yet whose " + m.Metric + " could be read"
	case ofDomain && m.Missing == 1:
		return "no fresh " + m.Metric + " of the domain is known"
	case ofDomain:
		return fmt.Sprintf("no fresh %s of the domain and of %d of %d running instances is known", m.Metric, m.Missing-1, m.Running)
	}
	return fmt.Sprintf("no fresh %s of %d of %d running instances is known", m.Metric, m.Missing, m.Running)
}

// figure is a number as a reason has it, of at most six digits that count.
func figure(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
