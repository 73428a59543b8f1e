package passes

import (
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// drain is the next step of a removed domain: terminate what is left; when all
// of it is gone, reap the records and let the domain vanish. It is nil while
// there is only to wait.
func (c *decider) drain(l *look) *unit {
	var open, gone []*events.Instance
	for _, i := range l.instances {
		switch {
		case i.Valid():
			open = append(open, i)
		case i.State.Terminal():
			gone = append(gone, i)
		}
	}
	switch {
	case len(open) > 0:
		return c.drainTerminate(l, open)
	case len(gone) == len(l.instances):
		return c.vanish(l)
	}
	return nil
}

func (c *decider) drainTerminate(l *look, open []*events.Instance) *unit {
	id := l.domain.ID
	u := &unit{domain: id, again: len(open) > mostActions, changed: 1}
	open = open[:min(len(open), mostActions)]
	record := c.draft(id.DecisionKey(), nil, events.Guard{Key: id.DecisionKey(), Seq: l.decisionSeq}, "")
	made := events.DecisionMade{
		DomainSeq: l.domain.AddedSeq, ConfigSeq: l.domain.ConfigSeq, InputSeq: l.view.Seq, Now: l.view.Now, Seed: l.view.Seed,
		Reason:      fmt.Sprintf("the domain is removed: terminate its %d instances", len(open)),
		EngineState: events.EnginePending, Memory: l.view.Memory, Saw: saw(l, engines.Decision{}, 0, nil),
	}
	u.drafts = append(u.drafts, record)
	for _, i := range open {
		made.Terminations = append(made.Terminations, i.ID)
		u.drafts = append(u.drafts, c.draft(id.InstanceKey(i.ID), events.TerminateRequested{}, events.Guard{}, record.ID))
	}
	u.drafts[0].Event = made
	u.drafts[1].Guard = events.Guard{Key: id.Key(), Seq: l.domain.Seq}
	u.terminated = len(open)
	return u
}

// vanish reaps what a drained domain has left, whatever its age, and removes
// the domain once that is all.
func (c *decider) vanish(l *look) *unit {
	id := l.domain.ID
	u := &unit{domain: id}
	most := min(len(l.instances), mostActions)
	for _, i := range l.instances[:most] {
		u.drafts = append(u.drafts, c.reaped(i))
	}
	if most < len(l.instances) {
		u.again = true
	} else {
		u.drafts = append(u.drafts, c.draft(id.Key(), events.DomainRemoved{}, events.Guard{Key: id.Key(), Seq: l.domain.Seq}, ""))
	}
	u.changed = len(u.drafts)
	return u
}

func (c *decider) reaped(i *events.Instance) events.Draft {
	key := i.Domain.InstanceKey(i.ID)
	return c.draft(key, events.Reaped{}, events.Guard{Key: key, Seq: i.Seq}, "")
}
