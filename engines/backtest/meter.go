package backtest

import (
	"time"

	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
)

// Side is one of the two that a backtest compares.
type Side struct {
	Decisions, Launches, Terminations int           // recorded events
	InstanceHours                     float64       // of all instances together, each from RUNNING to its end
	BelowTarget                       time.Duration // with less RUNNING than wanted
	MostRunning                       int
	Wanted, Running                   []Point
}

// Point is a number from a time on.
type Point struct {
	Time  time.Time
	Value int
}

// meter measures a domain's life within a range, as it is folded.
type meter struct {
	state    *events.State
	from, to time.Time // to: zero as long as the end is not known
	now      time.Time
	measured Side
	running  int // RUNNING
	alive    int // have been RUNNING and have not ended
	wanted   int
	on       bool // within the range
	width    time.Duration
}

// mostPoints is how many points a line has at most, a plot's pixels about; until a
// line's width is known, twice as many.
const mostPoints = 2000

// newMeter begins with what is known already.
func newMeter(known *events.State) *meter {
	m := &meter{state: known.Clone()}
	for i := range m.state.AllInstances() {
		m.count(i, 1)
	}
	return m
}

// begin begins the range, at a time.
func (m *meter) begin(at time.Time) {
	m.on, m.from, m.now = true, at, at
	m.draw()
}

// goOn goes on to a time, which nothing has changed since the last event.
func (m *meter) goOn(at time.Time) {
	if !m.on || !at.After(m.now) {
		return
	}
	passed := at.Sub(m.now)
	m.measured.InstanceHours += float64(m.alive) * passed.Hours()
	if m.running < m.wanted {
		m.measured.BelowTarget += passed
	}
	m.now = at
}

// apply folds an event.
func (m *meter) apply(env events.Envelope, ev events.Event) {
	m.goOn(env.Time)
	_, name, _ := env.Key.Parts()
	instance := env.Key.Kind() == events.KindInstance
	if instance {
		m.count(m.state.Instance(name), -1)
	}
	events.Apply(m.state, env, ev)
	if instance {
		m.count(m.state.Instance(name), 1)
	}
	switch ev := ev.(type) {
	case events.DecisionMade:
		m.add(&m.measured.Decisions)
		if saw, err := passes.DecodeSaw(ev.Saw); err == nil {
			m.wanted = saw.Target
		}
	case events.LaunchRequested:
		m.add(&m.measured.Launches)
	case events.TerminateRequested:
		m.add(&m.measured.Terminations)
	case events.DomainRemoved, events.DomainAdded:
		m.wanted = 0
	default:
	}
	m.draw()
}

func (m *meter) add(n *int) {
	if m.on {
		*n++
	}
}

// count counts an instance in or out; nil: there is none.
func (m *meter) count(i *events.Instance, n int) {
	if i == nil {
		return
	}
	if i.State == events.Running {
		m.running += n
	}
	if !i.RunningTime.IsZero() && !i.State.Terminal() {
		m.alive += n
	}
}

// draw goes on with the lines.
func (m *meter) draw() {
	if !m.on {
		return
	}
	m.measured.MostRunning = max(m.measured.MostRunning, m.running)
	m.line(&m.measured.Wanted, m.wanted)
	m.line(&m.measured.Running, m.running)
}

// line draws one line on. Points that are closer to each other than a width are one,
// the last; the width doubles as the line gets long.
func (m *meter) line(line *[]Point, value int) {
	points := *line
	n := len(points)
	if n > 0 && points[n-1].Value == value {
		return
	}
	if n > 0 && m.now.Equal(points[n-1].Time) || n > 1 && m.now.Sub(points[n-1].Time) < m.width {
		points[n-1].Value = value
		return
	}
	if *line = append(points, Point{Time: m.now, Value: value}); n < 2*mostPoints {
		return
	}
	m.width = max(2*m.width, m.now.Sub(m.from)/mostPoints)
	kept := points[:1]
	for _, p := range (*line)[1:] {
		if last := &kept[len(kept)-1]; len(kept) > 1 && p.Time.Sub(last.Time) < m.width {
			last.Value = p.Value
		} else {
			kept = append(kept, p)
		}
	}
	*line = kept
}

// end ends the range.
func (m *meter) end(at time.Time) {
	m.goOn(at)
	m.to, m.on = m.now, false
}

// side is what was measured, the lines drawn to the end.
func (m *meter) side() Side {
	s := m.measured
	for _, line := range []*[]Point{&s.Wanted, &s.Running} {
		if n := len(*line); n > 0 {
			*line = append(*line, Point{Time: m.to, Value: (*line)[n-1].Value})
		}
	}
	return s
}
