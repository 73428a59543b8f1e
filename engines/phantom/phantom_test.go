package phantom_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantom"
	"github.com/seed-524e47bf/epum/events"
)

// conf is one with all that is required, and more keys.
func conf(size int, more string) string {
	return fmt.Sprintf(`{"domain_desired_size":%d,"iaas_site":"s","iaas_allocation":"a","deployable_type":"t"%s}`, size, more)
}

func newEngine(t testing.TB, conf string) engines.Engine {
	t.Helper()
	e, err := phantom.Kind().New(json.RawMessage(conf), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fleet are running instances i0, i1, …
func fleet(n int) []*events.Instance {
	var instances []*events.Instance
	for n := range n {
		instances = append(instances, &events.Instance{ID: fmt.Sprintf("i%d", n), Site: "s", State: events.Running, Health: events.HealthOK})
	}
	return instances
}

func TestEngine_Decide(t *testing.T) {
	ill := fleet(2)
	ill[0].Health = events.HealthMissing
	gone := fleet(2)
	gone[0].State, gone[1].State = events.Failed, events.Terminating
	for _, tt := range []struct {
		name      string
		conf      string
		instances []*events.Instance
		most      int
		launches  int
		victims   string
		state     events.EngineState
		reason    string // a part of it
	}{
		{"none wanted", conf(0, ""), nil, 9, 0, "", events.EngineStable, "no instance is wanted"},
		{"the first", conf(2, ""), nil, 9, 2, "", events.EnginePending, "launch 2"},
		{"the limit", conf(20, ""), nil, 9, 9, "", events.EnginePending, "launch 9"},
		{"all run", conf(2, ""), fleet(2), 9, 0, "", events.EngineStable, "all 2 wanted instances are running"},
		{"what failed or ends is launched anew at once", conf(2, ""), gone, 9, 2, "", events.EnginePending, "launch 2"},
		{"unhealthy", conf(2, ""), ill, 9, 1, "i0", events.EnginePending, "terminate 1 unhealthy"},
		{"surplus", conf(1, ""), fleet(3), 9, 0, "i2 i1", events.EnginePending, "terminate 2"},
		{"surplus: retirable ones first", conf(1, `,"retirable_nodes":["i0","x"]`), fleet(3), 9, 0, "i0 i2", events.EnginePending, "terminate 2"},
		{"retirable ones that are wanted", conf(3, `,"retirable_nodes":"i0, i1"`), fleet(3), 9, 0, "", events.EngineStable, "running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := newEngine(t, tt.conf).Decide(&engines.View{Instances: tt.instances, MaxActions: tt.most})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Repeat([]engines.Launch{{DeployableType: "t", Site: "s", Allocation: "a"}}, tt.launches)
			if diff := cmp.Diff(want, append([]engines.Launch{}, d.Launches...)); diff != "" {
				t.Error(diff)
			}
			if got := strings.Join(d.Terminations, " "); got != tt.victims || d.State != tt.state || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("terminates %q, %s, %q", got, d.State, d.Reason)
			}
		})
	}
}

func TestKind_Validate(t *testing.T) {
	kind := phantom.Kind()
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: conf(0, "")},
		{conf: conf(3, `,"provisioner_vars":{"a":1},"retirable_nodes":null`)},
		{conf: ``, incomplete: true},
		{conf: `{"domain_desired_size":null,"iaas_site":"s"}`, incomplete: true},
		{conf: ``, field: "domain_desired_size", message: "is required"},
		{conf: conf(-1, ""), field: "domain_desired_size", message: "is -1, but must be an integer of 0 or more"},
		{conf: `{"domain_desired_size":-1}`, incomplete: true, field: "domain_desired_size"},
		{conf: `{"domain_desired_size":1.5}`, field: "domain_desired_size", message: "must be an integer"},
		{conf: `{"domain_desired_size":1}`, field: "iaas_site", message: "is required"},
		{conf: `{"domain_desired_size":1,"iaas_site":".."}`, field: "iaas_site", message: "must be a name"},
		{conf: `{"domain_desired_size":1,"iaas_site":"s"}`, field: "iaas_allocation", message: "is required"},
		{conf: `{"domain_desired_size":1,"iaas_site":"s","iaas_allocation":"a"}`, field: "deployable_type", message: "is required"},
		{conf: conf(1, `,"retirable_nodes":[1]`), field: "retirable_nodes"},
		{conf: conf(1, `,"provisioner_vars":[]`), field: "provisioner_vars", message: "must be a JSON object"},
		{conf: conf(1, `,"preserve_n":1`), field: "preserve_n", message: "is not known"},
	} {
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		refused, ok := errors.AsType[*engines.FieldError](err)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!ok || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want one about %s", tt.conf, err, tt.field)
		}
	}
	if kind.Name != "phantom" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.phantom.PhantomSingleSiteEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	for _, key := range []string{"domain_desired_size", "iaas_site", "iaas_allocation", "deployable_type", "provisioner_vars", "retirable_nodes"} {
		if !strings.Contains(kind.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := newEngine(t, conf(1, ""))
	for _, tt := range []struct {
		conf string
		ok   bool
		want int
	}{{conf(4, ""), true, 4}, {conf(-1, ""), false, 4}, {`{}`, false, 4}, {conf(0, ""), true, 0}} {
		err := e.Reconfigure(json.RawMessage(tt.conf))
		d, _ := e.Decide(&engines.View{MaxActions: 9})
		if (err == nil) != tt.ok || d.Target != tt.want {
			t.Errorf("%s: %v, target %d", tt.conf, err, d.Target)
		}
	}
}

// TestEngine_DecideProperties: whatever the provisioner does, there are never more
// than wanted, and once it behaves, all run and nothing is done any more.
func TestEngine_DecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 6).Draw(t, "size")
		w := enginetest.New(t, phantom.Kind(), conf(size, ""))
		decide := func() enginetest.Step {
			w.Now = w.Now.Add(5 * time.Second)
			step := w.Decide(t)
			if _, all, _ := w.Count(); all > size || all+step.Held < size {
				t.Fatalf("%d instances and %d launches held back, %d are wanted", all, step.Held, size)
			}
			return step
		}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			decide()
			w.Misbehave(t)
		}
		for range 30 {
			decide()
			w.Behave()
		}
		if _, all, running := w.Count(); all != size || running != size {
			t.Fatalf("%d instances, %d of them running, %d are wanted", all, running, size)
		}
		if step := decide(); step.News || step.State != events.EngineStable {
			t.Fatalf("at rest, it still does %+v", step.Decision)
		}
	})
}

// BenchmarkEngine_Decide decides over 1,000 instances, ten too many.
func BenchmarkEngine_Decide(b *testing.B) {
	e, v := newEngine(b, conf(990, "")), &engines.View{Instances: fleet(1000), MaxActions: enginetest.Many}
	for b.Loop() {
		if _, err := e.Decide(v); err != nil {
			b.Fatal(err)
		}
	}
}
