package phantomoverflow_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
	"github.com/seed-524e47bf/epum/events"
)

var began = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// at is so many seconds after began.
func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

// conf is one with sites such as "a:2" and further keys.
func conf(sites, more string) string {
	var clouds []string
	for site := range strings.FieldsSeq(sites) {
		name, size, _ := strings.Cut(site, ":")
		clouds = append(clouds, fmt.Sprintf(`{"site_name":%q,"size":%s}`, name, size))
	}
	return fmt.Sprintf(`{"clouds":[%s],"dtname":"t","iaas_allocation":"m",%s}`, strings.Join(clouds, ","), more)
}

// fleet makes instances of "<site> <state>[ <health>]", with ids i0, i1, …; those
// that run do so since began.
func fleet(specs ...string) []*events.Instance {
	states := map[string]events.InstanceState{
		"asked": events.Requesting, "boots": events.Pending, "runs": events.Running, "broke": events.RunningFailed, "ends": events.Terminating,
	}
	var instances []*events.Instance
	for n, spec := range specs {
		words := strings.Fields(spec)
		i := &events.Instance{ID: fmt.Sprint("i", n), Site: words[0], State: states[words[1]], Health: events.HealthUnknown, StateTime: began}
		if len(words) > 2 {
			i.Health = events.Health(words[2])
		}
		if i.State >= events.Running {
			i.RunningTime = began
		}
		if i.State == "" {
			panic(spec)
		}
		instances = append(instances, i)
	}
	return instances
}

// failed are launches at a site that failed at such seconds.
func failed(site string, seconds ...int) []*events.Instance {
	var instances []*events.Instance
	for n, s := range seconds {
		instances = append(instances, &events.Instance{ID: fmt.Sprint("f", site, n, "-", s), Site: site, State: events.Failed, StateTime: at(s), Attempt: n})
	}
	return instances
}

