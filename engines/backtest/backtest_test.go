package backtest_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/engines/backtest/histories"
	"github.com/seed-524e47bf/epum/engines/sensor"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/engines/targettracking"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

func registry(site string) *engines.Registry {
	return engines.NewRegistry("simplest", simplest.Kind(cmp.Or(site, "local")), sensor.Kind(), targettracking.Kind())
}

func run(t *testing.T, h *histories.History, change func(*backtest.Config)) *backtest.Result {
	t.Helper()
	r, err := try(t, h, change)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func try(t *testing.T, h *histories.History, change func(*backtest.Config)) (*backtest.Result, error) {
	t.Helper()
	c := backtest.Config{Domain: h.Domain, History: h, To: h.Log[len(h.Log)-1].Seq, Until: h.Now, Engines: registry}
	if change != nil {
		change(&c)
	}
	return backtest.Run(t.Context(), c)
}

func over(config events.Config) func(*backtest.Config) {
	return func(c *backtest.Config) { c.Over = config }
}

// near compares with a figure that was reckoned by hand.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6 {
		t.Errorf("%s: %g, it is %g by hand", what, got, want)
	}
}

// TestRun_ArithmeticOfSize: three instances for an hour, each of which took 30 s to
// boot, and what five would have been.
func TestRun_ArithmeticOfSize(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
	h.Live(time.Hour)
	r := run(t, h, over(histories.Config("", `{"preserve_n":5}`)))
	if r.Simulated == nil || r.Recorded.Launches != 3 || r.Candidate.Launches != 5 || r.Recorded.Terminations+r.Candidate.Terminations != 0 {
		t.Fatalf("%+v", r)
	}
	near(t, "recorded instance-hours", r.Recorded.InstanceHours, 3*(3600-30)/3600.)
	near(t, "simulated instance-hours", r.Candidate.InstanceHours, 5*(3600-30)/3600.)
	near(t, "recorded below target", r.Recorded.BelowTarget.Seconds(), 30)
	near(t, "simulated below target", r.Candidate.BelowTarget.Seconds(), 30)
	want := []backtest.Point{{Time: histories.Start, Value: 0}, {Time: histories.Start.Add(30 * time.Second), Value: 5}, {Time: h.Now, Value: 5}}
	if diff := gocmp.Diff(want, r.Candidate.Running); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
}

// TestRun_ArithmeticOfReconfigure: a recorded reconfigure happens in the simulation,
// too, but for what the other config says; and a range begins in the middle.
func TestRun_ArithmeticOfReconfigure(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":2}`))
	h.Live(time.Hour)
	middle := h.Now
	h.Reconfigure(histories.Config("", `{"preserve_n":4,"force_site":"west"}`))
	h.Live(time.Hour)
	same := run(t, h, nil)
	if same.Replayed == nil || same.Replayed.Same != same.Recorded.Decisions || same.Candidate.Launches != 4 {
		t.Errorf("the recorded policy: %+v", same)
	}
	r := run(t, h, func(c *backtest.Config) {
		c.Over, c.From = histories.Config("", `{"preserve_n":3}`), projections.Point{Time: middle}
	})
	// One more at once, and the recorded two when it is recorded.
	if r.Recorded.Launches != 2 || r.Candidate.Launches != 1 {
		t.Errorf("launches: %d and %d", r.Recorded.Launches, r.Candidate.Launches)
	}
	near(t, "recorded instance-hours", r.Recorded.InstanceHours, 2+2*(3600-30)/3600.)
	near(t, "simulated instance-hours", r.Candidate.InstanceHours, 2+(3600-30)/3600.)
	simulated := run(t, h, func(c *backtest.Config) { c.Simulate = true })
	if simulated.Simulated == nil || simulated.Candidate.Launches != 4 || simulated.Candidate.Decisions != simulated.Recorded.Decisions {
		t.Errorf("the recorded policy simulated: %+v", simulated)
	}
	near(t, "instance-hours of the recorded policy simulated", simulated.Candidate.InstanceHours, simulated.Recorded.InstanceHours)
}

