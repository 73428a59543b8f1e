package sensor_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/sensor"
	"github.com/seed-524e47bf/epum/events"
)

func engine(t rapid.TB, conf string) engines.Engine {
	t.Helper()
	return enginetest.Made(t, sensor.Kind(), conf, nil)
}

// loads makes fresh readings of the load of the first instances; NaN: none.
func loads(values ...float64) engines.Readings {
	readings := map[string]engines.Reading{}
	for n, value := range values {
		if !math.IsNaN(value) {
			readings[enginetest.ID(n)] = engines.Reading{Value: value, Time: enginetest.Start}
		}
	}
	return engines.Readings{"load": readings}
}

func TestEngine_Decide(t *testing.T) {
	none := math.NaN()
	limits := scaling(`"minimum_vms":1,"maximum_vms":10`)
	onMissing := func(what string) string { return scaling(`"minimum_vms":1,"on_missing":"` + what + `"`) }
	own := engines.Readings{"load": {engines.OfDomain: {Value: 9, Time: enginetest.Start}, "i00000": {Value: 1, Time: enginetest.Start}}}
	both := strings.Replace(limits, `"monitor_sensors"`, `"monitor_domain_sensors":["load"],"monitor_sensors"`, 1)
	domainOnly := strings.Replace(limits, `"monitor_sensors"`, `"monitor_domain_sensors"`, 1)
	for _, tt := range []struct {
		name      string
		conf      string
		instances []*events.Instance
		readings  engines.Readings
		memory    string
		target    int
		reason    string // how it begins
		keeps     string // the memory; "": as it was
	}{
		{"the first", limits, nil, nil, "", 1, "no instance runs yet whose load could be read: stay at 1; 0 of 1 wanted instances are there: launch 1", `{"wanted":1}`},
		{"begins with what there is", limits, enginetest.Running(4), loads(1.5, 1.5, 1.5, 1.5), "", 4, "average load 1.5 of 4 readings is between 1 and 2: stay at 4; all 4", `{"wanted":4}`},
		{"begins within its limits", limits, enginetest.Running(12), nil, "", 10, "no fresh load of 12 of 12 running instances is known: stay at 10; 12 instances are there and 10 are wanted: terminate 2", `{"wanted":10}`},
		{
			"above", limits, enginetest.Running(3), loads(3, 4.1, 5.5), `{"wanted":3}`, 4,
			"average load 4.2 of 3 readings is above 2: from 3 to 4 of at most 10; 3 of 4 wanted instances are there: launch 1", `{"wanted":4,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{
			"below", limits, enginetest.Running(3), loads(0, 0, 0.3), `{"wanted":3}`, 2,
			"average load 0.1 of 3 readings is below 1: from 3 to 2 of at least 1; 3 instances are there and 2 are wanted: terminate 1", `{"wanted":2,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{"at the upper threshold", limits, enginetest.Running(2), loads(2, 2), `{"wanted":2}`, 2, "average load 2 of 2 readings is between 1 and 2: stay at 2", ""},
		{"at the lower threshold", limits, enginetest.Running(2), loads(1, 1), `{"wanted":2}`, 2, "average load 1 of 2 readings is between 1 and 2: stay at 2", ""},
		{"at the maximum", limits, enginetest.Running(10), loads(9, 9, 9, 9, 9, 9, 9, 9, 9, 9), `{"wanted":10}`, 10, "average load 9 of 10 readings is above 2: stay at the maximum of 10", ""},
		{"at the minimum", limits, enginetest.Running(1), loads(0), `{"wanted":1}`, 1, "average load 0 of 1 readings is below 1: stay at the minimum of 1", ""},
		{
			"by steps, clamped", scaling(`"minimum_vms":1,"maximum_vms":5,"scale_up_n_vms":4`), enginetest.Running(3), loads(9, 9, 9), `{"wanted":3}`, 5,
			"average load 9 of 3 readings is above 2: from 3 to 5 of at most 5", `{"wanted":5,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{
			"down by a negative step, clamped", scaling(`"minimum_vms":2,"scale_down_n_vms":-4`), enginetest.Running(5), loads(0, 0, 0, 0, 0), `{"wanted":5}`, 2,
			"average load 0 of 5 readings is below 1: from 5 to 2 of at least 2", `{"wanted":2,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{
			"no limit, and no overflow", scaling(`"minimum_vms":1,"scale_up_n_vms":9223372036854775807`), enginetest.Running(2), loads(9, 9), `{"wanted":2}`, math.MaxInt,
			"average load 9 of 2 readings is above 2: from 2 to 9223372036854775807; 2 of", `{"wanted":9223372036854775807,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{
			"the least step down", scaling(`"minimum_vms":0,"scale_down_n_vms":-9223372036854775808`), enginetest.Running(2), loads(0, 0), `{"wanted":2}`, 0,
			"average load 0 of 2 readings is below 1: from 2 to 0 of at least 0", `{"wanted":0,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{
			"in the cool-down", limits, enginetest.Running(3), loads(9, 9, 9), `{"wanted":3,"scaled_at":"2026-03-02T11:57:00.5Z"}`, 3,
			"cool-down of the last scale action until 2026-03-02 12:00:00: stay at 3; all 3", "",
		},
		{
			"at its end", limits, enginetest.Running(3), loads(9, 9, 9), `{"wanted":3,"scaled_at":"2026-03-02T11:57:00Z"}`, 4,
			"average load 9 of 3 readings is above 2: from 3 to 4", `{"wanted":4,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{"heals in the cool-down", limits, enginetest.Running(2), loads(0, 0), `{"wanted":3,"scaled_at":"2026-03-02T12:00:00Z"}`, 3, "cool-down of the last scale action until 2026-03-02 12:03:00: stay at 3; 2 of 3 wanted instances are there: launch 1", ""},
		{"new limits hold in the cool-down", scaling(`"minimum_vms":4`), enginetest.Running(3), nil, `{"wanted":3,"scaled_at":"2026-03-02T12:00:00Z"}`, 4, "cool-down of the last scale action until 2026-03-02 12:03:00: stay at 4", `{"wanted":4,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{
			"what is to come is a part of the step", limits, enginetest.Running(3), loads(9, 9, 9), `{"wanted":5}`, 5,
			"average load 9 of 3 readings is above 2: stay at 5, of which 2 are to come; 3 of 5 wanted instances are there: launch 2", "",
		},
		{"hold", limits, enginetest.Running(3), loads(0, none, none), `{"wanted":3}`, 3, "average load 0 of 1 readings is below 1, but no fresh load of 2 of 3 running instances is known: stay at 3", ""},
		{"hold, but up", limits, enginetest.Running(3), loads(9, none, none), `{"wanted":3}`, 4, "average load 9 of 1 readings is above 2: from 3 to 4", `{"wanted":4,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{"half is enough to go in", limits, enginetest.Running(2), loads(0, none), `{"wanted":2}`, 1, "average load 0 of 1 readings is below 1: from 2 to 1", `{"wanted":1,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{"nothing is known", limits, enginetest.Running(2), nil, `{"wanted":2}`, 2, "no fresh load of 2 of 2 running instances is known: stay at 2", ""},
		{"ignore", onMissing("ignore_instance"), enginetest.Running(3), loads(0, none, none), `{"wanted":3}`, 2, "average load 0 of 1 readings is below 1: from 3 to 2", `{"wanted":2,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{"ignore, but nothing is known", onMissing("ignore_instance"), enginetest.Running(2), nil, `{"wanted":2}`, 2, "no fresh load of 2 of 2", ""},
		{
			"fail out", onMissing("fail_out"), enginetest.Running(3), loads(0, none, none), `{"wanted":3}`, 4,
			"no fresh load of 2 of 3 running instances is known and on_missing is fail_out: from 3 to 4", `{"wanted":4,"scaled_at":"2026-03-02T12:00:00Z"}`,
		},
		{"the average of both", both, enginetest.Running(1), own, `{"wanted":1}`, 2, "average load 5 of 2 readings is above 2: from 1 to 2", `{"wanted":2,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{"the domain's own alone", domainOnly, enginetest.Running(1), own, `{"wanted":1}`, 2, "average load 9 of 1 readings is above 2: from 1 to 2", `{"wanted":2,"scaled_at":"2026-03-02T12:00:00Z"}`},
		{"the domain's own is missing", both, enginetest.Running(2), loads(0, 0), `{"wanted":2}`, 2, "average load 0 of 2 readings is below 1, but no fresh load of the domain is known: stay at 2", ""},
		{"both are missing", both, enginetest.Running(2), nil, `{"wanted":2}`, 2, "no fresh load of the domain and of 2 of 2 running instances is known: stay at 2", ""},
		{
			"only up", conf(`"sensor_type":"nats","minimum_vms":1,"metric":"load","monitor_sensors":["load"],"scale_up_threshold":2`), enginetest.Running(2), loads(0, 0), `{"wanted":2}`, 2,
			"average load 0 of 2 readings is not above 2: stay at 2", "",
		},
		{
			"only down", conf(`"sensor_type":"nats","minimum_vms":1,"metric":"load","monitor_sensors":["load"],"scale_down_threshold":2`), enginetest.Running(2), loads(5, 5), `{"wanted":2}`, 2,
			"average load 5 of 2 readings is not below 2: stay at 2", "",
		},
		{"no source", strings.Replace(limits, `"sensor_type":"nats",`, "", 1), enginetest.Running(1), nil, `{"wanted":1}`, 1, "nothing reads load, since sensor_type is not given: stay at 1", ""},
		{"a memory of somebody else", limits, enginetest.Running(2), nil, `{"wanted":"x","scaled_at":3}`, 2, "no fresh load", `{"wanted":2}`},
		{"a memory out of limits", limits, enginetest.Running(2), nil, `{"wanted":-7}`, 1, "no fresh load", `{"wanted":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &engines.View{Now: enginetest.Start, Instances: tt.instances, Readings: tt.readings, Memory: json.RawMessage(tt.memory), MaxActions: enginetest.Many}
			if tt.memory == "" {
				v.Memory = nil
			}
			d := enginetest.Decided(t, engine(t, tt.conf), v)
			if d.Target != tt.target || !strings.HasPrefix(d.Reason, tt.reason) {
				t.Errorf("target %d, %q; want %d, %q", d.Target, d.Reason, tt.target, tt.reason)
			}
			if tt.keeps == "" {
				tt.keeps = tt.memory
			}
			if diff := cmp.Diff(tt.keeps, string(d.Memory)); diff != "" {
				t.Error(diff)
			}
			if !json.Valid(d.Saw) {
				t.Errorf("saw %s", d.Saw)
			}
		})
	}
}

func TestEngine_Saw(t *testing.T) {
	e := engine(t, scaling(`"minimum_vms":1,"maximum_vms":5,"scale_up_n_vms":4`))
	d := enginetest.Decided(t, e, &engines.View{Now: enginetest.Start, Instances: enginetest.Running(3), Readings: loads(9, 9), Memory: json.RawMessage(`{"wanted":3}`), MaxActions: enginetest.Many})
	const want = `{"measured":{"metric":"load","average":9,"fresh":2,"running":3,"missing":1,"absent":["i00002"],"on_missing":"hold"},` +
		`"scale_up_threshold":2,"scale_down_threshold":1,"minimum":1,"maximum":5,"healthy":3,"from":3,"unclamped":7,"wanted":5}`
	if diff := cmp.Diff(want, string(d.Saw)); diff != "" {
		t.Error(diff)
	}
	const scaled = `{"wanted":3,"scaled_at":"2026-03-02T11:58:30Z"}`
	d = enginetest.Decided(t, e, &engines.View{Now: enginetest.Start, Instances: enginetest.Running(3), Readings: loads(9, 9, 9), Memory: json.RawMessage(scaled), MaxActions: enginetest.Many})
	if !strings.Contains(string(d.Saw), `"average":9,`) || !strings.HasSuffix(string(d.Saw), `"wanted":3,"cooldown_seconds":90}`) {
		t.Errorf("%s", d.Saw)
	}
}

// TestEngine_DecideWithoutThreshold: the config of the reference's test keeps its
// minimum, whatever the load and whatever there was before.
func TestEngine_DecideWithoutThreshold(t *testing.T) {
	e := engine(t, reference)
	for n, launches := range []int{1, 0, 0, 0} {
		v := &engines.View{Now: enginetest.Start, Instances: enginetest.Running(n), Readings: loads(9, 9, 9), Memory: json.RawMessage(`{"wanted":3}`), MaxActions: enginetest.Many}
		d := enginetest.Decided(t, e, v)
		if d.Target != 1 || len(d.Launches) != launches || len(d.Terminations) != max(n-1, 0) || d.Memory != nil {
			t.Errorf("%d instances: %+v", n, d)
		}
		if !strings.HasPrefix(d.Reason, "no threshold is given: keep the minimum of 1; ") {
			t.Errorf("%d instances: %q", n, d.Reason)
		}
	}
	want := []engines.Launch{{DeployableType: "fake", Site: "fake", Allocation: "also.fake"}}
	if diff := cmp.Diff(want, enginetest.Decided(t, e, &engines.View{MaxActions: enginetest.Many}).Launches); diff != "" {
		t.Error(diff)
	}
}

func TestEngine_DecideVictims(t *testing.T) {
	e := engine(t, scaling(`"minimum_vms":1,"scale_down_n_vms":2,"retirable_nodes":["i00001"]`))
	d := enginetest.Decided(t, e, &engines.View{Now: enginetest.Start, Instances: enginetest.Running(4), Readings: loads(0, 0, 0, 0), MaxActions: enginetest.Many})
	if diff := cmp.Diff([]string{"i00001", "i00003"}, d.Terminations); diff != "" {
		t.Error(diff)
	}
}

func TestEngine_DecideUnique(t *testing.T) {
	e := engine(t, scaling(`"minimum_vms":1,"unique_key":"slot","unique_values":"a,b"`))
	v := &engines.View{Now: enginetest.Start, MaxActions: enginetest.Many}
	for range 10 {
		d := enginetest.Decided(t, e, v)
		for _, launch := range d.Launches {
			i := enginetest.Running(len(v.Instances) + 1)[len(v.Instances)]
			i.ExtraVars = launch.ExtraVars
			v.Instances = append(v.Instances, i)
		}
		v.Memory, v.Now, v.Readings = d.Memory, v.Now.Add(time.Hour), engines.Readings{"load": {}}
		for _, i := range v.Instances {
			v.Readings["load"][i.ID] = engines.Reading{Value: 9, Time: v.Now}
		}
	}
	d := enginetest.Decided(t, e, v)
	if len(v.Instances) != 2 || d.Target != 3 || !strings.HasSuffix(d.Reason, `; 1 more wait, since all 2 values of "slot" are taken`) {
		t.Errorf("%d instances, target %d: %s", len(v.Instances), d.Target, d.Reason)
	}
	if string(v.Instances[0].ExtraVars) != `{"slot":"a"}` || string(v.Instances[1].ExtraVars) != `{"slot":"b"}` {
		t.Errorf("%s, %s", v.Instances[0].ExtraVars, v.Instances[1].ExtraVars)
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := engine(t, scaling(`"minimum_vms":1`))
	v := &engines.View{Now: enginetest.Start, Instances: enginetest.Running(3), Readings: loads(1.5, 1.5, 1.5), MaxActions: enginetest.Many}
	for _, tt := range []struct {
		conf   string
		target int
	}{
		{scaling(`"minimum_vms":1`), 3},
		{scaling(`"minimum_vms":5`), 5},
		{scaling(`"minimum_vms":1,"maximum_vms":2`), 2},
		{`{}`, 2}, // refused
		{conf(`"minimum_vms":7`), 7},
		{scaling(`"minimum_vms":1`), 3}, // again from what there is
	} {
		err := e.Reconfigure(json.RawMessage(tt.conf))
		if (err != nil) != (tt.conf == `{}`) {
			t.Fatal(err)
		}
		d := enginetest.Decided(t, e, v)
		if d.Target != tt.target {
			t.Errorf("%s: target %d, want %d", tt.conf, d.Target, tt.target)
		}
		v.Memory = d.Memory
	}
}

func BenchmarkEngine_Decide(b *testing.B) {
	v := &engines.View{Now: enginetest.Start, Instances: enginetest.Running(1000), Memory: json.RawMessage(`{"wanted":1000}`), MaxActions: enginetest.Many}
	for name, load := range map[string]float64{"between": 1.5, "up": 9, "down": 0} {
		values := make([]float64, len(v.Instances))
		for n := range values {
			values[n] = load
		}
		v.Readings = loads(values...)
		e := engine(b, scaling(`"minimum_vms":1,"scale_up_n_vms":50,"scale_down_n_vms":50`))
		b.Run(name, func(b *testing.B) {
			enginetest.Measure(b, e, v)
		})
	}
}