// sites counts launches by site, as "a2 b1".
func sites(d engines.Decision) string {
	counts := map[string]int{}
	for _, l := range d.Launches {
		counts[l.Site]++
	}
	var words []string
	for site, n := range counts {
		words = append(words, fmt.Sprint(site, n))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func TestEngine_Decide(t *testing.T) {
	three := `"minimum_vms":3`
	tests := []struct {
		name      string
		conf      string
		instances []*events.Instance
		launches  string
		victims   string
		state     events.EngineState
		reason    string // a part of it
	}{
		{"none wanted", conf("a:1", `"minimum_vms":0`), nil, "", "", events.EngineStable, "none is left"},
		{"fills by rank", conf("a:2 b:-1", three), nil, "a2 b1", "", events.EnginePending, "0 instances are there and 3 are wanted, launch 2 at a, 1 at b"},
		{
			"by rank, not by place",
			`{"clouds":[{"site_name":"a","size":2,"rank":2},{"site_name":"b","size":2,"rank":1}],"deployable_type":"t","iaas_allocation":"m",` + three + `}`,
			nil, "a1 b2", "", events.EnginePending, "launch 2 at b, 1 at a",
		},
		{"the same rank: by place", `{"clouds":[{"site_name":"a","size":2,"rank":1},{"site_name":"b","size":2,"rank":1}],"dtname":"t","iaas_allocation":"m",` + three + `}`, nil, "a2 b1", "", events.EnginePending, ""},
		{"all there", conf("a:2 b:2", three), fleet("a runs", "a boots", "b runs"), "", "", events.EnginePending, "all 3 wanted instances are there, 2 of them running"},
		{"all running", conf("a:2 b:2", three), fleet("a runs", "a runs", "b runs"), "", "", events.EngineStable, "all 3 wanted instances are running"},
		{"what ends does not count", conf("a:2 b:2", three), fleet("a ends", "a runs", "b runs"), "a1", "", events.EnginePending, "2 instances are there"},
		{"unhealthy are replaced", conf("a:2 b:2", three), fleet("a runs MISSING", "a broke", "b runs"), "a2", "i0 i1", events.EnginePending, ""},
		{"shrinks from the last rank", conf("a:2 b:2 c:2", three), fleet("c runs", "b runs", "a runs", "b runs", "a runs"), "", "i0 i3", events.EnginePending, "terminate 1 at c, 1 at b"},
		{"shrinks: first what does not run", conf("a:4 b:2", three), fleet("b runs", "b boots", "a runs", "a runs"), "a1", "i1", events.EnginePending, ""},
		{"retirable ones first at their site", conf("a:-1", `"minimum_vms":1,"retirable_nodes":["i0"]`), fleet("a runs", "a boots"), "", "i0", events.EnginePending, ""},
		{"retirable ones first of those that run", conf("a:-1", `"minimum_vms":1,"retirable_nodes":["i0"]`), fleet("a runs", "a runs"), "", "i0", events.EnginePending, ""},
		{"a size that was lowered", conf("a:1 b:5", three), fleet("a runs", "a runs", "a boots"), "b2", "i2 i1", events.EnginePending, ""},
		{"a maximum that was lowered", conf("a:5", `"minimum_vms":0,"maximum_vms":1`), fleet("a boots", "a boots"), "", "i1 i0", events.EnginePending, ""},
		{"moves back: one is launched first", conf("a:3 b:3", three), fleet("b runs", "b runs", "b runs"), "a1", "", events.EnginePending, "3 go once as many run at a better site"},
		{"moves back: while it boots, nothing", conf("a:3 b:3", three), fleet("b runs", "b runs", "b runs", "a boots"), "", "", events.EnginePending, "4 instances are there and 3 are wanted; 3 go once"},
		{"moves back: once it runs, one goes and the next is launched", conf("a:3 b:3", three), fleet("b runs", "b runs", "b runs", "a runs"), "a1", "i2", events.EnginePending, ""},
		{"moves back: a part at a time", conf("a:8 b:8", `"minimum_vms":8`), slices.Concat(fleet(strings.Split(strings.Repeat("b runs,", 7)+"b runs", ",")...)), "a2", "", events.EnginePending, ""},
		{"moves back: no room for one more", conf("a:3 b:3", three+`,"maximum_vms":3`), fleet("b runs", "b runs", "b runs"), "", "", events.EngineStable, "3 stay where they are"},
		{"what is missing goes to the better site, and one moves", conf("a:3 b:3", three), fleet("b runs"), "a3", "", events.EnginePending, ""},
		{"a site no longer listed: moves", conf("a:3", three), fleet("x runs", "x runs", "x runs"), "a1", "", events.EnginePending, ""},
		{"a site no longer listed: what is too much goes", conf("a:3", `"minimum_vms":1`), fleet("x runs", "x runs", "a runs"), "", "i1 i0", events.EnginePending, ""},
		{"a site no longer listed is no place for more", conf("a:1", `"minimum_vms":1`), fleet("x broke"), "a1", "i0", events.EnginePending, ""},
		{"surplus stays until enough run elsewhere", conf("a:3 b:3", `"minimum_vms":2`), fleet("a boots", "a boots", "b runs"), "", "", events.EnginePending, "3 instances are there and 2 are wanted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, phantomoverflow.Kind(), tt.conf, nil), &engines.View{Now: at(600), Instances: tt.instances, MaxActions: enginetest.Many})
			if got := sites(d); got != tt.launches {
				t.Errorf("launches %q, want %q", got, tt.launches)
			}
			if got := strings.Join(d.Terminations, " "); got != tt.victims {
				t.Errorf("terminates %q, want %q", got, tt.victims)
			}
			if d.State != tt.state || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("%s, %q; want %s, %q", d.State, d.Reason, tt.state, tt.reason)
			}
			for _, l := range d.Launches {
				if l.DeployableType != "t" || l.Allocation != "m" || l.ExtraVars != nil {
					t.Errorf("launches %+v", l)
				}
			}
			if d.Memory != nil || !json.Valid(d.Saw) {
				t.Errorf("keeps %s, saw %s", d.Memory, d.Saw)
			}
		})
	}
}

// TestEngine_DecideLimit: what goes comes before what is launched, and both within
// the limit.
func TestEngine_DecideLimit(t *testing.T) {
	e := enginetest.Made(t, phantomoverflow.Kind(), conf("a:5 b:5", `"minimum_vms":4`), nil)
	for most, want := range map[int]string{1: "0 1", 2: "0 2", 3: "1 2", 9: "4 2"} {
		d, err := e.Decide(&engines.View{Now: began, Instances: fleet("a broke", "b broke"), MaxActions: most})
		if got := fmt.Sprint(len(d.Launches), " ", len(d.Terminations)); err != nil || got != want {
			t.Errorf("at most %d: %s, %v; want %s", most, got, err, want)
		}
	}
}

