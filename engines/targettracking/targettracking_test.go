package targettracking_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/targettracking"
	"github.com/seed-524e47bf/epum/events"
)

const (
	launch   = `"iaas_site":"s","iaas_allocation":"a","deployable_type":"d"`
	instance = `"metric":"load","sensor_type":"nats","monitor_sensors":["load"],` + launch
	domain   = `"metric":"queue","sensor_type":"nats","monitor_domain_sensors":["queue"],` + launch
)

// conf is an engine_conf of keys, each after a comma.
func conf(keys, more string) string { return "{" + keys + more + "}" }

// TestEngine_Decide: a domain with a number of running and of pending instances,
// what is read, and what is wanted then.
func TestEngine_Decide(t *testing.T) {
	const bounds = `,"target_value":2,"minimum_vms":1,"maximum_vms":10,"stabilization_window":0`
	load := func(values ...float64) engines.Readings {
		read := map[string]engines.Reading{}
		for n, value := range values {
			read[enginetest.ID(n)] = engines.Reading{Value: value, Time: enginetest.Start}
		}
		return engines.Readings{"load": read}
	}
	queue := func(length float64) engines.Readings {
		return engines.Readings{"queue": {engines.OfDomain: {Value: length, Time: enginetest.Start}}}
	}
	nan := math.NaN()
	for _, tt := range []struct {
		name             string
		conf             string
		running, pending int
		readings         engines.Readings
		wanted           int
		reason           string // a part of it
	}{
		{"nothing there: the minimum", conf(instance, bounds), 0, 0, nil, 1, "no instance runs whose load could be read: keep 1"},
		{"above", conf(instance, bounds), 2, 0, load(4, 3), 4, "average load of 2 instances is 3.5 and is to be 2: 4 are needed: from 2 to 4 of at most 10"},
		{"above the maximum", conf(instance, bounds), 8, 0, load(4, 4, 4, 4, 4, 4, 4, 4), 10, "16 are needed: from 8 to 10 of at most 10"},
		{"above at the maximum", conf(instance, bounds), 10, 0, load(4, 4, 4, 4, 4, 4, 4, 4, 4, 4), 10, "20 are needed, but at most 10 are allowed"},
		{"an enormous load", conf(instance, bounds), 1, 0, load(1e300), 10, "from 1 to 10"},
		{"just within the tolerance above", conf(instance, bounds), 4, 0, load(2.2, 2.2, 2.2, 2.2), 4, "keep 4"},
		{"just out of the tolerance", conf(instance, bounds), 4, 0, load(2.21, 2.21, 2.21, 2.21), 5, "from 4 to 5"},
		{"just within the tolerance below", conf(instance, bounds), 10, 0, load(1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8), 10, "keep 10"},
		{"no tolerance", conf(instance, bounds+`,"tolerance":0`), 2, 0, load(2.1, 2), 3, "from 2 to 3"},
		{"no more by the floating point", conf(instance, `,"target_value":0.1,"maximum_vms":10,"tolerance":0`), 3, 0, load(0.1, 0.2, 0.3), 6, "from 3 to 6"},
		{"below", conf(instance, bounds), 4, 0, load(1, 1, 1, 0.9), 2, "at most 2 were needed for 0 s: from 4 to 2 of at least 1"},
		{"below the minimum", conf(instance, bounds), 4, 0, load(0, 0, 0, 0), 1, "from 4 to 1 of at least 1"},
		{"below at the minimum", conf(instance, bounds), 1, 0, load(0), 1, "0 would do, but at least 1 are kept"},
		{"below zero", conf(instance, bounds), 2, 0, load(-5, -5), 1, "from 2 to 1"},
		{"fewer, but not one less", conf(instance, bounds), 2, 0, load(1.5, 1.5), 2, "keep 2"},
		{"what does not run yet takes load", conf(instance, bounds), 2, 2, load(4, 4), 4, "keep 4"},
		{"more than what does not run yet takes", conf(instance, bounds), 2, 2, load(6, 6), 6, "from 4 to 6"},
		{"what does not run yet may go", conf(instance, bounds), 2, 2, load(1, 1), 1, "from 4 to 1"},
		{"a missing one carries nothing above", conf(instance, bounds), 3, 0, load(3, 3), 3, "keep 3; 1 of 3 readings of load are missing"},
		{"a missing one carries its part below", conf(instance, bounds), 4, 0, load(0.5, 0.5, 0.5), 2, "from 4 to 2 of at least 1; 1 of 4 readings"},
		{"NaN is missing", conf(instance, bounds), 3, 0, load(6, 6, nan), 6, "from 3 to 6 of at most 10; 1 of 3 readings of load are missing"},
		{"nothing known", conf(instance, bounds), 3, 0, nil, 3, "nothing is known: keep 3; 3 of 3 readings of load are missing"},
		{"hold: too little known", conf(instance, bounds), 4, 0, load(0), 4, "fewer would do, but too little is known: keep 4; 3 of 4"},
		{"ignore", conf(instance, bounds+`,"on_missing":"ignore_instance"`), 4, 0, load(0), 3, "from 4 to 3"},
		{"fail out", conf(instance, bounds+`,"on_missing":"fail_out"`), 4, 0, load(0), 5, "too little is known, which asks for one more: from 4 to 5"},
		{"fail out at the maximum", conf(instance, bounds+`,"on_missing":"fail_out"`), 10, 0, nil, 10, "but at most 10 are allowed"},
		{"a step out in a number", conf(instance, bounds+`,"max_step_out":1`), 2, 0, load(8, 8), 3, "8 are needed: from 2 to 3"},
		{"a step out in percent", conf(instance, bounds+`,"max_step_out":"50%"`), 3, 0, load(6, 6, 6), 5, "9 are needed: from 3 to 5"},
		{"a step in", conf(instance, bounds+`,"max_step_in":"10%"`), 8, 0, load(0, 0, 0, 0, 0, 0, 0, 0), 7, "from 8 to 7"},
		{"a queue", conf(domain, bounds), 2, 0, queue(7), 4, "queue is 7 for 2 instances and is to be 2 for each: 4 are needed: from 2 to 4"},
		{"a queue that is short", conf(domain, bounds), 5, 0, queue(3), 2, "from 5 to 2"},
		{"a queue within the tolerance", conf(domain, bounds), 10, 0, queue(19), 10, "keep 10"},
		{"a queue with nobody", conf(domain, `,"target_value":2,"maximum_vms":3`), 0, 0, queue(1), 1, "from 0 to 1"},
		{"an empty queue", conf(domain, `,"target_value":2,"maximum_vms":3`), 0, 0, queue(0), 0, "keep 0"},
		{"a queue that is not known", conf(domain, bounds), 2, 0, nil, 2, "nothing is known: keep 2; 1 of 1 readings of queue are missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := enginetest.New(t, targettracking.Kind(), tt.conf)
			w.Add(tt.running, events.Running)
			w.Add(tt.pending, events.Pending)
			w.Readings = tt.readings
			d := w.Decide(t)
			if d.Target != tt.wanted || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("wants %d, %q; want %d, %q", d.Target, d.Reason, tt.wanted, tt.reason)
			}
			if w.Healthy() != tt.wanted {
				t.Errorf("%d instances afterwards", w.Healthy())
			}
		})
	}
}

