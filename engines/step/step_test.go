package step_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/step"
	"github.com/seed-524e47bf/epum/events"
)

const (
	launch = `"iaas_site":"s","iaas_allocation":"a","deployable_type":"d"`
	keys   = `"metric":"load","sensor_type":"nats","monitor_sensors":["load"],` + launch
	out    = `,"threshold_out":60,"steps_out":[{"from":0,"add":1},{"from":20,"add":"50%"},{"from":30,"add":8}]`
	in     = `,"threshold_in":20,"steps_in":[{"from":5,"remove":"30%"},{"from":15,"remove":3}]`
	bounds = `,"minimum_vms":1,"maximum_vms":12`
)

func conf(more ...string) string { return "{" + keys + strings.Join(more, "") + "}" }

func TestEngine_Decide(t *testing.T) {
	for _, tt := range []struct {
		name    string
		conf    string
		running int
		value   float64
		missing int
		wanted  int
		reason  string // a part of it
	}{
		{"nothing there: the minimum", conf(out, in, bounds), 0, 0, 0, 1, "no instance runs whose load could be read: keep 1"},
		{"between", conf(out, in, bounds), 4, 59.9, 0, 4, "load of 4 readings is 59.9, at which no step begins: keep 4"},
		{"at the threshold", conf(out, in, bounds), 4, 60, 0, 5, "load of 4 readings is 60, 0 or more above 60: from 4 to 5 of at most 12"},
		{"before the second step", conf(out, in, bounds), 4, 79.9, 0, 5, "0 or more above 60"},
		{"the second step", conf(out, in, bounds), 4, 80, 0, 6, "20 or more above 60: from 4 to 6"},
		{"a part is rounded down", conf(out, in, bounds), 5, 80, 0, 7, "from 5 to 7"},
		{"a part is at least one", conf(out, in, bounds), 1, 80, 0, 2, "from 1 to 2"},
		{"the last step", conf(out, in, bounds), 4, 1e300, 0, 12, "30 or more above 60: from 4 to 12"},
		{"up to the maximum", conf(out, in, bounds), 11, 100, 0, 12, "from 11 to 12 of at most 12"},
		{"at the maximum", conf(out, in, bounds), 12, 100, 0, 12, "12 are the most that are allowed"},
		{"below, but before the first step", conf(out, in, bounds), 4, 15.1, 0, 4, "no step begins"},
		{"the first step in", conf(out, in, bounds), 7, 15, 0, 5, "5 or more below 20: from 7 to 5 of at least 1"},
		{"the second step in", conf(out, in, bounds), 7, 5, 0, 4, "15 or more below 20: from 7 to 4"},
		{"down to the minimum", conf(out, in, bounds), 2, 0, 0, 1, "from 2 to 1 of at least 1"},
		{"at the minimum", conf(out, in, bounds), 1, 0, 0, 1, "1 are the fewest that are kept"},
		{"only out", conf(out, bounds), 4, 0, 0, 4, "no step begins"},
		{"only in", conf(in, bounds), 4, 100, 0, 4, "no step begins"},
		{"some missing: out", conf(out, in, bounds), 4, 60, 3, 5, "load of 1 readings is 60, 0 or more above 60: from 4 to 5 of at most 12; 3 of 4 readings of load are missing"},
		{"half missing: in", conf(out, in, bounds), 4, 0, 2, 1, "from 4 to 1"},
		{"more missing: not in", conf(out, in, bounds), 4, 0, 3, 4, "but too little is known: keep 4; 3 of 4 readings"},
		{"more missing: ignored", conf(out, in, bounds, `,"on_missing":"ignore_instance"`), 4, 0, 3, 1, "from 4 to 1"},
		{"more missing: out", conf(out, in, bounds, `,"on_missing":"fail_out"`), 4, 0, 3, 5, "too little is known, which asks for the first step: from 4 to 5"},
		{"all missing", conf(out, in, bounds), 4, 0, 4, 4, "nothing is known: keep 4; 4 of 4 readings of load are missing"},
		{"all missing: ignored", conf(out, in, bounds, `,"on_missing":"ignore_instance"`), 4, 0, 4, 4, "nothing is known: keep 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := enginetest.New(t, step.Kind(), tt.conf)
			w.Add(tt.running, events.Running)
			w.Give("load", tt.value)
			for n := range tt.missing {
				delete(w.Readings["load"], enginetest.ID(n))
			}
			d := w.Decide(t)
			if d.Target != tt.wanted || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("wants %d, %q; want %d, %q", d.Target, d.Reason, tt.wanted, tt.reason)
			}
			if w.Healthy() != tt.wanted {
				t.Errorf("%d instances afterwards", w.Healthy())
			}
			if !strings.Contains(string(d.Saw), fmt.Sprintf(`"before":%d`, max(1, tt.running))) {
				t.Errorf("saw %s", d.Saw)
			}
		})
	}
}

func TestEngine_Cooldowns(t *testing.T) {
	w := enginetest.New(t, step.Kind(), conf(out, in, bounds, `,"cooldown_out":100,"cooldown_in":200`))
	w.Add(4, events.Running)
	at := func(seconds int, load float64, wanted int, reason string) {
		t.Helper()
		w.Now = enginetest.Start.Add(time.Duration(seconds) * time.Second)
		w.Settle()
		w.Give("load", load)
		if d := w.Decide(t); d.Target != wanted || !strings.Contains(d.Reason, reason) {
			t.Fatalf("after %d s: %d, %q; want %d, %q", seconds, d.Target, d.Reason, wanted, reason)
		}
	}
	at(0, 60, 5, "from 4 to 5")
	at(99, 100, 5, "but after the last scale-out 5 stay until 2026-03-02T12:01:40Z")
	w.Feels(w.Instances()[0].ID, events.HealthMissing)
	at(99, 100, 5, "terminate 1 unhealthy")
	if w.Healthy() != 5 {
		t.Error("the unhealthy was not replaced in the cool-down")
	}
	at(100, 60, 6, "from 5 to 6")
	at(299, 0, 6, "but after the last change 6 stay until 2026-03-02T12:05:00Z")
	at(300, 0, 3, "from 6 to 3")
	at(301, 60, 4, "from 3 to 4")
	at(302, 0, 4, "but after the last change")
}

