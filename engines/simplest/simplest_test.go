package simplest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/events"
)

// fleet makes instances of "<state> <health>" or "<state>", with ids i0, i1, …
func fleet(specs ...string) []*events.Instance {
	var instances []*events.Instance
	for n, spec := range specs {
		state, health, _ := strings.Cut(spec, " ")
		i := &events.Instance{ID: fmt.Sprint("i", n), State: events.InstanceState(state), Health: events.HealthUnknown}
		if health != "" {
			i.Health = events.Health(health)
		}
		if !i.State.Known() {
			panic(spec)
		}
		instances = append(instances, i)
	}
	return instances
}

func TestEngine_Decide(t *testing.T) {
	const (
		requesting = "100-REQUESTING"
		pending    = "400-PENDING"
		started    = "500-STARTED"
		running    = "600-RUNNING"
		broken     = "650-RUNNING_FAILED"
		ending     = "700-TERMINATING"
	)
	tests := []struct {
		name      string
		preserve  int
		instances []*events.Instance
		most      int
		launches  int
		victims   []string
		state     events.EngineState
		reason    string // a part of it
	}{
		{"none wanted", 0, nil, enginetest.Many, 0, nil, events.EngineStable, "no instance is wanted"},
		{"the first", 2, nil, enginetest.Many, 2, nil, events.EnginePending, "0 of 2 wanted instances are there: launch 2"},
		{"some missing", 4, fleet(running), enginetest.Many, 3, nil, events.EnginePending, "launch 3"},
		{"all asked for", 2, fleet(requesting, running), enginetest.Many, 0, nil, events.EnginePending, "1 of them running"},
		{"all running", 2, fleet(running, running+" OK"), enginetest.Many, 0, nil, events.EngineStable, "all 2 wanted instances are running"},
		{"the ended do not count", 1, fleet(ending, "800-TERMINATED", "900-FAILED", "950-REJECTED"), enginetest.Many, 1, nil, events.EnginePending, "launch 1"},
		{"a zombie is not its business", 0, fleet(ending+" ZOMBIE", "800-TERMINATED ZOMBIE"), enginetest.Many, 0, nil, events.EngineStable, "no instance is wanted"},
		{"out of contact is not unhealthy yet", 1, fleet(running + " OUT_OF_CONTACT"), enginetest.Many, 0, nil, events.EngineStable, "running"},
		{"failed while running", 1, fleet(broken), enginetest.Many, 1, []string{"i0"}, events.EnginePending, "terminate 1 unhealthy"},
		{
			"unhealthy are replaced", 4, fleet(running+" MONITOR_ERROR", running, running+" PROCESS_ERROR", pending+" MISSING"), enginetest.Many,
			3,
			[]string{"i0", "i2", "i3"},
			events.EnginePending, "launch 3; terminate 3 unhealthy",
		},
		{"unhealthy that are not needed", 1, fleet(running+" MISSING", running), enginetest.Many, 0, []string{"i0"}, events.EnginePending, "terminate 1 unhealthy"},
		{"surplus: the newest", 1, fleet(running, running, running), enginetest.Many, 0, []string{"i2", "i1"}, events.EnginePending, "3 instances are there and 1 are wanted: terminate 2"},
		{
			"surplus: first those that do not run", 2, fleet(pending, running, requesting, running, started), enginetest.Many,
			0,
			[]string{"i4", "i2", "i0"},
			events.EnginePending, "terminate 3",
		},
		{"surplus: unhealthy go anyway", 1, fleet(running, running, broken), enginetest.Many, 0, []string{"i2", "i1"}, events.EnginePending, "terminate 1; terminate 1 unhealthy"},
		{"to nothing", 0, fleet(running, pending), enginetest.Many, 0, []string{"i1", "i0"}, events.EnginePending, "terminate 2"},
		{"limit on launches", 5, nil, 3, 3, nil, events.EnginePending, "0 of 5 wanted instances are there: launch 3"},
		{"limit on surplus", 0, fleet(running, running, running), 2, 0, []string{"i2", "i1"}, events.EnginePending, "terminate 2"},
		{"limit on unhealthy", 0, fleet(broken, broken, broken), 2, 0, []string{"i0", "i1"}, events.EnginePending, "terminate 2 unhealthy"},
		{"limit: unhealthy first, then launches", 5, fleet(broken, broken), 3, 1, []string{"i0", "i1"}, events.EnginePending, "launch 1"},
		{"limit: unhealthy first, then surplus", 0, fleet(running, broken, running), 2, 0, []string{"i1", "i2"}, events.EnginePending, "terminate 1; terminate 1 unhealthy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, simplest.Kind(simplest.DefaultSite), fmt.Sprintf(`{"preserve_n":%d}`, tt.preserve), nil), &engines.View{Instances: tt.instances, MaxActions: tt.most})
			if len(d.Launches) != tt.launches {
				t.Errorf("%d launches, want %d", len(d.Launches), tt.launches)
			}
			if !slices.Equal(tt.victims, d.Terminations) {
				t.Errorf("terminates %q, want %q", d.Terminations, tt.victims)
			}
			if d.State != tt.state || d.Target != tt.preserve || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("%s, target %d, %q; want %s, %q", d.State, d.Target, d.Reason, tt.state, tt.reason)
			}
			if d.Memory != nil || d.Saw != nil {
				t.Errorf("keeps %s, saw %s", d.Memory, d.Saw)
			}
		})
	}
}