// TestEngine_Window: it scales in to the highest need of a whole window in which
// the need was always lower, and remembers nothing that changes meanwhile.
func TestEngine_Window(t *testing.T) {
	w := enginetest.New(t, targettracking.Kind(), conf(instance, `,"target_value":2,"minimum_vms":1,"maximum_vms":10`))
	w.Add(8, events.Running)
	at := func(seconds int, load float64, wanted int) json.RawMessage {
		t.Helper()
		w.Now = enginetest.Start.Add(time.Duration(seconds) * time.Second)
		w.Settle()
		w.Share("load", load, nil)
		if d := w.Decide(t); d.Target != wanted {
			t.Fatalf("after %d s: %d, want %d: %s", seconds, d.Target, wanted, d.Reason)
		}
		return w.Memory
	}
	at(0, 6, 8)
	begun := at(10, 4, 8)
	if later := at(100, 5, 8); !bytes.Equal(begun, later) {
		t.Errorf("%s became %s", begun, later)
	}
	at(200, 16, 8) // as much as is to be: begins anew
	at(210, 4, 8)
	at(300, 9, 8)
	at(400, 2, 8)
	at(509, 2, 8)
	at(510, 2, 5)
	at(520, 2, 5)
	at(819, 2, 5)
	w.Readings = nil
	w.Now = w.Now.Add(time.Second)
	if d := w.Decide(t); d.Target != 5 || strings.Contains(string(w.Memory), "in_since") {
		t.Fatalf("%d, keeps %s: nothing is known, so the need is not lower", d.Target, w.Memory)
	}
	at(821, 2, 5)
	at(1120, 2, 5)
	at(1121, 2, 1)
}

