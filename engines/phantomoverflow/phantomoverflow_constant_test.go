package phantomoverflow_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
	"github.com/seed-524e47bf/epum/events"
)

// drawSteady is a domain of some instances that may scale from a minimum to a maximum;
// above 2 there are to be more, below 1 fewer.
func drawSteady(t *rapid.T) (w *enginetest.World, least, most int) {
	least = rapid.IntRange(0, 5).Draw(t, "minimum")
	most = least + rapid.IntRange(0, 6).Draw(t, "room")
	w = enginetest.New(t, phantomoverflow.Kind(), conf(fmt.Sprintf("a:%d b:-1", rapid.IntRange(0, 4).Draw(t, "size")), fmt.Sprintf(
		`"minimum_vms":%d,"maximum_vms":%d,"metric":"q","monitor_domain_sensors":["q"],"scale_up_threshold":2,"scale_down_threshold":1,`+
			`"scale_up_n_vms":%d,"scale_down_n_vms":%d,"cooldown_period":%d`,
		least, most, rapid.IntRange(1, 3).Draw(t, "up"), rapid.IntRange(1, 3).Draw(t, "down"), rapid.IntRange(0, 60).Draw(t, "cooldown"))))
	for range rapid.IntRange(0, 8).Draw(t, "instances") {
		w.Place(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "site"), events.Running)
	}
	return w, least, most
}

// decide decides a tick later; provisioners do at once what they are asked.
func decide(t *rapid.T, w *enginetest.World, value float64) enginetest.Step {
	w.Now = w.Now.Add(tick)
	w.OfDomain("q", value)
	step := w.Decide(t)
	w.Settle()
	return step
}

// TestEngine_ConstantMetric: the number keeps to its limits, goes one way alone, and
// comes to rest at a limit, or stays where it is.
func TestEngine_ConstantMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, least, most := drawSteady(t)
		value := rapid.Float64Range(0, 3).Draw(t, "value")
		var targets []int
		for range int(8 * time.Minute / tick) { // six steps, each with a cool-down of a minute
			d := decide(t, w, value)
			if _, n, _ := w.Count(); min(d.Target, n) < least || max(d.Target, n) > most {
				t.Fatalf("%d are there and %d wanted of %d to %d: %s", n, d.Target, least, most, d.Reason)
			}
			targets = append(targets, d.Target)
		}
		reversed := slices.Clone(targets)
		slices.Reverse(reversed)
		if !slices.IsSorted(targets) && !slices.IsSorted(reversed) {
			t.Fatalf("flaps at %g: %v", value, targets)
		}
		last := targets[len(targets)-1]
		if value > 2 && last != most || value < 1 && last != least || value >= 1 && value <= 2 && last != targets[0] {
			t.Fatalf("of %d to %d at %g: %v", least, most, value, targets)
		}
	})
}

// TestEngine_OscillatingMetric: what stays between the thresholds causes nothing, once
// the instances are where they belong.
func TestEngine_OscillatingMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, _, _ := drawSteady(t)
		for range 30 {
			decide(t, w, 1.5)
		}
		memory := w.Memory
		for range 15 {
			d := decide(t, w, rapid.Float64Range(1, 2).Draw(t, "value"))
			if len(d.Launches)+len(d.Terminations) > 0 || string(d.Memory) != string(memory) {
				t.Fatalf("launches %d, terminates %q, keeps %s: %s", len(d.Launches), d.Terminations, d.Memory, d.Reason)
			}
		}
	})
}
