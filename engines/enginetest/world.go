// Package enginetest is for tests of engines: a domain that lives through
// decisions, in driven time and with a provisioner that need not behave.
package enginetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// mostActions is how many actions a decision may have.
const mostActions = 998

// Start is when a world begins.
var Start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// World is a domain with an engine.
type World struct {
	Kind      engines.Kind
	Conf      string
	Now       time.Time
	Instances []*events.Instance
	Memory    json.RawMessage
	Readings  engines.Readings

	engine   engines.Engine
	launched int
}

// New makes an empty world.
func New(t rapid.TB, kind engines.Kind, conf string) *World {
	t.Helper()
	w := &World{Kind: kind, Conf: conf, Now: Start}
	w.engine = w.made(t, nil)
	return w
}

func (w *World) made(t rapid.TB, memory json.RawMessage) engines.Engine {
	t.Helper()
	e, err := w.Kind.New(json.RawMessage(w.Conf), memory)
	if err != nil {
		t.Fatalf("%s: %v", w.Conf, err)
	}
	return e
}

// View is what the engine sees now.
func (w *World) View() *engines.View {
	return &engines.View{Now: w.Now, Instances: w.Instances, Memory: w.Memory, Readings: w.Readings, MaxActions: mostActions}
}

// Decide asks the engine, twice, and one that is made anew from the memory, as
// after a failover; they must agree and leave their view alone. What was decided is
// folded.
func (w *World) Decide(t rapid.TB) engines.Decision {
	t.Helper()
	before := copies(w.Instances)
	d := decide(t, w.engine, w.View())
	if diff := cmp.Diff(d, decide(t, w.engine, w.View())); diff != "" {
		t.Fatalf("decides otherwise the second time: %s", diff)
	}
	if diff := cmp.Diff(d, decide(t, w.made(t, w.Memory), w.View())); diff != "" {
		t.Fatalf("decides otherwise when made anew: %s", diff)
	}
	if diff := cmp.Diff(before, w.Instances); diff != "" {
		t.Fatalf("changed its view: %s", diff)
	}
	if d.Reason == "" || d.Memory != nil && !json.Valid(d.Memory) || d.Saw != nil && !json.Valid(d.Saw) {
		t.Fatalf("no good decision: %+v", d)
	}
	w.Memory = d.Memory
	w.fold(d)
	return d
}

// Reconfigure gives the engine another config.
func (w *World) Reconfigure(t rapid.TB, conf string) {
	t.Helper()
	if err := w.engine.Reconfigure(json.RawMessage(conf)); err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	w.Conf = conf
}

func decide(t rapid.TB, e engines.Engine, v *engines.View) engines.Decision {
	t.Helper()
	d, err := e.Decide(v)
	if err != nil {
		t.Fatalf("decide: %v", err)
	}
	return d
}

func (w *World) fold(d engines.Decision) {
	w.Instances = copies(w.Instances)
	for _, i := range w.Instances {
		if slices.Contains(d.Terminations, i.ID) {
			i.State = events.Terminating
		}
	}
	for _, launch := range d.Launches {
		w.add(events.Requesting, launch.ExtraVars)
	}
}

func (w *World) add(state events.InstanceState, vars json.RawMessage) {
	w.Instances = append(w.Instances, &events.Instance{
		ID: fmt.Sprintf("i%04d", w.launched), State: state, Health: events.HealthUnknown, ExtraVars: vars,
	})
	w.launched++
}

// Add puts instances into the world.
func (w *World) Add(n int, state events.InstanceState) {
	for range n {
		w.add(state, nil)
	}
}

func copies(instances []*events.Instance) []*events.Instance {
	var list []*events.Instance
	for _, i := range instances {
		c := *i
		list = append(list, &c)
	}
	return list
}

// Healthy counts the instances that an engine may reckon with.
func (w *World) Healthy() int { return w.View().Healthy() }

// Behave lets the provisioner do all that was asked of it.
func (w *World) Behave() {
	w.Instances = copies(w.Instances)
	for _, i := range w.Instances {
		switch {
		case i.State < events.Running:
			i.State = events.Running
		case i.State == events.Terminating:
			i.State = events.Terminated
		}
	}
}

// Misbehave lets the provisioner report what it likes, in whatever order: a state
// that is lower than the known one, or the same, is dropped, as in the fold.
func (w *World) Misbehave(t *rapid.T) {
	w.Instances = copies(w.Instances)
	for _, i := range w.Instances {
		if reported := rapid.SampledFrom(events.InstanceStates).Draw(t, "reported"); reported > i.State && rapid.Bool().Draw(t, "heard") {
			i.State = reported
		}
		if !i.State.Terminal() && rapid.IntRange(0, 9).Draw(t, "sick") == 0 {
			i.Health = events.HealthMissing
		}
	}
}

// Share reads a load that the running instances share, apart from those that are
// missed (nil: none are).
func (w *World) Share(metric string, load float64, missed func(id string) bool) {
	read := map[string]engines.Reading{}
	var running []string
	for _, i := range w.Instances {
		if i.State == events.Running && !i.Unhealthy() {
			running = append(running, i.ID)
		}
	}
	for _, id := range running {
		if missed == nil || !missed(id) {
			read[id] = engines.Reading{Value: load / float64(len(running)), Time: w.Now}
		}
	}
	w.Readings = engines.Readings{metric: read}
}

// Give reads the same value of each running instance.
func (w *World) Give(metric string, value float64) {
	read := map[string]engines.Reading{}
	for _, i := range w.Instances {
		if i.State == events.Running && !i.Unhealthy() {
			read[i.ID] = engines.Reading{Value: value, Time: w.Now}
		}
	}
	w.Readings = engines.Readings{metric: read}
}

// OfDomain reads a value of the domain itself.
func (w *World) OfDomain(metric string, value float64) {
	w.Readings = engines.Readings{metric: {engines.OfDomain: {Value: value, Time: w.Now}}}
}
