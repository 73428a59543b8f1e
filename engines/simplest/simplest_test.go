package simplest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/events"
)

const many = 998 // actions a decision may have

func engine(t interface {
	Helper()
	Fatal(...any)
}, conf string,
) engines.Engine {
	t.Helper()
	e, err := simplest.Kind(simplest.DefaultSite).New(json.RawMessage(conf), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

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
		{"none wanted", 0, nil, many, 0, nil, events.EngineStable, "no instance is wanted"},
		{"the first", 2, nil, many, 2, nil, events.EnginePending, "0 of 2 wanted instances are there: launch 2"},
		{"some missing", 4, fleet(running), many, 3, nil, events.EnginePending, "launch 3"},
		{"all asked for", 2, fleet(requesting, running), many, 0, nil, events.EnginePending, "1 of them running"},
		{"all running", 2, fleet(running, running+" OK"), many, 0, nil, events.EngineStable, "all 2 wanted instances are running"},
		{"the ended do not count", 1, fleet(ending, "800-TERMINATED", "900-FAILED", "950-REJECTED"), many, 1, nil, events.EnginePending, "launch 1"},
		{"a zombie is not its business", 0, fleet(ending+" ZOMBIE", "800-TERMINATED ZOMBIE"), many, 0, nil, events.EngineStable, "no instance is wanted"},
		{"out of contact is not unhealthy yet", 1, fleet(running + " OUT_OF_CONTACT"), many, 0, nil, events.EngineStable, "running"},
		{"failed while running", 1, fleet(broken), many, 1, []string{"i0"}, events.EnginePending, "terminate 1 unhealthy"},
		{
			"unhealthy are replaced", 4, fleet(running+" MONITOR_ERROR", running, running+" PROCESS_ERROR", pending+" MISSING"), many,
			3,
			[]string{"i0", "i2", "i3"},
			events.EnginePending, "launch 3; terminate 3 unhealthy",
		},
		{"unhealthy that are not needed", 1, fleet(running+" MISSING", running), many, 0, []string{"i0"}, events.EnginePending, "terminate 1 unhealthy"},
		{"surplus: the newest", 1, fleet(running, running, running), many, 0, []string{"i2", "i1"}, events.EnginePending, "3 instances are there and 1 are wanted: terminate 2"},
		{
			"surplus: first those that do not run", 2, fleet(pending, running, requesting, running, started), many,
			0,
			[]string{"i4", "i2", "i0"},
			events.EnginePending, "terminate 3",
		},
		{"surplus: unhealthy go anyway", 1, fleet(running, running, broken), many, 0, []string{"i2", "i1"}, events.EnginePending, "terminate 1; terminate 1 unhealthy"},
		{"to nothing", 0, fleet(running, pending), many, 0, []string{"i1", "i0"}, events.EnginePending, "terminate 2"},
		{"limit on launches", 5, nil, 3, 3, nil, events.EnginePending, "0 of 5 wanted instances are there: launch 3"},
		{"limit on surplus", 0, fleet(running, running, running), 2, 0, []string{"i2", "i1"}, events.EnginePending, "terminate 2"},
		{"limit on unhealthy", 0, fleet(broken, broken, broken), 2, 0, []string{"i0", "i1"}, events.EnginePending, "terminate 2 unhealthy"},
		{"limit: unhealthy first, then launches", 5, fleet(broken, broken), 3, 1, []string{"i0", "i1"}, events.EnginePending, "launch 1"},
		{"limit: unhealthy first, then surplus", 0, fleet(running, broken, running), 2, 0, []string{"i1", "i2"}, events.EnginePending, "terminate 1; terminate 1 unhealthy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := engine(t, fmt.Sprintf(`{"preserve_n":%d}`, tt.preserve)).Decide(&engines.View{Instances: tt.instances, MaxActions: tt.most})
			if err != nil {
				t.Fatal(err)
			}
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
			e, err := simplest.Kind(tt.site).New(json.RawMessage(tt.conf), nil)
			if err != nil {
				t.Fatal(err)
			}
			d, err := e.Decide(&engines.View{MaxActions: many})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]engines.Launch{tt.want}, d.Launches); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKind_Validate(t *testing.T) {
	kind := simplest.Kind(simplest.DefaultSite)
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
	}{
		{conf: `{"preserve_n":0}`},
		{conf: `{"preserve_n":3,"force_site":"s","epuworker_type":"t","epuworker_allocation":"a","provisioner_vars":{}}`},
		{conf: ``, incomplete: true},
		{conf: `{}`, incomplete: true},
		{conf: `{"force_site":"s"}`, incomplete: true},
		{conf: `{"preserve_n":null}`, incomplete: true},
		{conf: ``, field: "engine_conf.preserve_n"},
		{conf: `{}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":null}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":-1}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":-1}`, incomplete: true, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":1.5}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":"1"}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":1e400}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":1,"preserve_n":2}`, field: "engine_conf.preserve_n"},
		{conf: `{"preserve_n":1,"force_site":""}`, field: "engine_conf.force_site"},
		{conf: `{"preserve_n":1,"force_site":"a\nb"}`, field: "engine_conf.force_site"},
		{conf: `{"preserve_n":1,"force_site":1}`, field: "engine_conf.force_site"},
		{conf: `{"preserve_n":1,"epuworker_type":".."}`, field: "engine_conf.epuworker_type"},
		{conf: `{"preserve_n":1,"epuworker_allocation":[]}`, field: "engine_conf.epuworker_allocation"},
		{conf: `{"preserve_n":1,"provisioner_vars":[]}`, field: "engine_conf.provisioner_vars"},
		{conf: `{"preserve_n":1,"Preserve_N":1}`, field: "engine_conf.Preserve_N"},
		{conf: `{"preserve_n":1,"more":1}`, incomplete: true, field: "engine_conf.more"},
		{conf: `[]`, field: "engine_conf"},
		{conf: `null`, field: "engine_conf"},
	} {
		var refused *engines.FieldError
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!errors.As(err, &refused) || refused.Field != tt.field || refused.Message == ""):
			t.Errorf("%s: got %v, want one about %s", tt.conf, err, tt.field)
		}
		if tt.incomplete {
			continue
		}
		if _, newErr := kind.New(json.RawMessage(tt.conf), nil); (newErr == nil) != (err == nil) {
			t.Errorf("%s: Validate says %v and New %v", tt.conf, err, newErr)
		}
	}
	if !slices.Contains(kind.Aliases, "epu.decisionengine.impls.simplest.SimplestEngine") || kind.Name != "simplest" {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	for _, key := range []string{"preserve_n", "force_site", "epuworker_type", "epuworker_allocation", "provisioner_vars"} {
		if !strings.Contains(kind.Doc, key) {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := engine(t, `{"preserve_n":1}`)
	target := func() int {
		d, err := e.Decide(&engines.View{MaxActions: many})
		if err != nil {
			t.Fatal(err)
		}
		return len(d.Launches)
	}
	if err := e.Reconfigure(json.RawMessage(`{"preserve_n":4}`)); err != nil || target() != 4 {
		t.Errorf("target %d, %v", target(), err)
	}
	for _, bad := range []string{`{}`, `{"preserve_n":-1}`, `{"preserve_n":2,"x":1}`} {
		if err := e.Reconfigure(json.RawMessage(bad)); err == nil || target() != 4 {
			t.Errorf("%s: target %d, %v; want that of before", bad, target(), err)
		}
	}
}

// TestEngine_DecideProperties: the same view gives the same decision, which
// changes nothing of it, keeps to the limit, and comes to rest at what is wanted.
func TestEngine_DecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		healths := []events.Health{events.HealthUnknown, events.HealthOK, events.HealthMissing, events.HealthZombie}
		var instances []*events.Instance
		for n := range rapid.IntRange(0, 8).Draw(t, "instances") {
			instances = append(instances, &events.Instance{
				ID: fmt.Sprint("i", n), State: rapid.SampledFrom(events.InstanceStates).Draw(t, "state"), Health: rapid.SampledFrom(healths).Draw(t, "health"),
			})
		}
		wanted := rapid.IntRange(0, 8).Draw(t, "wanted")
		most := rapid.IntRange(1, 10).Draw(t, "most")
		view := &engines.View{Instances: instances, MaxActions: most}
		e := engine(t, fmt.Sprintf(`{"preserve_n":%d}`, wanted))
		decide := func() engines.Decision {
			d, err := e.Decide(view)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		before := copies(instances)
		first := decide()
		if diff := cmp.Diff(first, decide()); diff != "" {
			t.Fatalf("decides otherwise the second time: %s", diff)
		}
		if diff := cmp.Diff(before, instances); diff != "" {
			t.Fatalf("changed its view: %s", diff)
		}
		for n := 0; ; n++ {
			d := decide()
			actions := len(d.Launches) + len(d.Terminations)
			if actions > most {
				t.Fatalf("%d actions, at most %d are allowed", actions, most)
			}
			if actions == 0 {
				break
			}
			if n > 50 {
				t.Fatal("does not come to rest")
			}
			view.Instances = apply(view.Instances, d)
		}
		good := 0
		for _, i := range view.Instances {
			if i.Valid() && !i.Unhealthy() {
				good++
			}
		}
		if good != wanted {
			t.Fatalf("came to rest at %d healthy instances, %d are wanted", good, wanted)
		}
	})
}

func copies(instances []*events.Instance) []*events.Instance {
	var list []*events.Instance
	for _, i := range instances {
		c := *i
		list = append(list, &c)
	}
	return list
}

// apply is what comes of a decision once it is folded.
func apply(instances []*events.Instance, d engines.Decision) []*events.Instance {
	next := copies(instances)
	for _, i := range next {
		if slices.Contains(d.Terminations, i.ID) {
			i.State = events.Terminating
		}
	}
	for range d.Launches {
		next = append(next, &events.Instance{ID: fmt.Sprint("j", len(next)), State: events.Requesting, Health: events.HealthUnknown})
	}
	return next
}

// BenchmarkEngine_Decide decides over 1,000 instances, ten too many.
func BenchmarkEngine_Decide(b *testing.B) {
	e, v := engine(b, `{"preserve_n":990}`), &engines.View{MaxActions: many}
	for n := range 1000 {
		v.Instances = append(v.Instances, &events.Instance{ID: fmt.Sprintf("i%04d", n), State: events.Running, Health: events.HealthOK})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Decide(v); err != nil {
			b.Fatal(err)
		}
	}
}
