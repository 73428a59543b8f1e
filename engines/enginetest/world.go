// Package enginetest is for tests of engines: a domain that lives through decisions,
// in driven time, with provisioners that fail, delay, repeat and reorder what they
// report until they are told to behave. What happens is folded as the service does
// it, and launches are held back as the leader does it.
package enginetest

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Many is how many actions a decision may have in the service.
const Many = 998

// Start is when a world begins.
var Start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var domain = events.DomainID{Owner: "o", Name: "d"}

// World is one domain with an engine, and all that it is told. It is driven by one
// goroutine.
type World struct {
	Kind       engines.Kind
	Conf       string
	Now        time.Time
	Memory     json.RawMessage // of the last decision
	Readings   engines.Readings
	MaxActions int
	Down       map[string]bool // sites whose launches all fail
	Incurable  bool            // what is unhealthy is never well again

	engine engines.Engine // of the whole life
	reason string         // of the last decision
	state  *events.State
	ids    int
}

// New makes a world with an empty domain of a config.
func New(t rapid.TB, kind engines.Kind, conf string) *World {
	t.Helper()
	w := &World{Kind: kind, Conf: conf, Now: Start, MaxActions: Many, Down: map[string]bool{}, state: events.NewState()}
	w.engine = w.made(t)
	w.happens(domain.Key(), events.DomainAdded{})
	return w
}

// made is an engine of the config and the memory of now.
func (w *World) made(t rapid.TB) engines.Engine {
	t.Helper()
	return Made(t, w.Kind, w.Conf, w.Memory)
}

// Reconfigure gives the domain another config.
func (w *World) Reconfigure(t rapid.TB, conf string) {
	t.Helper()
	if err := w.engine.Reconfigure(json.RawMessage(conf)); err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	w.Conf = conf
}

// happens folds one event.
func (w *World) happens(key events.Key, ev events.Event) {
	events.Apply(w.state, events.Envelope{Key: key, Type: ev.Type(), Seq: w.state.Seq + 1, Time: w.Now}, ev)
}

// Instances are all that have a record. They are not to be changed.
func (w *World) Instances() []*events.Instance { return slices.Clone(w.state.Instances(domain)) }

// View is what the engine sees now.
func (w *World) View() *engines.View {
	return &engines.View{
		Domain: domain, Seq: w.state.Seq, Now: w.Now, Instances: w.Instances(), Memory: slices.Clone(w.Memory),
		Readings: w.Readings, MaxActions: w.MaxActions,
	}
}

// Healthy counts the instances that an engine may reckon with.
func (w *World) Healthy() int { return w.View().Healthy() }

// Count counts the instances that are neither terminating nor gone, by site, and
// how many of them run.
func (w *World) Count() (bySite map[string]int, all, running int) {
	bySite = map[string]int{}
	for _, i := range w.Instances() {
		if i.Valid() {
			bySite[i.Site]++
			all++
		}
	}
	return bySite, all, len(w.running())
}

// running are the ids of those that run and are well.
func (w *World) running() (ids []string) {
	for _, i := range w.Instances() {
		if i.State == events.Running && !i.Unhealthy() {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// Step is what came of one decision.
type Step struct {
	engines.Decision
	Before []*events.Instance
	Held   int  // launches that the leader held back
	News   bool // it would go on record, though it may do nothing
}

// Actions counts the launches and terminations.
func (s *Step) Actions() int { return len(s.Launches) + len(s.Terminations) }

// Decide asks the engine, twice, and one that is made anew from the memory, as after
// a failover; they must agree and leave their view alone. What is decided is done.
func (w *World) Decide(t rapid.TB) Step {
	t.Helper()
	view, before := w.View(), copies(w.Instances())
	d := Decided(t, w.engine, view)
	for who, e := range map[string]engines.Engine{"the same engine": w.engine, "a new one with the last memory": w.made(t)} {
		if again := Decided(t, e, w.View()); !reflect.DeepEqual(d, again) { // cmp is slow where all is equal
			t.Fatalf("%s decides otherwise: %s", who, cmp.Diff(d, again))
		}
	}
	if after := copies(view.Instances); !reflect.DeepEqual(before, after) || string(view.Memory) != string(w.Memory) {
		t.Fatalf("changed its view: %s", cmp.Diff(before, after))
	}
	if d.Reason == "" || !isJSON(d.Memory) || !isJSON(d.Saw) || len(d.Memory) > events.MaxMemoryBytes {
		t.Fatalf("no good decision: %+v", d)
	}
	s := Step{Decision: d, Before: view.Instances}
	if s.Actions() > w.MaxActions {
		t.Fatalf("%d actions, at most %d are allowed", s.Actions(), w.MaxActions)
	}
	s.News = s.Actions() > 0 || string(w.Memory) != string(d.Memory) || words(w.reason) != words(d.Reason)
	w.Memory, w.reason = d.Memory, d.Reason
	for _, launch := range d.Launches {
		until, attempt := engines.BackOff(s.Before, launch.Site)
		if until.After(w.Now) {
			s.Held++
			continue
		}
		w.launch(launch, attempt)
	}
	for _, id := range d.Terminations {
		w.happens(domain.InstanceKey(id), events.TerminateRequested{})
	}
	return s
}

// isJSON says whether a document, where there is one, is readable.
func isJSON(document json.RawMessage) bool { return document == nil || json.Valid(document) }

func copies(instances []*events.Instance) (list []events.Instance) {
	for _, i := range instances {
		list = append(list, *i)
	}
	return list
}

// words is a reason without its figures.
func words(reason string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789.:", r) {
			return -1
		}
		return r
	}, reason)
}