// TestRun_ArithmeticOfLoad: what a metric of instances adds up to is shared by those
// that run in the simulation, and the domain's own is as it was.
func TestRun_ArithmeticOfLoad(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":2}`))
	h.Read = func(instances []*events.Instance) engines.Readings {
		own := engines.Readings{"load": {}}
		for _, i := range instances {
			if i.State == events.Running {
				own["load"][i.ID] = engines.Reading{Value: 60, Time: h.Now}
			}
		}
		return own
	}
	h.Live(2 * time.Hour)
	// 120 among as many as make it 20 each: 6.
	conf := `{"sensor_type":"nats","monitor_sensors":["load"],"metric":"load","target_value":20,"minimum_vms":1,"maximum_vms":10,
		"iaas_site":"local","iaas_allocation":"small","deployable_type":"w"}`
	r := run(t, h, over(histories.Config("target_tracking", conf)))
	if n := len(r.Candidate.Running); n == 0 || r.Candidate.Running[n-1].Value != 6 || r.Policy != "target_tracking" {
		t.Errorf("%+v\n%+v", r.Candidate, r.Simulated)
	}
}

// TestRun_Determinism: the same seed gives the same, whatever fails, and another seed
// another life.
func TestRun_Determinism(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(rt, "size")
		fails, lives := rapid.IntRange(2, 9).Draw(rt, "one in so many launches fails"), rapid.IntRange(60, 4000).Draw(rt, "life in seconds")
		h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
		h.Fails = func(n int) bool { return n%fails == 0 }
		h.Lives = func(n int) time.Duration { return time.Duration(lives*n%5000+1) * time.Second }
		h.Live(time.Duration(rapid.IntRange(1, 3).Draw(rt, "hours")) * time.Hour)
		same := run(t, h, nil)
		if same.Replayed == nil || same.Replayed.Same != same.Recorded.Decisions || same.Recorded.Decisions == 0 {
			rt.Fatalf("the recorded policy: %+v", same)
		}
		config := histories.Config("", string(must(json.Marshal(map[string]int{"preserve_n": size + 3}))))
		other := func(seed uint64) *backtest.Result {
			return run(t, h, func(c *backtest.Config) { c.Over, c.Seed = config, seed })
		}
		if a, b := other(1), other(1); !reflect.DeepEqual(a, b) {
			rt.Fatalf("twice with the same seed: %s", gocmp.Diff(a, b))
		}
		if a, b := other(1), other(2); a.Recorded.Launches > 20 && reflect.DeepEqual(a.Candidate, b.Candidate) {
			rt.Fatalf("another seed makes no difference: %+v", a.Candidate)
		}
	})
}

