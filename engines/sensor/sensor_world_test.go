package sensor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// world is a domain with its engine, the log's part played by hand.
type world struct {
	t       *rapid.T
	conf    string
	min     int
	max     int
	cool    time.Duration
	engine  engines.Engine
	view    engines.View
	target  int       // of the last decision; -1: there was none
	scaled  time.Time // when the target last changed
	targets []int
}

// newWorld draws the limits and steps of a domain; more are further keys.
func newWorld(t *rapid.T, more string) *world {
	w := &world{t: t, target: -1}
	w.min = rapid.IntRange(0, 4).Draw(t, "minimum")
	w.max = w.min + rapid.IntRange(0, 6).Draw(t, "room")
	cooldown := rapid.IntRange(0, 300).Draw(t, "cooldown")
	w.cool = time.Duration(cooldown) * time.Second
	w.conf = scaling(fmt.Sprintf(`"minimum_vms":%d,"maximum_vms":%d,"cooldown_period":%d,"scale_up_n_vms":%d,"scale_down_n_vms":%d%s`,
		w.min, w.max, cooldown, rapid.IntRange(1, 4).Draw(t, "up by"), rapid.SampledFrom([]int{-3, -1, 1, 2, 4}).Draw(t, "down by"), more))
	w.engine = engine(t, w.conf)
	w.view = engines.View{
		Now: noon, Instances: size(rapid.IntRange(0, 12).Draw(t, "instances")),
		MaxActions: rapid.SampledFrom([]int{1, 3, many}).Draw(t, "most"),
	}
	return w
}

// decide decides, checks what must hold of every decision, and folds it.
func (w *world) decide() engines.Decision {
	d := decide(w.t, w.engine, &w.view)
	for who, again := range map[string]engines.Decision{
		"the same engine": decide(w.t, w.engine, &w.view), "the next leader": decide(w.t, engine(w.t, w.conf), &w.view),
	} {
		if !reflect.DeepEqual(d, again) { // cmp is slow where all is equal
			w.t.Fatalf("%s decides otherwise: %s", who, cmp.Diff(d, again))
		}
	}
	if d.Target < w.min || d.Target > w.max {
		w.t.Fatalf("target %d, but the limits are %d and %d", d.Target, w.min, w.max)
	}
	if len(d.Launches)+len(d.Terminations) > w.view.MaxActions {
		w.t.Fatalf("%d launches and %d terminations, at most %d actions are allowed", len(d.Launches), len(d.Terminations), w.view.MaxActions)
	}
	switch {
	case w.target < 0:
	case d.Target == w.target && !bytes.Equal(d.Memory, w.view.Memory):
		w.t.Fatalf("the memory went from %s to %s, and nothing happened", w.view.Memory, d.Memory)
	case d.Target != w.target:
		if w.view.Now.Sub(w.scaled) < w.cool && !w.scaled.IsZero() {
			w.t.Fatalf("scaled at %s and again at %s, with a cool-down of %s", w.scaled, w.view.Now, w.cool)
		}
		w.scaled = w.view.Now
	}
	w.target, w.view.Memory = d.Target, d.Memory
	w.targets = append(w.targets, d.Target)
	fold(&w.view, d)
	if healthy := w.view.Healthy(); len(d.Launches)+len(d.Terminations) < w.view.MaxActions && healthy != d.Target {
		w.t.Fatalf("%d healthy instances after a decision for %d: %s", healthy, d.Target, d.Reason)
	}
	return d
}

// fold is what a decision comes to in the log.
func fold(v *engines.View, d engines.Decision) {
	for _, i := range v.Instances {
		if slices.Contains(d.Terminations, i.ID) {
			i.State = max(i.State, events.Terminating)
		}
	}
	for range d.Launches {
		v.Instances = append(v.Instances, &events.Instance{ID: fmt.Sprintf("i%04d", len(v.Instances)), State: events.Requesting, Health: events.HealthUnknown})
	}
}

// behave is a provisioner that does what it was asked for.
func (w *world) behave() {
	for _, i := range w.view.Instances {
		switch {
		case i.State < events.Running:
			i.State, i.Health = events.Running, events.HealthOK
		case i.State == events.Terminating:
			i.State = events.Terminated
		}
	}
}