func TestEngine_Breaker(t *testing.T) {
	c := conf("a:3 b:2", `"minimum_vms":3`)
	run := fleet("b runs", "b runs")
	tests := []struct {
		name      string
		memory    string
		now       int
		instances []*events.Instance
		launches  string
		reason    string // a part of it
		keeps     string
	}{
		{
			"the first failure: passed over in the leader's back-off", "", 100, failed("a", 100), "b2", "1 wait, since every site is full or passed over; site a is passed over until 00:01:41, since its last 1 launches failed",
			`{"sites":{"a":{"failures":1,"pauses":0,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{"the back-off is over", "", 101, failed("a", 100), "a3", "launch 3 at a", `{"sites":{"a":{"failures":1,"pauses":0,"failed_at":"2026-01-02T00:01:40Z"}}}`},
		{
			"the third failure opens", "", 109, failed("a", 90, 99, 100), "b2", "site a is passed over until 00:01:50, since its last 3 launches failed",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"half open: one is tried", "", 110, failed("a", 90, 99, 100), "a1 b2", "site a is tried with one launch at a time, since its last 3 launches failed",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"half open: one at a time", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 200, fleet("a boots"), "b2", "one launch at a time",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"the records are gone, the memory is not", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 105, run, "", "1 wait",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"counted once", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 105, failed("a", 90, 99, 100), "b2", "last 3 launches",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"the probe failed: twice as long", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 139, failed("a", 120), "b2", "passed over until 00:02:20, since its last 4 launches failed",
			`{"sites":{"a":{"failures":4,"pauses":2,"failed_at":"2026-01-02T00:02:00Z"}}}`,
		},
		{
			"one that was under way fails in the pause", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 106, failed("a", 105), "b2", "until 00:01:55, since its last 4",
			`{"sites":{"a":{"failures":4,"pauses":1,"failed_at":"2026-01-02T00:01:45Z"}}}`,
		},
		{
			"10 minutes at most", `{"sites":{"a":{"failures":99,"pauses":90,"failed_at":"2026-01-02T00:00:00Z"}}}`, 599, run, "", "until 00:10:00",
			`{"sites":{"a":{"failures":99,"pauses":90,"failed_at":"2026-01-02T00:00:00Z"}}}`,
		},
		{
			"one runs: closed", `{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 160,
			[]*events.Instance{{ID: "p", Site: "a", State: events.Running, RunningTime: at(150), StateTime: at(150)}},
			"a2", "launch 2 at a", ``,
		},
		{
			"one ran, and since then one failed", `{"sites":{"a":{"failures":9,"pauses":5,"failed_at":"2026-01-02T00:01:40Z"}}}`, 170,
			append(failed("a", 140, 155), &events.Instance{ID: "p", Site: "a", State: events.Running, RunningTime: at(150), StateTime: at(150)}), "a2", "",
			`{"sites":{"a":{"failures":1,"pauses":0,"failed_at":"2026-01-02T00:02:35Z"}}}`,
		},
		{
			"all at once: a pause of 10 s still", "", 105, slices.Concat(failed("a", 100), failed("a", 100), failed("a", 100), failed("a", 100)), "b2", "until 00:01:50",
			`{"sites":{"a":{"failures":4,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`,
		},
		{
			"all sites", "", 105, append(failed("a", 98, 99, 100), failed("b", 98, 99, 101)...), "", "3 wait, since every site is full or passed over; site a is passed over until 00:01:50, since its last 3 launches failed; site b is passed over until 00:01:51",
			`{"sites":{"a":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"},"b":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:41Z"}}}`,
		},
		{"a site no longer listed is forgotten", `{"sites":{"x":{"failures":3,"pauses":1,"failed_at":"2026-01-02T00:01:40Z"}}}`, 105, nil, "a3", "", ``},
		{"memory of another version", `[1]`, 105, nil, "a3", "", ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := &engines.View{Now: at(tt.now), Instances: tt.instances, MaxActions: enginetest.Many, Memory: json.RawMessage(tt.memory)}
			d := enginetest.Decided(t, enginetest.Made(t, phantomoverflow.Kind(), c, v.Memory), v)
			if got := sites(d); got != tt.launches {
				t.Errorf("launches %q, want %q", got, tt.launches)
			}
			if !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("%q, want %q", d.Reason, tt.reason)
			}
			if string(d.Memory) != tt.keeps {
				t.Errorf("keeps %s, want %s", d.Memory, tt.keeps)
			}
			v.Memory = d.Memory
			again, err := enginetest.Made(t, phantomoverflow.Kind(), c, v.Memory).Decide(v)
			if diff := cmp.Diff(d, again); err != nil || diff != "" {
				t.Errorf("with its memory it decides otherwise: %v %s", err, diff)
			}
		})
	}
}

