package phantomoverflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// carryOut makes a plan a decision: first what goes, so that there is never more
// than may be, however few actions are allowed.
func (e *engine) carryOut(p *plan, most int) engines.Decision {
	d := engines.Decision{Target: p.wanted, State: events.EnginePending}
	var launched, terminated []string
	for _, at := range slices.Backward(p.places) {
		if at.ill == 0 && at.goal >= at.healthy {
			continue
		}
		at.view.MaxActions = most - len(d.Terminations)
		less := at.view.Keep(engines.Fleet{Wanted: min(at.goal, at.healthy), Retirable: e.conf.retirable}).Terminations
		if len(less) > 0 {
			d.Terminations = append(d.Terminations, less...)
			terminated = append(terminated, fmt.Sprintf("%d at %s", len(less), at.cloud.Site))
		}
	}
	for _, at := range p.places {
		more := min(at.goal-at.healthy, most-len(d.Terminations)-len(d.Launches))
		if more <= 0 {
			continue
		}
		one := e.conf.launch
		one.Site = at.cloud.Site
		for range more {
			d.Launches = append(d.Launches, one)
		}
		launched = append(launched, fmt.Sprintf("%d at %s", more, one.Site))
	}
	d.Reason = p.reason(launched, terminated)
	settled := p.moving == 0 || p.stuck
	if len(d.Launches)+len(d.Terminations) == 0 && p.there == p.wanted && p.running == p.wanted && settled {
		d.State = events.EngineStable
	}
	return d
}

// reason says what is there and what is done, and why not all is as it should be.
func (p *plan) reason(launched, terminated []string) string {
	var b strings.Builder
	switch {
	case p.there != p.wanted || len(launched) > 0:
		fmt.Fprintf(&b, "%d instances are there and %d are wanted", p.there, p.wanted)
	case p.wanted == 0:
		b.WriteString("none is left")
	case p.running < p.wanted:
		fmt.Fprintf(&b, "all %d wanted instances are there, %d of them running", p.wanted, p.running)
	default:
		fmt.Fprintf(&b, "all %d wanted instances are running", p.wanted)
	}
	if len(launched) > 0 {
		b.WriteString(", launch " + strings.Join(launched, ", "))
	}
	if len(terminated) > 0 {
		b.WriteString(", terminate " + strings.Join(terminated, ", "))
	}
	if p.waiting > 0 {
		fmt.Fprintf(&b, "; %d wait, since every site is full or passed over", p.waiting)
	}
	switch {
	case p.stuck:
		fmt.Fprintf(&b, "; %d stay where they are though a better site has room, since there may be no more than %d at a time", p.moving, p.maximum)
	case p.moving > 0:
		fmt.Fprintf(&b, "; %d go once as many run at a better site", p.moving)
	}
	for _, at := range p.places {
		b.WriteString(at.gate.reason(at.cloud.Site))
	}
	return b.String()
}
