// Package world is, for the tests of engines, a domain with provisioners that fail,
// delay, repeat and reorder what they report, until they are told to behave. What
// happens is folded as the service does it, and launches are held back as the
// leader does it.
package world

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Many is how many actions a decision may have in the service.
const Many = 998

// World is one domain and all that it is told. It is driven by one goroutine.
type World struct {
	Now      time.Time
	Readings engines.Readings
	Down     map[string]bool // sites whose launches all fail

	kind   engines.Kind
	conf   json.RawMessage
	engine engines.Engine // of the whole life
	memory json.RawMessage
	reason string
	state  *events.State
	random *rand.Rand
	ids    int
}

var domain = events.DomainID{Owner: "o", Name: "d"}

// New makes a world with a domain of a config. The seed draws what goes wrong.
func New(kind engines.Kind, conf string, seed uint64) (*World, error) {
	engine, err := kind.New(json.RawMessage(conf), nil)
	w := &World{
		Now: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Down: map[string]bool{}, kind: kind, conf: json.RawMessage(conf),
		engine: engine, state: events.NewState(), random: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // to be the same again
	}
	w.happens(domain.Key(), events.DomainAdded{})
	return w, err
}

// Reconfigure gives the domain another config.
func (w *World) Reconfigure(conf string) error {
	w.conf = json.RawMessage(conf)
	return w.engine.Reconfigure(w.conf)
}

// happens folds one event.
func (w *World) happens(key events.Key, ev events.Event) {
	events.Apply(w.state, events.Envelope{Key: key, Type: ev.Type(), Seq: w.state.Seq + 1, Time: w.Now}, ev)
}

// Instances are all that have a record.
func (w *World) Instances() []*events.Instance { return slices.Clone(w.state.Instances(domain)) }

// Count counts the instances that are neither terminating nor gone, by site, and
// how many of them run.
func (w *World) Count() (bySite map[string]int, all, running int) {
	bySite = map[string]int{}
	for _, i := range w.state.Instances(domain) {
		if i.Valid() {
			bySite[i.Site]++
			all++
			if i.State == events.Running && !i.Unhealthy() {
				running++
			}
		}
	}
	return bySite, all, running
}

// Step is what came of one decision.
type Step struct {
	Decision engines.Decision
	Before   []*events.Instance
	Held     int  // launches that the leader held back
	News     bool // it would go on record, though it may do nothing
}

// Decide has the engine decide, and a new one that has its memory alone, which must
// agree; and does what they decide.
func (w *World) Decide() (Step, error) {
	s := Step{Before: w.Instances()}
	view := func() *engines.View {
		return &engines.View{
			Domain: domain, Seq: w.state.Seq, Now: w.Now, Instances: slices.Clone(s.Before), Memory: slices.Clone(w.memory),
			Readings: w.Readings, MaxActions: Many,
		}
	}
	var err error
	if s.Decision, err = w.engine.Decide(view()); err != nil {
		return s, err
	}
	fresh, err := w.kind.New(w.conf, w.memory)
	if err != nil {
		return s, err
	}
	if other, err := fresh.Decide(view()); err != nil || !reflect.DeepEqual(s.Decision, other) {
		return s, fmt.Errorf("a new engine with the last memory decides %+v (%w), not %+v", other, err, s.Decision)
	}
	d := s.Decision
	s.News = len(d.Launches)+len(d.Terminations) > 0 || string(w.memory) != string(d.Memory) || words(w.reason) != words(d.Reason)
	w.memory, w.reason = d.Memory, d.Reason
	for _, launch := range d.Launches {
		until, attempt := engines.BackOff(s.Before, launch.Site)
		if until.After(w.Now) {
			s.Held++
			continue
		}
		w.ids++
		w.happens(domain.InstanceKey(fmt.Sprintf("i%06d", w.ids)), events.LaunchRequested{
			LaunchID: fmt.Sprint("l", w.ids), DeployableType: launch.DeployableType, Site: launch.Site, Allocation: launch.Allocation,
			ExtraVars: launch.ExtraVars, Attempt: attempt,
		})
	}
	for _, id := range d.Terminations {
		w.happens(domain.InstanceKey(id), events.TerminateRequested{})
	}
	return s, nil
}

// words is a reason without its figures.
func words(reason string) string {
	return string(slices.DeleteFunc([]rune(reason), func(r rune) bool { return r >= '0' && r <= '9' || r == '.' || r == ':' }))
}

// Misbehave lets some of what may go wrong happen, and some of what should.
func (w *World) Misbehave() {
	for _, i := range w.Instances() {
		switch w.random.IntN(6) {
		case 0:
			w.advance(i)
		case 1: // repeats something old, or says what is far ahead
			w.report(i, events.InstanceStates[w.random.IntN(len(events.InstanceStates))])
		case 2:
			if i.State < events.Running {
				w.report(i, []events.InstanceState{events.Failed, events.Rejected, events.Terminated}[w.random.IntN(3)])
			}
		case 3:
			healths := []events.Health{events.HealthOK, events.HealthMissing, events.HealthOutOfContact, events.HealthMonitorError}
			if i.State == events.Running {
				w.happens(domain.InstanceKey(i.ID), events.HealthChanged{Health: healths[w.random.IntN(len(healths))]})
			}
		}
	}
}

// Behave lets each instance get on as it should, but for launches at a site that is
// down.
func (w *World) Behave() {
	for _, i := range w.Instances() {
		w.advance(i)
	}
}

func (w *World) advance(i *events.Instance) {
	switch {
	case i.State.Terminal() && w.Now.Sub(i.StateTime) > time.Minute: // far sooner than the reaper
		w.happens(domain.InstanceKey(i.ID), events.Reaped{})
	case i.State >= events.Running && i.State < events.Terminating, i.State.Terminal():
	case i.State == events.Terminating:
		w.report(i, events.Terminated)
	case w.Down[i.Site]:
		w.report(i, events.Failed)
	case i.State < events.Pending:
		w.report(i, events.Pending)
	default:
		w.report(i, events.Running)
	}
}

func (w *World) report(i *events.Instance, state events.InstanceState) {
	w.happens(domain.InstanceKey(i.ID), events.StateChanged{State: state})
}