// TestEngine_Reconfigure: other bounds are kept to at once, and a config that is
// refused changes nothing.
func TestEngine_Reconfigure(t *testing.T) {
	w := enginetest.New(t, step.Kind(), conf(out, bounds))
	w.Add(8, events.Running)
	w.Decide(t)
	w.Reconfigure(t, conf(out, `,"maximum_vms":3`))
	if d := w.Decide(t); d.Target != 3 || w.Healthy() != 3 {
		t.Fatalf("%d: %s", d.Target, d.Reason)
	}
	w.Reconfigure(t, conf(out, `,"minimum_vms":5,"maximum_vms":9`))
	if d := w.Decide(t); d.Target != 5 || w.Healthy() != 5 {
		t.Fatalf("%d: %s", d.Target, d.Reason)
	}
	e, err := step.Kind().New(json.RawMessage(w.Conf), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Reconfigure(json.RawMessage(`{}`)); err == nil {
		t.Error("an empty config is taken")
	}
	if d, err := e.Decide(w.View()); err != nil || d.Target != 5 {
		t.Errorf("%d, %v", d.Target, err)
	}
}

// TestEngine_Between: what stays between the thresholds changes nothing, in the
// memory neither.
func TestEngine_Between(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := enginetest.New(t, step.Kind(), conf(out, in, bounds, `,"cooldown_out":0,"cooldown_in":0`))
		n := rapid.IntRange(1, 12).Draw(t, "instances")
		w.Add(n, events.Running)
		var memory json.RawMessage
		for range 20 {
			w.Now = w.Now.Add(10 * time.Second)
			w.Give("load", rapid.Float64Range(15.01, 59.99).Draw(t, "load"))
			d := w.Decide(t)
			if d.Target != n || len(d.Launches)+len(d.Terminations) > 0 || d.State != events.EngineStable {
				t.Fatalf("%d: %s", d.Target, d.Reason)
			}
			if memory != nil && !bytes.Equal(memory, d.Memory) {
				t.Fatalf("%s became %s", memory, d.Memory)
			}
			memory = d.Memory
		}
	})
}

// TestEngine_Life: whatever the provisioner does and whatever is read, the bounds
// and the cool-downs hold; once the provisioner behaves and the metric is constant,
// the number goes one way alone and comes to rest at a bound, or where it is.
func TestEngine_Life(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(1, 3).Draw(t, "minimum")
		most := least + rapid.IntRange(0, 10).Draw(t, "more")
		cooldown := rapid.IntRange(0, 100).Draw(t, "cool-down")
		w := enginetest.New(t, step.Kind(), conf(out, in, fmt.Sprintf(`,"minimum_vms":%d,"maximum_vms":%d,"cooldown_out":%d,"cooldown_in":%d,"on_missing":%q`,
			least, most, cooldown, cooldown, rapid.SampledFrom(engines.OnMissingAll).Draw(t, "on_missing"))))
		last, changed := -1, time.Time{}
		decide := func(seconds int) enginetest.Step {
			w.Now = w.Now.Add(time.Duration(seconds) * time.Second)
			d := w.Decide(t)
			if d.Target < least || d.Target > most || w.Healthy()+d.Held != d.Target {
				t.Fatalf("%d wanted, %d there, %d to %d allowed: %s", d.Target, w.Healthy(), least, most, d.Reason)
			}
			if last >= 0 && d.Target != last {
				if d.Target < last && !changed.IsZero() && w.Now.Sub(changed) < time.Duration(cooldown)*time.Second {
					t.Fatalf("from %d to %d in the cool-down: %s", last, d.Target, d.Reason)
				}
				changed = w.Now
			}
			last = d.Target
			return d
		}
		for range rapid.IntRange(0, 15).Draw(t, "steps") {
			w.Give("load", rapid.Float64Range(0, 120).Draw(t, "load"))
			for _, i := range w.Instances() {
				if rapid.Bool().Draw(t, "missed") {
					delete(w.Readings["load"], i.ID)
				}
			}
			decide(rapid.IntRange(1, 60).Draw(t, "seconds"))
			w.Misbehave(t)
		}
		load := rapid.Float64Range(0, 120).Draw(t, "load")
		decide(120)
		w.Settle()
		before := last
		for range 14 {
			w.Settle()
			w.Give("load", load)
			from := last
			d := decide(120)
			if load >= 60 && d.Target < from || load <= 15 && d.Target > from || load > 15 && load < 60 && d.Target != from {
				t.Fatalf("from %d to %d at a constant load of %g: %s", from, d.Target, load, d.Reason)
			}
		}
		want := before
		switch {
		case load >= 60:
			want = most
		case load <= 15:
			want = least
		}
		if last != want {
			t.Fatalf("came to %d of %d to %d at a load of %g", last, least, most, load)
		}
	})
}

func BenchmarkEngine_Decide(b *testing.B) {
	w := enginetest.New(b, step.Kind(), conf(out, in, `,"maximum_vms":2000`))
	w.Add(1000, events.Running)
	w.Give("load", 50)
	e, err := step.Kind().New(json.RawMessage(w.Conf), nil)
	if err != nil {
		b.Fatal(err)
	}
	view := w.View()
	enginetest.Measure(b, e, view)
}
