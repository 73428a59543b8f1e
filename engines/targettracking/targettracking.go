package targettracking

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// memory is what survives between decides. It changes only when something does:
// the highest need since InSince is kept, not each.
type memory struct {
	engines.Scaled
	InSince   time.Time `json:"in_since,omitzero"` // since when the need is lower; zero: it is not
	InHighest int       `json:"in_highest,omitempty"`
}

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
	need := before
	var verdict string
	switch {
	case got.FailsOut():
		need = before + 1
		verdict = c.out(m, v.Now, need, "too little is known, which asks for one more")
	case got.Average == nil && got.Missing == 0:
		m.rest()
		verdict = fmt.Sprintf("no instance runs whose %s could be read: keep %d", c.Metric.Name, before)
	case got.Average == nil:
		m.rest()
		verdict = fmt.Sprintf("nothing is known: keep %d", before)
	default:
		need = c.need(&got, before)
		verdict = c.situation(&got, before) + c.follow(m, v.Now, need, got.MayScaleIn())
	}
	return v.Size(c.fleet, m.Wanted, verdict+got.MissingClause(), m, struct {
		Measured engines.Measured `json:"measured"`
		Target   float64          `json:"target_value"`
		Before   int              `json:"before"`
		Need     int              `json:"need"` // before the bounds
		Wanted   int              `json:"wanted"`
	}{got, c.target, before, need, m.Wanted})
}

// remember gives the memory; where there is none, what is there is wanted.
func (c *conf) remember(v *engines.View) *memory {
	m := engines.Recall[memory](v)
	if m == nil {
		m = &memory{Scaled: engines.Scaled{Wanted: v.Healthy()}}
	}
	if m.Wanted = c.Clamp(m.Wanted); m.InHighest >= m.Wanted {
		m.rest() // other bounds: what it has seen says nothing any more
	}
	return m
}

// rest forgets that the need was lower.
func (m *memory) rest() { m.InSince, m.InHighest = time.Time{}, 0 }

// within reports whether a ratio of what is to what should be is close enough,
// apart from what the floating point adds.
func (c *conf) within(ratio float64) bool {
	const slack = 1e-9
	return math.Abs(ratio-1) <= c.tolerance+slack
}

// need is how many instances bring the metric to its target; as many as are wanted
// where it is close enough.
func (c *conf) need(got *engines.Measured, wanted int) int {
	if c.Metric.Domain {
		enough := *got.Average / c.target
		if wanted > 0 && c.within(enough/float64(wanted)) {
			return wanted
		}
		return engines.WholeInstances(enough)
	}
	ratio := *got.Average / c.target
	if c.within(ratio) {
		return wanted
	}
	// In units of what one instance is to carry. One that does not run yet or has
	// no reading carries nothing where there is too much load, so that what was
	// launched already is not launched again; where there is too little, one that
	// has no reading carries its full part.
	load, count := ratio*float64(got.Fresh), got.Fresh
	if ratio > 1 {
		count += got.Missing + max(0, wanted-got.Running)
	} else {
		load += float64(got.Missing)
		count += got.Missing
	}
	if all := load / float64(count); c.within(all) || (all > 1) != (ratio > 1) {
		return wanted
	}
	if n := engines.WholeInstances(load); (n > wanted) == (ratio > 1) {
		return n
	}
	return wanted
}

func (c *conf) situation(got *engines.Measured, wanted int) string {
	if c.Metric.Domain {
		return fmt.Sprintf("%s is %s for %d instances and is to be %s for each: ",
			c.Metric.Name, engines.Figure(*got.Average), wanted, engines.Figure(c.target))
	}
	return fmt.Sprintf("average %s of %d instances is %s and is to be %s: ",
		c.Metric.Name, got.Fresh, engines.Figure(*got.Average), engines.Figure(c.target))
}

// follow changes what is wanted towards the need, and says what it does.
func (c *conf) follow(m *memory, now time.Time, need int, mayScaleIn bool) string {
	bounded := c.Clamp(need)
	switch {
	case bounded > m.Wanted:
		return c.out(m, now, need, fmt.Sprintf("%d are needed", need))
	case bounded < m.Wanted && mayScaleIn:
		return c.in(m, now, bounded)
	case bounded < m.Wanted:
		m.rest()
		return fmt.Sprintf("fewer would do, but too little is known: keep %d", m.Wanted)
	}
	m.rest()
	switch {
	case need > bounded:
		return fmt.Sprintf("%d are needed, but at most %d are allowed", need, c.Maximum)
	case need < bounded:
		return fmt.Sprintf("%d would do, but at least %d are kept", need, c.Minimum)
	}
	return fmt.Sprintf("keep %d", m.Wanted)
}

func (c *conf) out(m *memory, now time.Time, need int, why string) string {
	m.rest()
	from, to := m.Wanted, c.Clamp(need)
	if to == from {
		return fmt.Sprintf("%s, but at most %d are allowed", why, c.Maximum)
	}
	if until := m.OutFrom(c.outCooldown); now.Before(until) {
		return fmt.Sprintf("%s, but after the last scale-out %d stay until %s", why, from, until.Format(time.RFC3339))
	}
	if c.maxOut != nil {
		to = min(to, from+c.maxOut.Of(from, math.Ceil))
	}
	m.Wanted, m.OutAt = to, now
	return fmt.Sprintf("%s: from %d to %d of at most %d", why, from, to, c.Maximum)
}

// in scales in once the need has been lower for the whole window, to the highest
// of it.
func (c *conf) in(m *memory, now time.Time, need int) string {
	if m.InSince.IsZero() {
		m.InSince = now
	}
	m.InHighest = max(m.InHighest, need)
	from, to := m.Wanted, m.InHighest
	if until := m.InSince.Add(c.window); now.Before(until) {
		return fmt.Sprintf("%d would do, but %d stay unless it is so until %s", need, from, until.Format(time.RFC3339))
	}
	if until := m.InFrom(c.inCooldown); now.Before(until) {
		return fmt.Sprintf("%d would do, but after the last change %d stay until %s", need, from, until.Format(time.RFC3339))
	}
	if c.maxIn != nil {
		to = max(to, from-c.maxIn.Of(from, math.Ceil))
	}
	highest := m.InHighest
	m.Wanted, m.InAt = to, now
	m.rest()
	return fmt.Sprintf("at most %d were needed for %s s: from %d to %d of at least %d", highest, engines.Figure(c.window.Seconds()), from, to, c.Minimum)
}
