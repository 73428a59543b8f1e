package passes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// mostActions is how many launches and terminations one decision may have: with
// its record and the pass's own message they make an atomic batch of 1,000.
const mostActions = 998

// mostRounds bounds how often one pass decides again on what it could not finish
// with, so that a domain which others keep writing to cannot hold up the rest;
// what is left then waits for the next event or pass.
const mostRounds = 100

// look is a consistent look at one domain. Its slice is reused for the next one.
type look struct {
	domain      *events.Domain // nil: gone
	decision    *events.Decision
	decisionSeq uint64 // guards the next decision record
	unknown     bool   // an aggregate has an event that this version does not know
	instances   []*events.Instance
	general     *engines.General
	view        engines.View
}

// look fills in what there is to see of a domain, at a time of the leader.
func (t *Term) look(id events.DomainID, now time.Time, l *look) {
	l.instances = l.instances[:0]
	var folded time.Time
	t.Replica.View(func(s *events.State) {
		var instances []*events.Instance
		l.domain, l.decision, instances = s.Look(id)
		l.instances = append(l.instances, instances...)
		l.unknown = s.HasUnknown()
		l.view.Seq, folded = s.Seq, s.Time
	})
	l.decisionSeq = 0
	l.view.Memory = nil
	if l.decision != nil {
		l.decisionSeq = l.decision.Seq
		if l.domain != nil && l.decision.DomainSeq != l.domain.AddedSeq {
			l.decision = nil // of an earlier life of the name
		}
	}
	if l.decision != nil {
		l.view.Memory = l.decision.Memory
	}
	l.view.Domain, l.view.Instances, l.view.MaxActions = id, l.instances, mostActions
	l.view.Now = now
	if now.Before(folded) {
		l.view.Now = folded
	}
	l.view.Seed = seed(id, l.view.Seq)
	l.view.Answer = nil
	if l.domain != nil {
		l.general = t.general.of(l.domain.Config.General)
		l.view.Policy, l.view.Readings = l.general.TerminationPolicy, t.inputs.readingsOf(id)
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

// evaluate decides on one domain: what is to be appended, if anything.
func (t *Term) evaluate(id events.DomainID, l *look, r *runner) (*unit, error) {
	if l.domain.Removed {
		return t.drain(l), nil
	}
	if err := r.prepare(t.Engines, l); err != nil {
		return nil, err
	}
	if r.question.Subject != "" {
		l.view.Spared = spare(l, 0).ids
		answer, err := t.inputs.answer(l, r.question)
		if answer == nil || err != nil {
			return nil, err
		}
		l.view.Answer = answer
	}
	d, s, err := t.propose(l, r)
	if err != nil {
		return nil, err
	}
	return t.unitOf(id, l, r, d, s), nil
}

// unitOf turns a decision into drafts: its record first, then its actions, the
// first of them guarded by the domain's subject. It is nil where there is
// nothing to record.
func (t *Term) unitOf(id events.DomainID, l *look, r *runner, d engines.Decision, s spared) *unit {
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
		reason = "dry run, so nothing is done: " + reason
	}
	if len(a.launches)+len(a.terminations) == 0 && !news(l.decision, r.refusedSeq, reason, &d) {
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
	record := t.draft(id.DecisionKey(), nil, events.Guard{Key: id.DecisionKey(), Seq: l.decisionSeq}, "")
	drafts := make([]events.Draft, 0, 1+len(a.launches)+len(a.terminations))
	drafts = append(drafts, record)
	for n, launch := range a.launches {
		instance := t.NewID()
		made.Launches = append(made.Launches, instance)
		key := id.InstanceKey(instance)
		drafts = append(drafts, t.draft(key, events.LaunchRequested{
			LaunchID: t.NewID(), DeployableType: launch.DeployableType, Site: launch.Site, Allocation: launch.Allocation,
			ExtraVars: launch.ExtraVars, Attempt: launch.attempt, Replaces: nth(a.replaces, n),
		}, events.Guard{Key: key}, record.ID))
	}
	for _, instance := range a.terminations {
		drafts = append(drafts, t.draft(id.InstanceKey(instance), events.TerminateRequested{}, events.Guard{}, record.ID))
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

func (t *Term) draft(key events.Key, ev events.Event, guard events.Guard, causation string) events.Draft {
	return events.Draft{
		ID: t.NewID(), Key: key, Event: ev, Guard: guard, Actor: t.actor(), CausationID: causation, Epoch: t.epoch,
	}
}

// mostReadings is how many readings a record keeps: a record has to fit a message.
const mostReadings = 4000

// saw is the record of what was decided on; so many unhealthy ones wait for their
// replacement, and that was only tried.
func saw(l *look, d engines.Decision, spared int, tried *rehearsal) json.RawMessage {
	counts := map[events.InstanceState]int{}
	unhealthy := 0
	for _, i := range l.instances {
		counts[i.State]++
		if i.Unhealthy() {
			unhealthy++
		}
	}
	readings, leftOut := l.view.Readings, l.view.Readings.Len()
	if leftOut > mostReadings {
		readings = nil
	} else {
		leftOut = 0
	}
	data, err := json.Marshal(struct {
		Counts    map[events.InstanceState]int `json:"counts"`
		Unhealthy int                          `json:"unhealthy,omitempty"`
		Spared    int                          `json:"spared,omitempty"`
		Target    int                          `json:"target"`
		Engine    json.RawMessage              `json:"engine,omitempty"`
		Readings  engines.Readings             `json:"readings,omitempty"`
		LeftOut   int                          `json:"readings_left_out,omitempty"`
		DryRun    *rehearsal                   `json:"dry_run,omitempty"`
	}{counts, unhealthy, spared, d.Target, d.Saw, readings, leftOut, tried})
	if err != nil { // check has seen that d.Saw is JSON
		panic(errors.Join(errors.New("passes: encode what a decision saw"), err))
	}
	return data
}
