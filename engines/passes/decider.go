package passes

import (
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// mostActions is how many launches and terminations one decision may have: with
// its record and the pass's own message they make an atomic batch of 1,000.
const mostActions = 998

// DryRun begins the reason of a decision that would do something, and does not.
const DryRun = "dry run, so nothing is done: "

// decider decides on domains, each by an engine of its own: for the leader, and for
// whoever wants to know what it would decide (Evaluator).
type decider struct {
	registry *engines.Registry
	general  *sections[engines.General]
	newID    func() string
	draft    func(key events.Key, ev events.Event, guard events.Guard, causation string) events.Draft
	// answer gives what was answered to an engine's question about just what a look
	// shows; nil where nothing was yet.
	answer  func(l *look, q engines.Question) (*engines.Answer, error)
	runners map[events.DomainID]*runner
}

// Scene is what a decision on a domain rests on, beside the domain's engine.
type Scene struct {
	Domain    *events.Domain     // nil: gone
	Decision  *events.Decision   // the last record under the domain's name; nil: none
	Instances []*events.Instance // all that have a record, sorted by id
	Seq       uint64             // the last log sequence that all this shows
	Now       time.Time          // the leader's now (design §2), UTC
	Readings  engines.Readings   // nil: nothing was read
}

// look is a consistent look at one domain. Its slice is reused for the next one.
type look struct {
	domain      *events.Domain // nil: gone
	decision    *events.Decision
	decisionSeq uint64 // guards the next decision record
	unknown     bool   // an aggregate has an event that this version does not know
	always      bool   // a decision goes on record though it is no news
	instances   []*events.Instance
	general     *engines.General
	view        engines.View
}

// see fills in what there is to see in a scene.
func (c *decider) see(l *look, s *Scene) {
	l.domain, l.decision, l.decisionSeq, l.instances = s.Domain, s.Decision, 0, s.Instances
	l.view = engines.View{Seq: s.Seq, Now: s.Now, Instances: s.Instances, Readings: s.Readings, MaxActions: mostActions}
	if l.decision != nil {
		l.decisionSeq = l.decision.Seq
		if l.domain != nil && l.decision.DomainSeq != l.domain.AddedSeq {
			l.decision = nil // of an earlier life of the name
		}
	}
	if l.decision != nil {
		l.view.Memory = l.decision.Memory
	}
	if l.domain != nil {
		l.general = c.general.of(l.domain.Config.General)
		l.view.Domain, l.view.Policy = l.domain.ID, l.general.TerminationPolicy
		l.view.Seed = seed(l.domain.ID, s.Seq)
	}
}

// seed is a number that differs between domains and between looks, and is the
// same in every replay: FNV-1a over both.
func seed(id events.DomainID, seq uint64) uint32 {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for _, s := range [...]string{id.Owner, "/", id.Name} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * prime
		}
	}
	for ; seq > 0; seq >>= 8 {
		h = (h ^ uint32(seq&0xFF)) * prime
	}
	return h
}

// runner gives the domain's engine, a new one for each life of the name.
func (c *decider) runner(d *events.Domain) *runner {
	r := c.runners[d.ID]
	if r == nil || r.addedSeq != d.AddedSeq {
		r = &runner{addedSeq: d.AddedSeq}
		c.runners[d.ID] = r
	}
	return r
}

// evaluate decides on one domain: what is to be appended, if anything.
func (c *decider) evaluate(l *look, r *runner) (*unit, error) {
	if l.domain.Removed {
		return c.drain(l), nil
	}
	if err := r.prepare(c.registry, l); err != nil {
		return nil, err
	}
	if r.question.Subject != "" {
		l.view.Spared = spare(l, 0).ids
		answer, err := c.answer(l, r.question)
		if answer == nil || err != nil {
			return nil, err
		}
		l.view.Answer = answer
	}
	d, s, err := propose(l, r)
	if err != nil {
		return nil, err
	}
	return c.unitOf(l, r, d, s), nil
}

// unitOf turns a decision into drafts: its record first, then its actions, the
// first of them guarded by the domain's subject. It is nil where there is
// nothing to record.
func (c *decider) unitOf(l *look, r *runner, d engines.Decision, s spared) *unit {
	id := l.domain.ID
	due, held := holdBack(l, d.Launches)
	a := admit(l, &s, &d, due)
	reason := d.Reason + s.reason()
	if r.refusedSeq != 0 {
		reason += "; the engine refused the latest config and goes on with the one before"
	}
	wake := s.until
	if held.count > 0 {
		reason += held.reason()
		wake = sooner(wake, held.until)
	}
	if a.waiting > 0 {
		reason += fmt.Sprintf("; %d unhealthy wait for the launches in their place", a.waiting)
	}
	tried := a.rehearse(l.general.DryRun)
	if tried != nil {
		reason = DryRun + reason
	}
	if len(a.launches)+len(a.terminations) == 0 && !l.always && !news(l.decision, r.refusedSeq, reason, &d) {
		if wake.IsZero() {
			return nil
		}
		return &unit{domain: id, wake: wake}
	}
	u := &unit{domain: id, wake: wake, again: a.cut}
	made := events.DecisionMade{
		DomainSeq: l.domain.AddedSeq, ConfigSeq: r.configSeq, RefusedSeq: r.refusedSeq, Engine: r.kind, InputSeq: l.view.Seq,
		Now: l.view.Now, Seed: l.view.Seed, Reason: reason, EngineState: d.State, Memory: d.Memory,
		Terminations: a.terminations, Saw: saw(l, d, len(s.ids)+a.waiting, tried),
	}
	record := c.draft(id.DecisionKey(), nil, events.Guard{Key: id.DecisionKey(), Seq: l.decisionSeq}, "")
	drafts := make([]events.Draft, 0, 1+len(a.launches)+len(a.terminations))
	drafts = append(drafts, record)
	for n, launch := range a.launches {
		instance := c.newID()
		made.Launches = append(made.Launches, instance)
		key := id.InstanceKey(instance)
		drafts = append(drafts, c.draft(key, events.LaunchRequested{
			LaunchID: c.newID(), DeployableType: launch.DeployableType, Site: launch.Site, Allocation: launch.Allocation,
			ExtraVars: launch.ExtraVars, Attempt: launch.attempt, Replaces: nth(a.replaces, n),
		}, events.Guard{Key: key}, record.ID))
	}
	for _, instance := range a.terminations {
		drafts = append(drafts, c.draft(id.InstanceKey(instance), events.TerminateRequested{}, events.Guard{}, record.ID))
	}
	if len(drafts) > 1 {
		drafts[1].Guard = events.Guard{Key: id.Key(), Seq: l.domain.Seq}
	}
	drafts[0].Event = made
	u.drafts, u.launched, u.terminated, u.changed = drafts, len(a.launches), len(a.terminations), 1
	return u
}

// sooner is the earlier of two times; zero stands for none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// nth is an element of a list; "" behind its end.
func nth(list []string, n int) string {
	if n < len(list) {
		return list[n]
	}
	return ""
}