// TestRun_Refused: a config that the service would refuse names its field, and so does
// an engine that there is not.
func TestRun_Refused(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
	h.Live(time.Minute)
	for field, config := range map[string]events.Config{
		"engine_conf.preserve_n":         histories.Config("", `{"preserve_n":-1}`),
		"engine_conf.presrve_n":          histories.Config("", `{"presrve_n":1}`),
		"general.engine_class":           histories.Config("nobody", `{}`),
		"engine_conf.metric":             histories.Config("target_tracking", `{"minimum_vms":1,"maximum_vms":2,"target_value":1,"iaas_site":"s","iaas_allocation":"s","deployable_type":"w"}`),
		"general.max_unhealthy_fraction": {General: json.RawMessage(`{"max_unhealthy_fraction":2}`)},
		"health.boot_timeout":            {Health: json.RawMessage(`{"boot_timeout":-1}`)},
	} {
		_, err := try(t, h, over(config))
		if refused, ok := errors.AsType[*engines.FieldError](err); !ok || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := try(t, h, func(c *backtest.Config) { c.Domain.Name = "none" }); !errors.Is(err, backtest.ErrNoHistory) {
		t.Errorf("no such domain: %v", err)
	}
}

// TestRun_Differences: a record of which anything is altered is found, and what differs
// is shown.
func TestRun_Differences(t *testing.T) {
	alter := map[string]func(*events.DecisionMade){
		"reason":       func(d *events.DecisionMade) { d.Reason += "!" },
		"memory":       func(d *events.DecisionMade) { d.Memory = json.RawMessage(`{"other":1}`) },
		"engine_state": func(d *events.DecisionMade) { d.EngineState = events.EngineDevmodeFailed },
		"saw":          func(d *events.DecisionMade) { d.Saw = json.RawMessage(`{"counts":{},"target":7}`) },
		"seed":         func(d *events.DecisionMade) { d.Seed++ },
		"engine":       func(d *events.DecisionMade) { d.Engine = "sensor" },
		"launches":     func(d *events.DecisionMade) { d.Launches = append(d.Launches, "one more") },
		"terminations": func(d *events.DecisionMade) { d.Terminations = append(d.Terminations, "one more") },
		"config_seq":   func(d *events.DecisionMade) { d.ConfigSeq++ },
	}
	for field, change := range alter {
		h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
		h.Live(time.Minute)
		for n := range h.Log {
			made, ok := h.Log[n].Event.(events.DecisionMade)
			if !ok {
				continue
			}
			change(&made)
			h.Log[n].Body = must(events.Encode(made))
			break
		}
		r := run(t, h, nil).Replayed
		found := false
		for _, d := range r.Differences {
			for _, f := range d.Fields {
				found = found || f.Field == field && f.Recorded != f.Replayed
			}
		}
		if !found || r.Differing == 0 {
			t.Errorf("%s: %+v", field, r)
		}
	}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// TestRun_Removal: a simulated domain drains when the recorded one did, and is gone.
func TestRun_Removal(t *testing.T) {
	h := histories.New(t, registry("local"), histories.Config("", `{"preserve_n":3}`))
	h.Live(time.Hour)
	h.Remove()
	h.Live(time.Hour)
	r := run(t, h, over(histories.Config("", `{"preserve_n":5}`)))
	if r.Recorded.Terminations != 3 || r.Candidate.Terminations != 5 {
		t.Errorf("%+v", r.Candidate)
	}
	if last := r.Candidate.Running[len(r.Candidate.Running)-1]; last.Value != 0 {
		t.Errorf("%d run at last", last.Value)
	}
	near(t, "simulated instance-hours", r.Candidate.InstanceHours, 5*(3600-30+1)/3600.)
	if same := run(t, h, nil); same.Replayed.Same != same.Recorded.Decisions {
		t.Errorf("the recorded policy: %+v", same.Replayed)
	}
}

// TestRun_Failures: what failed and what was ill is met at the recorded rates, and
// replaced; a whole life is made again, too.
func TestRun_Failures(t *testing.T) {
	h := histories.New(t, registry("local"), events.Config{EngineConf: json.RawMessage(`{"preserve_n":4}`), Health: json.RawMessage(`{"monitor_health":true}`)})
	h.Lives = func(int) time.Duration { return 2 * time.Hour }
	h.Fails = func(n int) bool { return n%5 == 0 }
	for range 20 {
		h.Live(time.Hour)
		for _, i := range h.Instances() {
			if i.State == events.Running {
				h.Feels(i.ID, events.HealthProcessError)
				break
			}
		}
	}
	if same := run(t, h, nil); same.Replayed.Same != same.Recorded.Decisions || same.Recorded.Launches < 40 {
		t.Errorf("the recorded policy: %+v, %+v", same.Recorded, same.Replayed)
	}
	// Chance is within a half of what was recorded, for the same policy and many lives.
	r := run(t, h, func(c *backtest.Config) { c.Simulate, c.Seed = true, 7 })
	was, is := float64(r.Recorded.Launches), float64(r.Candidate.Launches)
	if is < was/2 || is > 2*was || r.Simulated.Failures > 0 {
		t.Errorf("%g launches, and %g simulated: %+v", was, is, r.Simulated)
	}
	near(t, "hours, within a tenth", math.Round(r.Candidate.InstanceHours/r.Recorded.InstanceHours*5)/5, 1)
}

// TestRun_RefusedReconfigure: a recorded reconfigure that the service would refuse on
// top of the other config is left out.
func TestRun_RefusedReconfigure(t *testing.T) {
	const conf = `{"sensor_type":"nats","monitor_domain_sensors":["load"],"metric":"load","minimum_vms":2,"maximum_vms":9,
		"scale_up_threshold":5,"scale_down_threshold":1,"iaas_site":"s","iaas_allocation":"s","deployable_type":"w"}`
	h := histories.New(t, registry("local"), histories.Config("sensor", conf))
	h.Live(time.Hour)
	h.Reconfigure(histories.Config("", `{"minimum_vms":6}`))
	h.Live(time.Hour)
	r := run(t, h, over(histories.Config("", `{"maximum_vms":4}`)))
	if r.Simulated.Refused != 1 || r.Recorded.MostRunning != 6 || r.Candidate.MostRunning != 2 || len(r.Notes) != 1 {
		t.Errorf("%d running at most, and %d: %+v %q", r.Recorded.MostRunning, r.Candidate.MostRunning, r.Simulated, r.Notes)
	}
}
