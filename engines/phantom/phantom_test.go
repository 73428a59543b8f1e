package phantom_test

import (
	"encoding/json"
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

func TestEngine_Decide(t *testing.T) {
	ill := enginetest.Running(2)
	ill[0].Health = events.HealthMissing
	gone := enginetest.Running(2)
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
		{"all run", conf(2, ""), enginetest.Running(2), 9, 0, "", events.EngineStable, "all 2 wanted instances are running"},
		{"what failed or ends is launched anew at once", conf(2, ""), gone, 9, 2, "", events.EnginePending, "launch 2"},
		{"unhealthy", conf(2, ""), ill, 9, 1, "i00000", events.EnginePending, "terminate 1 unhealthy"},
		{"surplus", conf(1, ""), enginetest.Running(3), 9, 0, "i00002 i00001", events.EnginePending, "terminate 2"},
		{"surplus: retirable ones first", conf(1, `,"retirable_nodes":["i00000","x"]`), enginetest.Running(3), 9, 0, "i00000 i00002", events.EnginePending, "terminate 2"},
		{"retirable ones that are wanted", conf(3, `,"retirable_nodes":"i00000, i00001"`), enginetest.Running(3), 9, 0, "", events.EngineStable, "running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, phantom.Kind(), tt.conf, nil), &engines.View{Instances: tt.instances, MaxActions: tt.most})
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
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: conf(0, "")},
		{Conf: conf(3, `,"provisioner_vars":{"a":1},"retirable_nodes":null`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{"domain_desired_size":null,"iaas_site":"s"}`, Incomplete: true},
		{Conf: ``, Field: "domain_desired_size", Message: "is required"},
		{Conf: conf(-1, ""), Field: "domain_desired_size", Message: "is -1, but must be an integer of 0 or more"},
		{Conf: `{"domain_desired_size":-1}`, Incomplete: true, Field: "domain_desired_size"},
		{Conf: `{"domain_desired_size":1.5}`, Field: "domain_desired_size", Message: "must be an integer"},
		{Conf: `{"domain_desired_size":1}`, Field: "iaas_site", Message: "is required"},
		{Conf: `{"domain_desired_size":1,"iaas_site":".."}`, Field: "iaas_site", Message: "must be a name"},
		{Conf: `{"domain_desired_size":1,"iaas_site":"s"}`, Field: "iaas_allocation", Message: "is required"},
		{Conf: `{"domain_desired_size":1,"iaas_site":"s","iaas_allocation":"a"}`, Field: "deployable_type", Message: "is required"},
		{Conf: conf(1, `,"retirable_nodes":[1]`), Field: "retirable_nodes"},
		{Conf: conf(1, `,"provisioner_vars":[]`), Field: "provisioner_vars", Message: "must be a JSON object"},
		{Conf: conf(1, `,"preserve_n":1`), Field: "preserve_n", Message: "is not known"},
	})
	if kind.Name != "phantom" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.phantom.PhantomSingleSiteEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	enginetest.CheckDoc(t, kind, conf(1, ""))
}

func TestEngine_Reconfigure(t *testing.T) {
	e := enginetest.Made(t, phantom.Kind(), conf(1, ""), nil)
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
	e, v := enginetest.Made(b, phantom.Kind(), conf(990, ""), nil), &engines.View{Instances: enginetest.Running(1000), MaxActions: enginetest.Many}
	enginetest.Measure(b, e, v)
}