func TestEngine_Launch(t *testing.T) {
	for _, tt := range []struct {
		name, conf, site string
		want             engines.Launch
	}{
		{"defaults", `{"preserve_n":1}`, "ec2-east", engines.Launch{DeployableType: "epu_work_consumer", Site: "ec2-east", Allocation: "small"}},
		{"default site of the agent", `{"preserve_n":1}`, "local", engines.Launch{DeployableType: "epu_work_consumer", Site: "local", Allocation: "small"}},
		{
			"a null is not given", `{"preserve_n":1,"force_site":null,"epuworker_type":null,"epuworker_allocation":null,"provisioner_vars":null}`, "local",
			engines.Launch{DeployableType: "epu_work_consumer", Site: "local", Allocation: "small"},
		},
		{
			"all given", `{"preserve_n":1,"force_site":"s","epuworker_type":"t","epuworker_allocation":"","provisioner_vars":{"a":{"b":1}}}`, "local",
			engines.Launch{DeployableType: "t", Site: "s"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, simplest.Kind(tt.site), tt.conf, nil), &engines.View{MaxActions: enginetest.Many})
			if diff := cmp.Diff([]engines.Launch{tt.want}, d.Launches); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKind_Validate(t *testing.T) {
	kind := simplest.Kind(simplest.DefaultSite)
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: `{"preserve_n":0}`},
		{Conf: `{"preserve_n":3,"force_site":"s","epuworker_type":"t","epuworker_allocation":"a","provisioner_vars":{}}`},
		{Conf: ``, Incomplete: true},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"force_site":"s"}`, Incomplete: true},
		{Conf: `{"preserve_n":null}`, Incomplete: true},
		{Conf: ``, Field: "preserve_n"},
		{Conf: `{}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":null}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":-1}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":-1}`, Incomplete: true, Field: "preserve_n"},
		{Conf: `{"preserve_n":1.5}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":"1"}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":1e400}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":1,"preserve_n":2}`, Field: "preserve_n"},
		{Conf: `{"preserve_n":1,"force_site":""}`, Field: "force_site"},
		{Conf: `{"preserve_n":1,"force_site":"a\nb"}`, Field: "force_site"},
		{Conf: `{"preserve_n":1,"force_site":1}`, Field: "force_site"},
		{Conf: `{"preserve_n":1,"epuworker_type":".."}`, Field: "epuworker_type"},
		{Conf: `{"preserve_n":1,"epuworker_allocation":[]}`, Field: "epuworker_allocation"},
		{Conf: `{"preserve_n":1,"provisioner_vars":[]}`, Field: "provisioner_vars"},
		{Conf: `{"preserve_n":1,"Preserve_N":1}`, Field: "Preserve_N"},
		{Conf: `{"preserve_n":1,"more":1}`, Incomplete: true, Field: "more"},
		{Conf: `[]`, Field: "engine_conf"},
		{Conf: `null`, Field: "engine_conf"},
	})
	if !slices.Contains(kind.Aliases, "epu.decisionengine.impls.simplest.SimplestEngine") || kind.Name != "simplest" {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	enginetest.CheckDoc(t, kind, `{"preserve_n":1}`)
}

func TestEngine_Reconfigure(t *testing.T) {
	e := enginetest.Made(t, simplest.Kind(simplest.DefaultSite), `{"preserve_n":1}`, nil)
	target := func() int { return len(enginetest.Decided(t, e, &engines.View{MaxActions: enginetest.Many}).Launches) }
	if err := e.Reconfigure(json.RawMessage(`{"preserve_n":4}`)); err != nil || target() != 4 {
		t.Errorf("target %d, %v", target(), err)
	}
	for _, bad := range []string{`{}`, `{"preserve_n":-1}`, `{"preserve_n":2,"x":1}`} {
		if err := e.Reconfigure(json.RawMessage(bad)); err == nil || target() != 4 {
			t.Errorf("%s: target %d, %v; want that of before", bad, target(), err)
		}
	}
}

// TestEngine_DecideProperties: from whatever there is it comes to rest at what is
// wanted, within the limit on actions.
func TestEngine_DecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := rapid.IntRange(0, 8).Draw(t, "wanted")
		w := enginetest.New(t, simplest.Kind(simplest.DefaultSite), fmt.Sprintf(`{"preserve_n":%d}`, wanted))
		w.MaxActions = rapid.IntRange(1, 10).Draw(t, "most")
		healths := []events.Health{events.HealthUnknown, events.HealthOK, events.HealthMissing, events.HealthZombie}
		for n := range rapid.IntRange(0, 8).Draw(t, "instances") {
			w.Add(1, rapid.SampledFrom(events.InstanceStates).Draw(t, "state"))
			w.Feels(enginetest.ID(n), rapid.SampledFrom(healths).Draw(t, "health"))
		}
		for n := 0; ; n++ {
			if d := w.Decide(t); d.Actions() == 0 {
				break
			}
			if n > 50 {
				t.Fatal("does not come to rest")
			}
		}
		if w.Healthy() != wanted {
			t.Fatalf("came to rest at %d healthy instances, %d are wanted", w.Healthy(), wanted)
		}
	})
}

// BenchmarkEngine_Decide decides over 1,000 instances, ten too many.
func BenchmarkEngine_Decide(b *testing.B) {
	e := enginetest.Made(b, simplest.Kind(simplest.DefaultSite), `{"preserve_n":990}`, nil)
	v := &engines.View{MaxActions: enginetest.Many, Instances: enginetest.Running(1000)}
	enginetest.Measure(b, e, v)
}