func TestEngine_Cooldowns(t *testing.T) {
	w := enginetest.New(t, targettracking.Kind(), conf(domain, `,"target_value":1,"maximum_vms":20,"stabilization_window":0,"scale_out_cooldown":100,"scale_in_cooldown":200`))
	at := func(seconds int, queue float64, wanted int, reason string) {
		t.Helper()
		w.Now = enginetest.Start.Add(time.Duration(seconds) * time.Second)
		w.Settle()
		w.OfDomain("queue", queue)
		if d := w.Decide(t); d.Target != wanted || !strings.Contains(d.Reason, reason) {
			t.Fatalf("after %d s: %d, %q; want %d, %q", seconds, d.Target, d.Reason, wanted, reason)
		}
	}
	at(0, 2, 2, "from 0 to 2")
	at(99, 5, 2, "5 are needed, but after the last scale-out 2 stay until 2026-03-02T12:01:40Z")
	w.Feels(w.Instances()[0].ID, events.HealthMissing)
	at(99, 5, 2, "terminate 1 unhealthy")
	if w.Healthy() != 2 {
		t.Error("the unhealthy was not replaced in the cool-down")
	}
	at(100, 5, 5, "from 2 to 5")
	at(299, 1, 5, "1 would do, but after the last change 5 stay until 2026-03-02T12:05:00Z")
	at(300, 1, 1, "from 5 to 1")
	at(301, 4, 4, "from 1 to 4")
	at(400, 1, 4, "after the last change")
}

