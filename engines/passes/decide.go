package passes

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// mostRounds bounds how often one pass decides again on what it could not finish
// with, so that a domain which others keep writing to cannot hold up the rest;
// what is left then waits for the next event or pass.
const mostRounds = 100

// look fills in what there is to see of a domain, at a time of the leader.
func (t *Term) look(id events.DomainID, now time.Time, l *look) {
	l.instances = l.instances[:0]
	s := Scene{Now: now}
	var folded time.Time
	t.Replica.View(func(state *events.State) {
		var instances []*events.Instance
		s.Domain, s.Decision, instances = state.Look(id)
		l.instances = append(l.instances, instances...)
		l.unknown = state.HasUnknown()
		s.Seq, folded = state.Seq, state.Time
	})
	if now.Before(folded) {
		s.Now = folded
	}
	s.Instances, s.Readings = l.instances, t.inputs.readingsOf(id)
	t.decider.see(l, &s)
}

// decide runs the decide pass over some domains (nil: all), and again over
// those that it could not finish with, and commits what it decides.
func (t *Term) decide(ctx context.Context, domains map[events.DomainID]bool) (Result, error) {
	result := Result{Pass: PassDecide}
	if err := t.treat(ctx); err != nil { // so that nobody is replaced who says that it is well
		return result, err
	}
	t.passTime.Store(t.Clock().UnixNano())
	defer t.passTime.Store(0)
	ids := t.due(domains)
	result.Domains = len(ids)
	for round := 0; len(ids) > 0 && round < mostRounds; round++ {
		// A domain is decided on again only when the own last append is folded, and with
		// the inputs that it is known to want.
		if err := t.catchUp(ctx); err != nil {
			return result, err
		}
		clear(t.again)
		if err := t.decideOnce(ctx, ids, &result); err != nil {
			return result, err
		}
		ids = ids[:0]
		for id := range t.again {
			ids = append(ids, id)
		}
	}
	result.Seq = max(t.lastAppend.Load(), t.Replica.Applied())
	return result, nil
}

func (t *Term) due(domains map[events.DomainID]bool) []events.DomainID {
	var ids []events.DomainID
	if domains != nil {
		for id := range domains {
			ids = append(ids, id)
		}
		return ids
	}
	t.Replica.View(func(s *events.State) {
		for d := range s.Domains() {
			ids = append(ids, d.ID)
		}
	})
	return ids
}

// decideOnce evaluates the domains on a goroutine of their own and commits, in
// full batches, what comes of it. An engine that is too slow is left behind
// with its domain, and the others go on.
func (t *Term) decideOnce(ctx context.Context, ids []events.DomainID, result *Result) error {
	packer := &packer{term: t, pass: PassDecide, result: result}
	for from := 0; from < len(ids); {
		e := newEvaluation(t, ids[from:])
		go e.run()
		done, err := e.collect(ctx, packer)
		if err != nil {
			return err
		}
		from += done
	}
	return packer.flush(ctx)
}

func (t *Term) draft(key events.Key, ev events.Event, guard events.Guard, causation string) events.Draft {
	return events.Draft{
		ID: t.NewID(), Key: key, Event: ev, Guard: guard, Actor: t.actor(), CausationID: causation, Epoch: t.epoch,
	}
}
