package sensor_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/sensor"
	"github.com/seed-524e47bf/epum/events"
)

// world is a domain with drawn limits, that are held against each decision.
type world struct {
	*enginetest.World
	min     int
	max     int
	cool    time.Duration
	target  int       // of the last decision; -1: there was none
	scaled  time.Time // when the target last changed
	targets []int
}

// newWorld draws the limits and steps of a domain; more are further keys.
func newWorld(t *rapid.T, more string) *world {
	w := &world{target: -1}
	w.min = rapid.IntRange(0, 4).Draw(t, "minimum")
	w.max = w.min + rapid.IntRange(0, 6).Draw(t, "room")
	cooldown := rapid.IntRange(0, 300).Draw(t, "cooldown")
	w.cool = time.Duration(cooldown) * time.Second
	w.World = enginetest.New(t, sensor.Kind(), scaling(fmt.Sprintf(`"minimum_vms":%d,"maximum_vms":%d,"cooldown_period":%d,"scale_up_n_vms":%d,"scale_down_n_vms":%d%s`,
		w.min, w.max, cooldown, rapid.IntRange(1, 4).Draw(t, "up by"), rapid.SampledFrom([]int{-3, -1, 1, 2, 4}).Draw(t, "down by"), more)))
	w.Add(rapid.IntRange(0, 12).Draw(t, "instances"), events.Running)
	w.MaxActions = rapid.SampledFrom([]int{1, 3, enginetest.Many}).Draw(t, "most")
	return w
}

// decide decides, and checks what must hold of every decision.
func (w *world) decide(t *rapid.T) enginetest.Step {
	before := w.Memory
	d := w.Decide(t)
	if d.Target < w.min || d.Target > w.max {
		t.Fatalf("target %d, but the limits are %d and %d", d.Target, w.min, w.max)
	}
	switch {
	case w.target < 0:
	case d.Target == w.target && !bytes.Equal(d.Memory, before):
		t.Fatalf("the memory went from %s to %s, and nothing happened", before, d.Memory)
	case d.Target != w.target:
		if w.Now.Sub(w.scaled) < w.cool && !w.scaled.IsZero() {
			t.Fatalf("scaled at %s and again at %s, with a cool-down of %s", w.scaled, w.Now, w.cool)
		}
		w.scaled = w.Now
	}
	w.target = d.Target
	w.targets = append(w.targets, d.Target)
	if healthy := w.Healthy(); d.Actions() < w.MaxActions && healthy+d.Held != d.Target {
		t.Fatalf("%d healthy instances and %d launches held back after a decision for %d: %s", healthy, d.Held, d.Target, d.Reason)
	}
	return d
}

// load lets some time pass and gives each instance that runs a fresh reading.
func (w *world) load(t *rapid.T, value float64) {
	w.Now = w.Now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
	w.Give("load", value)
}

// TestEngine_AdversarialProvisioner: whatever the load and the reports are, the
// limits and the cool-down hold and the next leader decides alike; once the
// provisioner behaves and the load is in order, what is wanted is there.
func TestEngine_AdversarialProvisioner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"", `,"on_missing":"fail_out"`, `,"on_missing":"ignore_instance"`}).Draw(t, "on missing"))
		for range 20 {
			w.Misbehave(t)
			w.load(t, rapid.Float64Range(0, 5).Draw(t, "load"))
			for _, i := range w.Instances() {
				if rapid.Bool().Draw(t, "lost") {
					delete(w.Readings["load"], i.ID)
				}
			}
			w.decide(t)
		}
		target := -1
		for range 30 {
			w.Behave()
			w.load(t, 1.5)
			if d := w.decide(t); target < 0 {
				target = d.Target
			} else if d.Target != target {
				t.Fatalf("scaled from %d to %d, and the load was in order", target, d.Target)
			}
		}
		if w.Healthy() != target {
			t.Fatalf("came to rest at %d healthy instances, %d are wanted", w.Healthy(), target)
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
			w.Behave()
			w.load(t, load)
			w.decide(t)
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
			w.Behave()
			w.load(t, rapid.Float64Range(1, 2).Draw(t, "load"))
			const first = 15 // rounds that bring the instances that there were into the limits
			if d := w.decide(t); round > first && d.Actions() > 0 {
				t.Fatalf("launches %d, terminates %q: %s", len(d.Launches), d.Terminations, d.Reason)
			}
		}
	})
}
