// Package histories makes up histories for tests: the log of one domain whose leader,
// provisioner and instances live in driven time.
package histories

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Start is when a history begins.
var Start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// History is one. It is driven by one goroutine.
type History struct {
	Domain events.DomainID
	Now    time.Time
	Log    []events.Recorded
	Boot   time.Duration                                  // from a launch to RUNNING
	Fails  func(launch int) bool                          // whether that never comes, but FAILED; nil: none fails
	Lives  func(launch int) time.Duration                 // how long one runs until it is FAILED; 0, nil: for ever
	Read   func([]*events.Instance) engines.Readings      // nil: nothing is read
	Asked  func(engines.Question, []byte) *engines.Answer // nil: nobody answers

	t         testing.TB
	state     *events.State
	evaluator *passes.Evaluator
	due       []report // sorted
	launches  int
	ids       int
	next      time.Time // full pass
	wake      time.Time
}

// report is what a provisioner says at a time.
type report struct {
	at    time.Time
	id    string
	state events.InstanceState
}

// New begins a history with a domain of a config.
func New(t testing.TB, registry *engines.Registry, config events.Config) *History {
	h := &History{
		Domain: events.DomainID{Owner: "alice", Name: "shop"}, Now: Start, next: Start, Boot: 30 * time.Second,
		t: t, state: events.NewState(),
	}
	h.evaluator = passes.NewEvaluator(registry, h.id, func(q engines.Question, body []byte) *engines.Answer { return h.Asked(q, body) })
	h.happens(events.LeaderKey, events.LeaderElected{Process: "p"}, "", "")
	h.happens(h.Domain.Key(), events.DomainAdded{Config: config}, "", "")
	return h
}

func (h *History) id() string {
	h.ids++
	return fmt.Sprintf("%08d", h.ids)
}

// happens adds an event to the log.
func (h *History) happens(key events.Key, ev events.Event, id, causation string) {
	if id == "" {
		id = h.id()
	}
	env := events.Envelope{Key: key, Type: ev.Type(), Seq: h.state.Seq + 1, Time: h.Now, ID: id, CausationID: causation}
	if causation != "" || key.Kind() == events.KindDecision {
		env.Epoch = 1
	}
	body, err := events.Encode(ev)
	if err != nil {
		h.t.Fatal(err)
	}
	events.Apply(h.state, env, events.Decode(env.Type, body))
	h.Log = append(h.Log, events.Recorded{Envelope: env, Event: ev, Body: body})
}

// Reconfigure has somebody reconfigure the domain.
func (h *History) Reconfigure(config events.Config) {
	h.happens(h.Domain.Key(), events.DomainReconfigured{Config: config}, "", "")
	h.decide()
}

// Remove has somebody remove the domain.
func (h *History) Remove() {
	h.happens(h.Domain.Key(), events.DomainRemovalRequested{}, "", "")
	h.decide()
}

// Feels has an instance be of another health.
func (h *History) Feels(id string, health events.Health) {
	h.happens(h.Domain.InstanceKey(id), events.HealthChanged{Health: health}, "", "")
	h.decide()
}

// Reap has the records of instances that have ended go, as the reaper does.
func (h *History) Reap() {
	for _, i := range h.Instances() {
		if i.State.Terminal() {
			h.happens(h.Domain.InstanceKey(i.ID), events.Reaped{}, "", "")
		}
	}
}

// Instances are those that have a record.
func (h *History) Instances() []*events.Instance { return slices.Clone(h.state.Instances(h.Domain)) }

// Live lets time go on.
func (h *History) Live(d time.Duration) {
	const pass = 5 * time.Second
	for until := h.Now.Add(d); ; {
		at := h.next
		if !h.wake.IsZero() && h.wake.Before(at) {
			at = h.wake
		}
		if len(h.due) > 0 && h.due[0].at.Before(at) {
			at = h.due[0].at
		}
		if at.After(until) {
			h.Now = until
			return
		}
		h.Now = at
		for len(h.due) > 0 && !h.due[0].at.After(at) {
			h.reported(h.due[0])
			h.due = h.due[1:]
		}
		if !h.next.After(at) {
			h.next = at.Add(pass)
		}
		if !h.wake.After(at) {
			h.wake = time.Time{}
		}
		h.decide()
	}
}

func (h *History) reported(r report) {
	if i := h.state.Instance(r.id); i != nil && i.State < r.state {
		h.happens(h.Domain.InstanceKey(r.id), events.StateChanged{State: r.state}, "", "")
	}
}

func (h *History) later(after time.Duration, id string, state events.InstanceState) {
	r := report{h.Now.Add(after), id, state}
	n, _ := slices.BinarySearchFunc(h.due, r, func(a, b report) int { return a.at.Compare(b.at) })
	for n < len(h.due) && h.due[n].at.Equal(r.at) {
		n++
	}
	h.due = slices.Insert(h.due, n, r)
}

// decide decides as the leader does.
func (h *History) decide() {
	for again := true; again; {
		domain, decision, instances := h.state.Look(h.Domain)
		if domain == nil {
			return
		}
		s := passes.Scene{Domain: domain, Decision: decision, Instances: instances, Seq: h.state.Seq, Now: h.Now}
		if h.Read != nil {
			s.Readings = h.Read(instances)
		}
		e, err := h.evaluator.Evaluate(&s, nil, false)
		if err != nil {
			h.t.Fatal(err)
		}
		if !e.Wake.IsZero() && (h.wake.IsZero() || e.Wake.Before(h.wake)) {
			h.wake = e.Wake
		}
		for _, d := range e.Drafts {
			h.act(d)
		}
		again = e.Again
	}
}

func (h *History) act(d events.Draft) {
	h.happens(d.Key, d.Event, d.ID, d.CausationID)
	_, id, _ := d.Key.Parts()
	switch d.Event.(type) {
	case events.LaunchRequested:
		h.launches++
		if h.Fails != nil && h.Fails(h.launches) {
			h.later(h.Boot, id, events.Failed)
			return
		}
		h.later(h.Boot, id, events.Running)
		if h.Lives != nil {
			if life := h.Lives(h.launches); life > 0 {
				h.later(h.Boot+life, id, events.Failed)
			}
		}
	case events.TerminateRequested:
		h.later(time.Second, id, events.Terminated)
	default:
	}
}

// History implements projections.History for the domain alone. Events are read back as
// a log gives them.
func (h *History) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	for _, r := range h.Log {
		if r.Seq > q.To.Seq {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		of, _, _ := q.Keys[0].Parts()
		if domain, _, _ := r.Key.Parts(); domain != of {
			continue
		}
		r.Event = events.Decode(r.Type, r.Body)
		if err := each(&r); err != nil {
			return err
		}
	}
	return nil
}

// Config is a config of an engine ("": the default one).
func Config(engine, engineConf string) events.Config {
	c := events.Config{EngineConf: json.RawMessage(engineConf)}
	if engine != "" {
		c.General = json.RawMessage(fmt.Sprintf(`{"engine_class":%q}`, engine))
	}
	return c
}