// TestEngine_Reconfigure: other bounds are kept to at once, and a config that is
// refused changes nothing.
func TestEngine_Reconfigure(t *testing.T) {
	w := enginetest.New(t, targettracking.Kind(), conf(instance, `,"target_value":2,"maximum_vms":10`))
	w.Add(8, events.Running)
	w.Share("load", 10, nil)
	w.Decide(t)
	w.Reconfigure(t, conf(instance, `,"target_value":2,"maximum_vms":3`))
	if d := w.Decide(t); d.Target != 3 || w.Healthy() != 3 {
		t.Fatalf("%d: %s", d.Target, d.Reason)
	}
	w.Reconfigure(t, conf(instance, `,"target_value":2,"minimum_vms":5,"maximum_vms":9`))
	if d := w.Decide(t); d.Target != 5 || w.Healthy() != 5 {
		t.Fatalf("%d: %s", d.Target, d.Reason)
	}
	e, err := targettracking.Kind().New(json.RawMessage(w.Conf), nil)
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

// TestEngine_Fleet: what is launched, and who goes first.
func TestEngine_Fleet(t *testing.T) {
	w := enginetest.New(t, targettracking.Kind(), conf(domain, `,"target_value":1,"maximum_vms":9,"stabilization_window":0,
		"unique_key":"slot","unique_values":"a, b, c","retirable_nodes":["i00000"]`))
	w.OfDomain("queue", 3)
	d := w.Decide(t)
	if len(d.Launches) != 3 || string(d.Launches[2].ExtraVars) != `{"slot":"c"}` || d.Launches[0].Site != "s" ||
		d.Launches[0].Allocation != "a" || d.Launches[0].DeployableType != "d" {
		t.Fatalf("%+v", d.Launches)
	}
	w.Settle()
	w.OfDomain("queue", 2)
	if d := w.Decide(t); len(d.Terminations) != 1 || d.Terminations[0] != "i00000" {
		t.Errorf("terminates %q", d.Terminations)
	}
}

// TestEngine_Tolerance: what stays within the tolerance changes nothing, in the
// memory neither.
func TestEngine_Tolerance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := enginetest.New(t, targettracking.Kind(), conf(instance, `,"target_value":50,"maximum_vms":30,"stabilization_window":0,"scale_out_cooldown":0`))
		n := rapid.IntRange(1, 20).Draw(t, "instances")
		w.Add(n, events.Running)
		var memory json.RawMessage
		for range 20 {
			w.Now = w.Now.Add(10 * time.Second)
			w.Give("load", 50*rapid.Float64Range(0.901, 1.099).Draw(t, "ratio"))
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
// hold; once the provisioner behaves and the load is steady, it comes to what the
// load needs, without going the other way again, and stays.
func TestEngine_Life(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(1, 3).Draw(t, "minimum")
		most := least + rapid.IntRange(0, 10).Draw(t, "more")
		ofDomain := rapid.Bool().Draw(t, "of the domain")
		keys := instance
		if ofDomain {
			keys = domain
		}
		w := enginetest.New(t, targettracking.Kind(), conf(keys, fmt.Sprintf(
			`,"target_value":2,"minimum_vms":%d,"maximum_vms":%d,"scale_out_cooldown":%d,"scale_in_cooldown":%d,"stabilization_window":%d,"on_missing":%q`,
			least, most, rapid.IntRange(0, 100).Draw(t, "out"), rapid.IntRange(0, 100).Draw(t, "in"), rapid.IntRange(0, 200).Draw(t, "window"),
			rapid.SampledFrom(engines.OnMissingAll).Draw(t, "on_missing"))))
		step := func(seconds int, load float64, missed func(string) bool) enginetest.Step {
			w.Now = w.Now.Add(time.Duration(seconds) * time.Second)
			if w.Share("load", load, missed); ofDomain {
				w.OfDomain("queue", load)
			}
			d := w.Decide(t)
			if d.Target < least || d.Target > most || w.Healthy()+d.Held != d.Target {
				t.Fatalf("%d wanted, %d there, %d to %d allowed: %s", d.Target, w.Healthy(), least, most, d.Reason)
			}
			return d
		}
		for range rapid.IntRange(0, 15).Draw(t, "steps") {
			step(rapid.IntRange(1, 120).Draw(t, "seconds"), rapid.Float64Range(0, 30).Draw(t, "load"), func(string) bool { return rapid.Bool().Draw(t, "missed") })
			w.Misbehave(t)
		}
		load := rapid.Float64Range(0, 30).Draw(t, "load")
		settle(t, w, load, func() enginetest.Step { return step(60, load, nil) }, least, most)
	})
}

// settle lets a steady load be answered.
func settle(t *rapid.T, w *enginetest.World, load float64, step func() enginetest.Step, least, most int) {
	step()
	w.Settle()
	last, direction := step().Target, 0
	for n := range 25 {
		w.Settle()
		d := step()
		turn := d.Target - last
		if turn*direction < 0 {
			t.Fatalf("goes from %d to %d after it went the other way: %s", last, d.Target, d.Reason)
		}
		if turn != 0 {
			if direction = turn; n > 20 {
				t.Fatalf("does not come to rest: %s", d.Reason)
			}
		}
		last = d.Target
	}
	needed := min(max(int(math.Ceil(load/2)), least), most)
	if ratio := load / 2 / float64(last); last != needed && math.Abs(ratio-1) > 0.1 {
		t.Fatalf("came to %d, %d are needed", last, needed)
	}
}

func BenchmarkEngine_Decide(b *testing.B) {
	w := enginetest.New(b, targettracking.Kind(), conf(instance, `,"target_value":2,"maximum_vms":2000`))
	w.Add(1000, events.Running)
	w.Share("load", 1900, nil)
	e, err := targettracking.Kind().New(json.RawMessage(w.Conf), nil)
	if err != nil {
		b.Fatal(err)
	}
	view := w.View()
	enginetest.Measure(b, e, view)
}