func (w *World) launch(l engines.Launch, attempt int) (id string) {
	id = ID(w.ids)
	w.ids++
	w.happens(domain.InstanceKey(id), events.LaunchRequested{
		LaunchID: "l" + id, DeployableType: l.DeployableType, Site: l.Site, Allocation: l.Allocation, ExtraVars: l.ExtraVars, Attempt: attempt,
	})
	return id
}

// Add puts instances into the world, with the ids of ID
func (w *World) Add(n int, state events.InstanceState) {
	for range n {
		w.Place("", state)
	}
}

// Place puts one instance at a site into the world.
func (w *World) Place(site string, state events.InstanceState) {
	w.report(w.launch(engines.Launch{Site: site}, 0), state)
}

// Feels has an instance be of another health.
func (w *World) Feels(id string, health events.Health) {
	w.happens(domain.InstanceKey(id), events.HealthChanged{Health: health})
}

func (w *World) report(id string, state events.InstanceState) {
	w.happens(domain.InstanceKey(id), events.StateChanged{State: state})
}

// Misbehave lets some of what may go wrong happen, and some of what should.
func (w *World) Misbehave(t *rapid.T) {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "what goes wrong"), 1)) //nolint:gosec // to be the same again
	for _, i := range w.Instances() {
		switch random.IntN(6) {
		case 0:
			w.advance(i)
		case 1: // repeats something old, or says what is far ahead
			w.report(i.ID, events.InstanceStates[random.IntN(len(events.InstanceStates))])
		case 2:
			if i.State < events.Running {
				w.report(i.ID, []events.InstanceState{events.Failed, events.Rejected, events.Terminated}[random.IntN(3)])
			}
		case 3:
			healths := []events.Health{events.HealthOK, events.HealthMissing, events.HealthOutOfContact, events.HealthMonitorError}
			if i.State == events.Running && (!w.Incurable || !i.Unhealthy()) {
				w.Feels(i.ID, healths[random.IntN(len(healths))])
			}
		}
	}
}

// Behave lets each instance get on by one report, as it should, but for launches at
// a site that is down.
func (w *World) Behave() {
	for _, i := range w.Instances() {
		w.advance(i)
	}
}

// Settle lets the provisioners do all that was asked of them.
func (w *World) Settle() {
	w.Behave()
	w.Behave()
}

func (w *World) advance(i *events.Instance) {
	switch {
	case i.State.Terminal() && w.Now.Sub(i.StateTime) > time.Minute: // far sooner than the reaper
		w.happens(domain.InstanceKey(i.ID), events.Reaped{})
	case i.State >= events.Running && i.State < events.Terminating, i.State.Terminal():
	case i.State == events.Terminating:
		w.report(i.ID, events.Terminated)
	case w.Down[i.Site]:
		w.report(i.ID, events.Failed)
	case i.State < events.Pending:
		w.report(i.ID, events.Pending)
	default:
		w.report(i.ID, events.Running)
	}
}

// Share reads a load that the running instances share, apart from those that are
// missed (nil: none are).
func (w *World) Share(metric string, load float64, missed func(id string) bool) {
	running := w.running()
	w.Give(metric, load/float64(len(running)))
	for _, id := range running {
		if missed != nil && missed(id) {
			delete(w.Readings[metric], id)
		}
	}
}

// Give reads the same value of each running instance.
func (w *World) Give(metric string, value float64) {
	read := map[string]engines.Reading{}
	for _, id := range w.running() {
		read[id] = engines.Reading{Value: value, Time: w.Now}
	}
	w.Readings = engines.Readings{metric: read}
}

// OfDomain reads a value of the domain itself.
func (w *World) OfDomain(metric string, value float64) {
	w.Readings = engines.Readings{metric: {engines.OfDomain: {Value: value, Time: w.Now}}}
}