// TestEngine_MemorySize: what is kept of as many failing sites as there may be, with
// the longest names in JSON, fits into a record.
func TestEngine_MemorySize(t *testing.T) {
	var list string
	var instances []*events.Instance
	for n := range 16 {
		site := fmt.Sprintf("%s%02d", strings.Repeat("<", events.MaxNameBytes-2), n)
		list += site + ":9 "
		one := failed(site, 10, 20, 30, 40)
		one[3].StateTime = one[3].StateTime.Add(123456789)
		instances = append(instances, one...)
	}
	d, err := enginetest.Made(t, phantomoverflow.Kind(), conf(list, `"minimum_vms":9`), nil).Decide(&engines.View{Now: at(41), Instances: instances, MaxActions: enginetest.Many})
	if err != nil || len(d.Memory) < 10_000 || len(d.Memory) > events.MaxMemoryBytes {
		t.Errorf("keeps %d bytes, at most %d are allowed; %v", len(d.Memory), events.MaxMemoryBytes, err)
	}
}

// TestEngine_Spared: an unhealthy instance that is to wait counts, and is no
// reason to think that another one may go.
func TestEngine_Spared(t *testing.T) {
	e := enginetest.Made(t, phantomoverflow.Kind(), conf("a:2 b:2", `"minimum_vms":2`), nil)
	v := &engines.View{Now: at(600), Instances: fleet("a runs MISSING", "a runs"), MaxActions: enginetest.Many, Spared: map[string]bool{"i0": true}}
	if d, err := e.Decide(v); err != nil || len(d.Launches)+len(d.Terminations) > 0 || d.State != events.EnginePending {
		t.Errorf("%+v, %v", d, err)
	}
	v.Instances = fleet("a runs MISSING", "a runs", "b runs")
	if d, err := e.Decide(v); err != nil || len(d.Launches)+len(d.Terminations) > 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestEngine_Scale(t *testing.T) {
	c := conf("a:2 b:-1", `"minimum_vms":1,"maximum_vms":4,"metric":"load","sensor_type":"nats","monitor_sensors":["load"],"scale_up_threshold":2,"scale_down_threshold":1,"cooldown_period":60`)
	three := fleet("a runs", "a runs", "b runs")
	loads := func(values ...float64) engines.Readings {
		r := map[string]engines.Reading{}
		for n, value := range values {
			r[fmt.Sprint("i", n)] = engines.Reading{Value: value, Time: at(100)}
		}
		return engines.Readings{"load": r}
	}
	for _, tt := range []struct {
		name, memory string
		readings     engines.Readings
		launches     string
		victims      string
		reason       string
		keeps        string
	}{
		{"up", "", loads(4, 4, 4.5), "b1", "", "average load 4.167 of 3 readings is above 2: from 3 to 4 of at most 4", `{"wanted":4,"scaled_at":"2026-01-02T00:01:40Z"}`},
		{"in between", "", loads(1, 2, 1), "", "", "is between 1 and 2: stay at 3", `{"wanted":3}`},
		{"down", "", loads(0, 0, 1), "", "i2", "is below 1: from 3 to 2 of at least 1", `{"wanted":2,"scaled_at":"2026-01-02T00:01:40Z"}`},
		{"cool-down", `{"wanted":3,"scaled_at":"2026-01-02T00:01:00Z"}`, loads(9, 9, 9), "", "", "cool-down of the last scale action until 2026-01-02 00:02:00", `{"wanted":3,"scaled_at":"2026-01-02T00:01:00Z"}`},
		{"missing", "", nil, "", "", "no fresh load of 3 of 3 running instances is known: stay at 3", `{"wanted":3}`},
		{"too few to go down", "", loads(0), "", "", "is below 1, but no fresh load of 2 of 3 running instances is known: stay at 3", `{"wanted":3}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &engines.View{Now: at(100), Instances: three, Readings: tt.readings, MaxActions: enginetest.Many, Memory: json.RawMessage(tt.memory)}
			d := enginetest.Decided(t, enginetest.Made(t, phantomoverflow.Kind(), c, nil), v)
			if sites(d) != tt.launches || strings.Join(d.Terminations, " ") != tt.victims || string(d.Memory) != tt.keeps || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("launches %q, terminates %q, keeps %s, %q", sites(d), d.Terminations, d.Memory, d.Reason)
			}
		})
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := enginetest.Made(t, phantomoverflow.Kind(), conf("a:-1", `"minimum_vms":1`), nil)
	launched := func() string {
		return sites(enginetest.Decided(t, e, &engines.View{MaxActions: enginetest.Many}))
	}
	if err := e.Reconfigure(json.RawMessage(conf("b:-1", `"minimum_vms":2`))); err != nil || launched() != "b2" {
		t.Errorf("%s, %v", launched(), err)
	}
	if err := e.Reconfigure(json.RawMessage(conf("c:1", `"minimum_vms":2`))); err == nil || launched() != "b2" {
		t.Errorf("%s, %v; want that of before", launched(), err)
	}
}
