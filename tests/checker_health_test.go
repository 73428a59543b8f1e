package tests

import (
	"encoding/json"
	"slices"

	"github.com/seed-524e47bf/epum/events"
)

// wish is what a domain's config says of its size and of the guard on its health.
type wish struct {
	PreserveN int      `json:"preserve_n"`
	Fraction  *float64 `json:"max_unhealthy_fraction"`
}

func wishOf(d *events.Domain) (w wish) {
	for _, section := range [][]byte{d.Config.EngineConf, d.Config.General} {
		if len(section) > 0 && json.Unmarshal(section, &w) != nil {
			return wish{}
		}
	}
	return w
}

// most is how many of a domain of a size may be missing for their health.
func (w wish) most(size int) int {
	fraction := 0.5
	if w.Fraction != nil {
		fraction = *w.Fraction
	}
	const rounding = 1e-9 // 0.7 of 10 are 7
	return max(int(fraction*float64(size)+rounding), 1)
}

// checkTerminations finds the domain of which more is terminated for its health than
// may be at a time, whether or not anything is launched for it. It looks at a batch
// before that is folded.
func (c *checker) checkTerminations(batch []logged) {
	input := map[events.DomainID]uint64{}
	ended := map[events.DomainID][]string{}
	for _, l := range batch {
		domain, instance, _ := l.key.Parts()
		switch ev := l.decode().(type) {
		case events.DecisionMade:
			input[domain] = ev.InputSeq
		case events.TerminateRequested:
			ended[domain] = append(ended[domain], instance)
		default: // the others end nothing
		}
	}
	for id, ids := range ended {
		if d := c.state.Domain(id); d != nil && !d.Removed {
			c.checkVacancies(batch[0], d, input[id], ids)
		}
	}
}

// checkVacancies counts the places that stay open where those who ran and were ill go.
// What ended after the decision saw the domain counts as there: the decision could
// not know.
func (c *checker) checkVacancies(l logged, d *events.Domain, input uint64, ended []string) {
	valid, ill := 0, 0
	for _, i := range c.state.Instances(d.ID) {
		if i.Valid() || i.Seq > input {
			valid++
		}
		if i.State == events.Running && i.Unhealthy() && slices.Contains(ended, i.ID) {
			ill++
		}
	}
	w := wishOf(d)
	open := max(w.PreserveN-(valid-len(ended)), 0)
	added := min(ill, open)
	c.vacant[d.ID] += added
	if size := max(valid, w.PreserveN); added > 0 && c.vacant[d.ID] > w.most(size) {
		c.find(findHealth, "%s: %d of the %d of %v are missing for their health, at most %d may", l, c.vacant[d.ID], size, d.ID, w.most(size))
	}
}

// fill closes the vacancy that a replacement has filled by coming to run. before and
// after are an event's instance before and after it.
func (c *checker) fill(domain events.DomainID, before, after *events.Instance) {
	if before != nil && after != nil && after.Replacement && before.State < events.Running && after.State >= events.Running && after.Valid() {
		c.vacant[domain] = max(c.vacant[domain]-1, 0)
	}
}

// closeVacancies closes those that are nobody's place any more. It looks at a batch
// that is folded: within one, what goes is still there.
func (c *checker) closeVacancies(batch []logged) {
	for _, l := range batch {
		id, _, _ := l.key.Parts()
		if c.vacant[id] == 0 {
			continue
		}
		d := c.state.Domain(id)
		if d == nil || d.Removed {
			delete(c.vacant, id)
			continue
		}
		run := 0
		for _, i := range c.state.Instances(id) {
			if i.Valid() && i.State >= events.Running {
				run++
			}
		}
		c.vacant[id] = min(c.vacant[id], max(wishOf(d).PreserveN-run, 0))
	}
}
