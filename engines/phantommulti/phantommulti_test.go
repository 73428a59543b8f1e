package phantommulti_test

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
	"github.com/seed-524e47bf/epum/engines/phantommulti"
	"github.com/seed-524e47bf/epum/events"
)

// conf is one that keeps so many at the sites a and b, and more keys.
func conf(a, b int, more string) string {
	return fmt.Sprintf(`{"clouds":[{"site_name":"a","size":%d},{"site_name":"b","size":%d}],"dtname":"t","iaas_allocation":"m"%s}`, a, b, more)
}

// fleet are running instances at such sites.
func fleet(sites string) []*events.Instance {
	at := strings.Fields(sites)
	instances := enginetest.Running(len(at))
	for n, i := range instances {
		i.Site = at[n]
	}
	return instances
}

func TestEngine_Decide(t *testing.T) {
	ill := fleet("a b")
	ill[0].Health = events.HealthMissing
	for _, tt := range []struct {
		name      string
		conf      string
		instances []*events.Instance
		most      int
		launches  string
		victims   string
		state     events.EngineState
		reason    string // a part of it
	}{
		{"none wanted", conf(0, 0, ""), nil, 9, "", "", events.EngineStable, "site a: no instance is wanted, and none is left; site b: no"},
		{"the first", conf(2, 1, ""), nil, 9, "a a b", "", events.EnginePending, "site a: 0 of 2 wanted instances are there: launch 2; site b: 0 of 1 wanted instances are there: launch 1"},
		{"by rank", `{"clouds":[{"site_name":"a","size":1,"rank":2},{"site_name":"b","size":1,"rank":1}],"deployable_type":"t","iaas_allocation":"m"}`, nil, 9, "b a", "", events.EnginePending, "site b"},
		{"the limit", conf(2, 2, ""), nil, 3, "a a b", "", events.EnginePending, "launch 1"},
		{"all run", conf(1, 1, ""), fleet("a b"), 9, "", "", events.EngineStable, "all 1 wanted instances are running"},
		{"each site for itself", conf(1, 2, ""), fleet("a a b"), 9, "b", "i00001", events.EnginePending, "site b: 1 of 2"},
		{"unhealthy", conf(1, 1, ""), ill, 9, "a", "i00000", events.EnginePending, "terminate 1 unhealthy"},
		{"retirable ones first", conf(1, 1, `,"retirable_nodes":["i00000"]`), fleet("a a b"), 9, "", "i00000", events.EnginePending, "terminate 1"},
		{"a site no longer listed", conf(1, 1, ""), fleet("x a b y"), 9, "", "i00000 i00003", events.EnginePending, "site x, which is not in clouds: 1 instances are there and 0 are wanted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, phantommulti.Kind(), tt.conf, nil), &engines.View{Instances: tt.instances, MaxActions: tt.most})
			var launches []engines.Launch
			for site := range strings.FieldsSeq(tt.launches) {
				launches = append(launches, engines.Launch{DeployableType: "t", Site: site, Allocation: "m"})
			}
			if diff := cmp.Diff(launches, d.Launches); diff != "" {
				t.Error(diff)
			}
			if got := strings.Join(d.Terminations, " "); got != tt.victims || d.State != tt.state || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("terminates %q, %s, %q", got, d.State, d.Reason)
			}
		})
	}
}