// misbehave is a provisioner whose reports fail, are late, come twice and in any
// order; the fold drops a lower state.
func (w *world) misbehave() {
	healths := []events.Health{events.HealthUnknown, events.HealthOK, events.HealthOutOfContact, events.HealthMissing, events.HealthProcessError}
	for range rapid.IntRange(0, 3).Draw(w.t, "reports") {
		if len(w.view.Instances) > 0 {
			i := rapid.SampledFrom(w.view.Instances).Draw(w.t, "instance")
			i.State = max(i.State, rapid.SampledFrom(events.InstanceStates).Draw(w.t, "state"))
			i.Health = rapid.SampledFrom(healths).Draw(w.t, "health")
		}
	}
}

// load lets some time pass and gives each instance a fresh reading.
func (w *world) load(value func() float64) {
	w.view.Now = w.view.Now.Add(time.Duration(rapid.IntRange(0, 200).Draw(w.t, "seconds")) * time.Second)
	readings := map[string]engines.Reading{}
	for _, i := range w.view.Instances {
		readings[i.ID] = engines.Reading{Value: value(), Time: w.view.Now}
	}
	w.view.Readings = engines.Readings{"load": readings}
}

// TestEngine_AdversarialProvisioner: whatever the load and the reports are, the
// limits and the cool-down hold and the next leader decides alike; once the
// provisioner behaves and the load is in order, what is wanted is there.
func TestEngine_AdversarialProvisioner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"", `,"on_missing":"fail_out"`, `,"on_missing":"ignore_instance"`}).Draw(t, "on missing"))
		for range 20 {
			w.misbehave()
			load := rapid.Float64Range(0, 5).Draw(t, "load")
			w.load(func() float64 { return load })
			for _, i := range w.view.Instances {
				if rapid.Bool().Draw(t, "lost") {
					delete(w.view.Readings["load"], i.ID)
				}
			}
			w.decide()
		}
		target := -1
		for range 30 {
			w.behave()
			w.load(func() float64 { return 1.5 })
			if d := w.decide(); target < 0 {
				target = d.Target
			} else if d.Target != target {
				t.Fatalf("scaled from %d to %d, and the load was in order", target, d.Target)
			}
		}
		if w.view.Healthy() != target {
			t.Fatalf("came to rest at %d healthy instances, %d are wanted", w.view.Healthy(), target)
		}
	})
}

// TestEngine_ConstantLoad: under a constant load the number goes one way, and
// comes to rest at a limit or stays where it is.
func TestEngine_ConstantLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "")
		load := rapid.Float64Range(0, 3).Draw(t, "load")
		for range 60 {
			w.behave()
			w.load(func() float64 { return load })
			w.decide()
		}
		reversed := slices.Clone(w.targets)
		slices.Reverse(reversed)
		if !slices.IsSorted(w.targets) && !slices.IsSorted(reversed) {
			t.Fatalf("flaps at a load of %g: %v", load, w.targets)
		}
		if load >= 1 && load <= 2 && w.targets[0] != w.target {
			t.Fatalf("scales at a load of %g: %v", load, w.targets)
		}
	})
}

// TestEngine_OscillatingLoad: what stays between the thresholds causes nothing.
func TestEngine_OscillatingLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "")
		for round := range 25 {
			w.behave()
			load := rapid.Float64Range(1, 2).Draw(t, "load")
			w.load(func() float64 { return load })
			const first = 15 // rounds that bring the instances that there were into the limits
			if d := w.decide(); round > first && len(d.Launches)+len(d.Terminations) > 0 {
				t.Fatalf("launches %d, terminates %q: %s", len(d.Launches), d.Terminations, d.Reason)
			}
		}
	})
}

// TestEngine_DecideChangesNothing: a decision leaves its view as it is.
func TestEngine_DecideChangesNothing(t *testing.T) {
	v := &engines.View{Now: noon, Instances: size(4), Readings: loads(9, 9), Memory: json.RawMessage(`{"wanted":4}`), MaxActions: many}
	before := fmt.Sprintf("%+v %s", *v.Instances[0], v.Memory)
	decide(t, engine(t, scaling(`"minimum_vms":1`)), v)
	if after := fmt.Sprintf("%+v %s", *v.Instances[0], v.Memory); before != after || len(v.Instances) != 4 || len(v.Readings["load"]) != 2 {
		t.Errorf("%s, was %s", after, before)
	}
}
