package phantommulti_test

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
	"github.com/seed-524e47bf/epum/engines/phantommulti"
	"github.com/seed-524e47bf/epum/events"
)

// conf is one that keeps so many at the sites a and b, and more keys.
func conf(a, b int, more string) string {
	return fmt.Sprintf(`{"clouds":[{"site_name":"a","size":%d},{"site_name":"b","size":%d}],"dtname":"t","iaas_allocation":"m"%s}`, a, b, more)
}

func newEngine(t testing.TB, conf string) engines.Engine {
	t.Helper()
	e, err := phantommulti.Kind().New(json.RawMessage(conf), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fleet are running instances i0, i1, … at such sites.
func fleet(sites string) []*events.Instance {
	var instances []*events.Instance
	for n, site := range strings.Fields(sites) {
		instances = append(instances, &events.Instance{ID: fmt.Sprintf("i%d", n), Site: site, State: events.Running, Health: events.HealthOK})
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
		{"each site for itself", conf(1, 2, ""), fleet("a a b"), 9, "b", "i1", events.EnginePending, "site b: 1 of 2"},
		{"unhealthy", conf(1, 1, ""), ill, 9, "a", "i0", events.EnginePending, "terminate 1 unhealthy"},
		{"retirable ones first", conf(1, 1, `,"retirable_nodes":["i0"]`), fleet("a a b"), 9, "", "i0", events.EnginePending, "terminate 1"},
		{"a site no longer listed", conf(1, 1, ""), fleet("x a b y"), 9, "", "i0 i3", events.EnginePending, "site x, which is not in clouds: 1 instances are there and 0 are wanted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := newEngine(t, tt.conf).Decide(&engines.View{Instances: tt.instances, MaxActions: tt.most})
			if err != nil {
				t.Fatal(err)
			}
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
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: conf(0, 3, "")},
		{conf: conf(0, 3, `,"provisioner_vars":{"a":1},"retirable_nodes":null,"deployable_type":"t"`)},
		{conf: ``, incomplete: true},
		{conf: `{"clouds":[{}]}`, incomplete: true},
		{conf: ``, field: "clouds", message: "is required"},
		{conf: conf(1, -1, ""), field: "clouds.1.size", message: `is -1, but must be an integer from 0 to 1000000 (site "b")`},
		{conf: `{"clouds":[{"site_name":"b","size":-1}]}`, incomplete: true, field: "clouds.0.size"},
		{conf: `{"clouds":[{"site_name":"b","size":true}]}`, field: "clouds.0.size", message: `must be an integer (site "b")`},
		{conf: `{"clouds":[{"site_name":"b"}]}`, field: "clouds.0.size", message: "is required"},
		{conf: `{"clouds":[{"size":1}]}`, field: "clouds.0.site_name", message: "is required"},
		{conf: `{"clouds":[{"site_name":"a","size":1},{"site_name":"a","size":1}]}`, field: "clouds.1.site_name", message: "already"},
		{conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":".."}`, field: "dtname", message: "must be a name"},
		{conf: `{"clouds":[{"site_name":"a","size":1}],"deployable_type":".."}`, field: "deployable_type", message: "must be a name"},
		{conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":"t"}`, field: "iaas_allocation", message: "is required"},
		{conf: conf(1, 1, `,"deployable_type":"u"`), field: "deployable_type", message: "give one of them"},
		{conf: conf(1, 1, `,"retirable_nodes":[1]`), field: "retirable_nodes"},
		{conf: conf(1, 1, `,"minimum_vms":1`), field: "minimum_vms", message: "is not known"},
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
	if kind.Name != "phantom_multi" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.phantom_multi.PhantomMultiNEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	for _, key := range []string{"clouds", "site_name", "size", "rank", "dtname", "deployable_type", "iaas_allocation", "provisioner_vars", "retirable_nodes"} {
		if !strings.Contains(kind.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := newEngine(t, conf(1, 0, ""))
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
	e, v := newEngine(b, conf(490, 490, "")), &engines.View{Instances: fleet(strings.Repeat("a b ", 500)), MaxActions: enginetest.Many}
	for b.Loop() {
		if _, err := e.Decide(v); err != nil {
			b.Fatal(err)
		}
	}
}