func TestKind_Validate(t *testing.T) {
	kind := phantommulti.Kind()
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: conf(0, 3, "")},
		{Conf: conf(0, 3, `,"provisioner_vars":{"a":1},"retirable_nodes":null,"deployable_type":"t"`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{"clouds":[{}]}`, Incomplete: true},
		{Conf: ``, Field: "clouds", Message: "is required"},
		{Conf: conf(1, -1, ""), Field: "clouds.1.size", Message: `is -1, but must be an integer from 0 to 1000000 (site "b")`},
		{Conf: `{"clouds":[{"site_name":"b","size":-1}]}`, Incomplete: true, Field: "clouds.0.size"},
		{Conf: `{"clouds":[{"site_name":"b","size":true}]}`, Field: "clouds.0.size", Message: `must be an integer (site "b")`},
		{Conf: `{"clouds":[{"site_name":"b"}]}`, Field: "clouds.0.size", Message: "is required"},
		{Conf: `{"clouds":[{"size":1}]}`, Field: "clouds.0.site_name", Message: "is required"},
		{Conf: `{"clouds":[{"site_name":"a","size":1},{"site_name":"a","size":1}]}`, Field: "clouds.1.site_name", Message: "already"},
		{Conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":".."}`, Field: "dtname", Message: "must be a name"},
		{Conf: `{"clouds":[{"site_name":"a","size":1}],"deployable_type":".."}`, Field: "deployable_type", Message: "must be a name"},
		{Conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":"t"}`, Field: "iaas_allocation", Message: "is required"},
		{Conf: conf(1, 1, `,"deployable_type":"u"`), Field: "deployable_type", Message: "give one of them"},
		{Conf: conf(1, 1, `,"retirable_nodes":[1]`), Field: "retirable_nodes"},
		{Conf: conf(1, 1, `,"minimum_vms":1`), Field: "minimum_vms", Message: "is not known"},
	})
	if kind.Name != "phantom_multi" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.phantom_multi.PhantomMultiNEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	enginetest.CheckDoc(t, kind, conf(1, 1, ""))
}

func TestEngine_Reconfigure(t *testing.T) {
	e := enginetest.Made(t, phantommulti.Kind(), conf(1, 0, ""), nil)
	for _, tt := range []struct {
		conf string
		ok   bool
		want int
	}{{conf(4, 1, ""), true, 5}, {conf(-1, 1, ""), false, 5}, {`{}`, false, 5}, {conf(0, 0, ""), true, 0}} {
		err := e.Reconfigure(json.RawMessage(tt.conf))
		d, _ := e.Decide(&engines.View{MaxActions: 9})
		if (err == nil) != tt.ok || d.Target != tt.want {
			t.Errorf("%s: %v, target %d", tt.conf, err, d.Target)
		}
	}
}

// TestEngine_DecideProperties: whatever the provisioners do, there are never more
// than wanted at a site, and a site that is down keeps no other one from what is
// wanted there; once all behave, all run and nothing is done any more.
func TestEngine_DecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := map[string]int{"a": rapid.IntRange(0, 5).Draw(t, "a"), "b": rapid.IntRange(0, 5).Draw(t, "b")}
		w := enginetest.New(t, phantommulti.Kind(), conf(sizes["a"], sizes["b"], ""))
		decide := func() enginetest.Step {
			w.Now = w.Now.Add(5 * time.Second)
			step := w.Decide(t)
			counts, _, _ := w.Count()
			for site, size := range sizes {
				if counts[site] > size || counts[site]+step.Held < size {
					t.Fatalf("%d instances at site %s and %d launches held back, %d are wanted", counts[site], site, step.Held, size)
				}
			}
			return step
		}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			decide()
			w.Misbehave(t)
		}
		w.Down["a"] = true
		for range 30 {
			decide()
			w.Behave()
		}
		if counts, _, running := w.Count(); counts["b"] != sizes["b"] || running < sizes["b"] {
			t.Fatalf("%v are there, though only site a is down", counts)
		}
		clear(w.Down)
		for range 30 {
			decide()
			w.Behave()
		}
		if counts, all, running := w.Count(); counts["a"] != sizes["a"] || all != running {
			t.Fatalf("%v are there, %d of them running", counts, running)
		}
		if step := decide(); step.News || step.State != events.EngineStable {
			t.Fatalf("at rest, it still does %+v", step.Decision)
		}
	})
}

// BenchmarkEngine_Decide decides over 1,000 instances, ten too many at each site.
func BenchmarkEngine_Decide(b *testing.B) {
	e, v := enginetest.Made(b, phantommulti.Kind(), conf(490, 490, ""), nil), &engines.View{Instances: fleet(strings.Repeat("a b ", 500)), MaxActions: enginetest.Many}
	enginetest.Measure(b, e, v)
}
