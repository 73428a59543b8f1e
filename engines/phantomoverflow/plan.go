package phantomoverflow

import (
	"slices"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// movedPart is which part of the wanted instances may be under way to a better site
// at a time, one in so many; one instance always may.
const movedPart = 4

// place is one site in a plan.
type place struct {
	cloud   engines.Cloud
	gate    gate
	view    *engines.View // of the site
	healthy int           // that count and are not replaced now
	running int           // of those
	booting int           // of those
	ill     int           // that are to be replaced now
	ideal   int           // so many would be there if all were where the ranks want it
	goal    int           // so many are to be there after this decision
}

// look counts the instances of a site.
func look(v *engines.View, cloud engines.Cloud) *place {
	p := &place{cloud: cloud, view: v.At(cloud.Site, 0)}
	for _, i := range p.view.Instances {
		if !i.Valid() {
			continue
		}
		if v.Unhealthy(i) {
			p.ill++
			continue
		}
		p.healthy++
		switch {
		case i.State < events.Running:
			p.booting++
		case !i.Unhealthy():
			p.running++
		}
	}
	return p
}

// room is how many instances may be at the place: those that are there, and what
// may be launched.
func (p *place) room() int {
	switch {
	case !p.gate.opens.IsZero(), p.gate.probing && p.booting > 0:
		return min(p.cloud.Size, p.healthy)
	case p.gate.probing:
		return min(p.cloud.Size, p.healthy+1)
	}
	return p.cloud.Size
}

// plan is how many instances are to be where.
type plan struct {
	places  []*place // the better ones first
	wanted  int
	maximum int  // of all together
	there   int  // healthy ones
	running int  // of those
	waiting int  // wanted ones that no site takes
	moving  int  // are at a worse site than they could be
	stuck   bool // they stay there, since there is no room for one more
}

// settle sets each place's goal: what is missing goes to the best sites, what is too
// much goes from the worst ones, and what is at a worse site than it need be is
// moved, a part at a time.
func (p *plan) settle() {
	rest := p.wanted
	for _, at := range p.places {
		at.ideal = min(rest, at.room())
		at.goal = min(at.healthy, at.cloud.Size)
		rest -= at.ideal
		p.there += at.healthy
		p.running += at.running
	}
	p.waiting = rest
	p.launch(p.wanted - p.planned())
	p.shrink()
	p.move()
}

// planned is how many there will be.
func (p *plan) planned() (n int) {
	for _, at := range p.places {
		n += at.goal
	}
	return n
}

// launch raises goals towards the ideal, the best sites first, by n together.
func (p *plan) launch(n int) {
	for _, at := range p.places {
		if more := min(n, at.ideal-at.goal); more > 0 {
			at.goal += more
			n -= more
		}
	}
}

// shrink lowers goals towards the ideal, the worst sites first, as far as there are
// more than wanted. A running instance goes only where enough others run, so that
// one that is to be replaced by one elsewhere stays until that runs; unless there
// are more than may be.
func (p *plan) shrink() {
	excess := p.planned() - p.wanted
	must := p.planned() - p.maximum
	spare := -p.wanted
	for _, at := range p.places {
		spare += min(at.running, at.goal)
	}
	for _, at := range slices.Backward(p.places) {
		surplus := min(at.goal-at.ideal, excess)
		idle := at.goal - min(at.running, at.goal)
		less := max(min(surplus, idle+max(spare, 0)), min(surplus, must))
		if less <= 0 {
			continue
		}
		at.goal -= less
		excess -= less
		must -= less
		spare -= max(less-idle, 0)
	}
}

// move launches at better sites what is to go there from worse ones. Those there
// follow by shrink, as the new ones run.
func (p *plan) move() {
	planned := p.planned()
	for _, at := range p.places {
		p.moving += max(at.goal-at.ideal, 0)
	}
	underWay := max(planned-p.wanted, 0)
	part := max(p.wanted/movedPart, 1) - underWay
	if part > 0 && p.moving > underWay {
		room := p.maximum - planned
		p.stuck = room <= 0
		p.launch(min(part, room))
	}
}
