package needy_test

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
	"github.com/seed-524e47bf/epum/engines/needy"
	"github.com/seed-524e47bf/epum/events"
)

// conf is an engine_conf with the launch keys and these.
func conf(more string) string {
	return `{"iaas_site":"s","iaas_allocation":"small","deployable_type":"worker",` + more + `}`
}

func TestKind_Validate(t *testing.T) {
	kind := needy.Kind()
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: conf(`"preserve_n":0`)},
		{Conf: conf(`"preserve_n":3,"retirable_nodes":["a","b"],"unique_key":"k","unique_values":["a"],"provisioner_vars":{}`)},
		{Conf: conf(`"preserve_n":3,"retirable_nodes":" a , b","unique_key":"k","unique_values":"a, b,"`)},
		{Conf: conf(`"preserve_n":3,"retirable_nodes":null,"unique_key":null,"unique_values":null,"provisioner_vars":null`)},
		{Conf: conf(`"preserve_n":3,"retirable_nodes":""`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"iaas_site":"s"}`, Incomplete: true},
		{Conf: `{"preserve_n":null}`, Incomplete: true},
		{Conf: `{"unique_key":"k"}`, Incomplete: true},
		{Conf: ``, Field: "preserve_n", Message: "is required: how many"},
		{Conf: conf(`"preserve_n":null`), Field: "preserve_n", Message: "is required"},
		{Conf: conf(`"preserve_n":-1`), Field: "preserve_n", Message: "is -1, but must be an integer of 0 or more"},
		{Conf: `{"preserve_n":-1}`, Incomplete: true, Field: "preserve_n", Message: "0 or more"},
		{Conf: conf(`"preserve_n":1.5`), Field: "preserve_n", Message: "must be an integer"},
		{Conf: conf(`"preserve_n":"1"`), Field: "preserve_n", Message: "must be an integer"},
		{Conf: conf(`"preserve_n":1e400`), Field: "preserve_n", Message: "must be an integer"},
		{Conf: conf(`"preserve_n":1,"preserve_n":2`), Field: "preserve_n", Message: "given twice"},
		{Conf: `{"preserve_n":1,"iaas_allocation":"a","deployable_type":"t"}`, Field: "iaas_site", Message: "is required"},
		{Conf: `{"preserve_n":1,"iaas_site":"s","deployable_type":"t"}`, Field: "iaas_allocation", Message: "is required"},
		{Conf: `{"preserve_n":1,"iaas_site":"s","iaas_allocation":"a"}`, Field: "deployable_type", Message: "is required"},
		{Conf: `{"deployable_type":""}`, Incomplete: true, Field: "deployable_type", Message: "must be a name"},
		{Conf: conf(`"preserve_n":1,"retirable_nodes":7`), Field: "retirable_nodes", Message: "must be a list of strings, or one string with commas between them"},
		{Conf: conf(`"preserve_n":1,"retirable_nodes":[7]`), Field: "retirable_nodes", Message: "must be a list of strings"},
		{Conf: conf(`"preserve_n":1,"unique_key":"k"`), Field: "unique_values", Message: "is required with unique_key"},
		{Conf: conf(`"preserve_n":1,"unique_values":"k"`), Field: "unique_key", Message: "is required with unique_values"},
		{Conf: conf(`"preserve_n":1,"unique_key":"k","unique_values":"a,a"`), Field: "unique_values", Message: `has the value "a"`},
		{Conf: conf(`"preserve_n":1,"provisioner_vars":[]`), Field: "provisioner_vars", Message: "must be a JSON object"},
		{Conf: conf(`"preserve_n":1,"force_site":"s"`), Field: "force_site", Message: "is not known"},
		{Conf: `{"more":1}`, Incomplete: true, Field: "more", Message: "is not known"},
	})
	if kind.Name != "needy" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.needy.NeedyEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	enginetest.CheckDoc(t, kind, conf(`"preserve_n":1`))
}

func TestEngine_Decide(t *testing.T) {
	slot := func(id string, state events.InstanceState, health events.Health, value string) *events.Instance {
		return &events.Instance{ID: id, State: state, Health: health, ExtraVars: json.RawMessage(`{"slot":"` + value + `"}`)}
	}
	const unique = `,"unique_key":"slot","unique_values":" a, b ,c"`
	for _, tt := range []struct {
		name      string
		conf      string
		instances []*events.Instance
		launches  []string // their extravars
		victims   []string
		state     events.EngineState
		reason    string
	}{
		{"the first", `"preserve_n":2`, nil, []string{"", ""}, nil, events.EnginePending, "0 of 2 wanted instances are there: launch 2"},
		{"all there", `"preserve_n":2`, enginetest.Running(2), nil, nil, events.EngineStable, "all 2 wanted instances are running"},
		{"none wanted", `"preserve_n":0`, enginetest.Running(2), nil, []string{"i00001", "i00000"}, events.EnginePending, "2 instances are there and 0 are wanted: terminate 2"},
		{"retirable first", `"preserve_n":1,"retirable_nodes":" i00000 , w"`, enginetest.Running(3), nil, []string{"i00000", "i00002"}, events.EnginePending, "3 instances are there and 1 are wanted: terminate 2"},
		{"retirable but needed", `"preserve_n":2,"retirable_nodes":["i00000"]`, enginetest.Running(2), nil, nil, events.EngineStable, "all 2 wanted instances are running"},
		{
			"each has a value", `"preserve_n":2` + unique, nil,
			[]string{`{"slot":"a"}`, `{"slot":"b"}`},
			nil,
			events.EnginePending, "0 of 2 wanted instances are there: launch 2",
		},
		{
			"a replacement takes over", `"preserve_n":3` + unique,
			[]*events.Instance{slot("x", events.Running, events.HealthOK, "a"), slot("y", events.Running, events.HealthMissing, "b"), slot("z", events.Terminating, events.HealthOK, "c")},
			[]string{`{"slot":"b"}`, `{"slot":"c"}`},
			[]string{"y"},
			events.EnginePending, "1 of 3 wanted instances are there: launch 2; terminate 1 unhealthy",
		},
		{
			"out of values", `"preserve_n":5` + unique,
			[]*events.Instance{slot("x", events.Running, events.HealthOK, "b")},
			[]string{`{"slot":"a"}`, `{"slot":"c"}`},
			nil,
			events.EnginePending, `1 of 5 wanted instances are there: launch 2; 2 more wait, since all 3 values of "slot" are taken`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := enginetest.Decided(t, enginetest.Made(t, needy.Kind(), conf(tt.conf), nil), &engines.View{Instances: tt.instances, MaxActions: enginetest.Many})
			var launches []engines.Launch
			for _, vars := range tt.launches {
				launch := engines.Launch{DeployableType: "worker", Site: "s", Allocation: "small"}
				if vars != "" {
					launch.ExtraVars = json.RawMessage(vars)
				}
				launches = append(launches, launch)
			}
			if diff := cmp.Diff(launches, d.Launches); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.victims, d.Terminations); diff != "" {
				t.Error(diff)
			}
			if d.State != tt.state || d.Reason != tt.reason || d.Memory != nil {
				t.Errorf("%s, %q, keeps %s; want %s, %q", d.State, d.Reason, d.Memory, tt.state, tt.reason)
			}
		})
	}
}

func TestEngine_Reconfigure(t *testing.T) {
	e := enginetest.Made(t, needy.Kind(), conf(`"preserve_n":1`), nil)
	target := func() int { return enginetest.Decided(t, e, &engines.View{MaxActions: enginetest.Many}).Target }
	if err := e.Reconfigure(json.RawMessage(conf(`"preserve_n":4`))); err != nil || target() != 4 {
		t.Errorf("target %d, %v", target(), err)
	}
	for _, bad := range []string{`{}`, conf(`"preserve_n":-1`), conf(`"preserve_n":2,"unique_key":"k"`)} {
		if err := e.Reconfigure(json.RawMessage(bad)); err == nil || target() != 4 {
			t.Errorf("%s: target %d, %v; want that of before", bad, target(), err)
		}
	}
}

// TestEngine_AdversarialProvisioner: reports fail, are late, come twice and in any
// order; once the provisioner behaves, what is wanted is there, each with a value
// of its own. At no time do two that stay have the same value.
func TestEngine_AdversarialProvisioner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := rapid.IntRange(0, 6).Draw(t, "wanted")
		w := enginetest.New(t, needy.Kind(), conf(fmt.Sprintf(`"preserve_n":%d,"unique_key":"slot","unique_values":"a,b,c,d"`, wanted)))
		w.MaxActions = rapid.IntRange(1, 5).Draw(t, "most")
		w.Incurable = true // what is unhealthy may be going, so a recovery would be two with a value
		const wild, steps = 30, 60
		for step := range steps {
			w.Now = w.Now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
			d := w.Decide(t)
			held := map[string]bool{}
			for _, i := range w.Instances() {
				if i.Valid() && !i.Unhealthy() {
					if held[string(i.ExtraVars)] {
						t.Fatalf("two have %s", i.ExtraVars)
					}
					held[string(i.ExtraVars)] = true
				}
			}
			if len(held) > wanted && len(d.Terminations) < w.MaxActions {
				t.Fatalf("%d stay of %d wanted", len(held), wanted)
			}
			if step < wild {
				w.Misbehave(t)
				continue
			}
			w.Now = w.Now.Add(time.Minute) // the longest that a launch is held back
			w.Behave()
		}
		if got, want := w.Healthy(), min(wanted, 4); got != want {
			t.Fatalf("came to rest at %d, want %d", got, want)
		}
	})
}

func BenchmarkEngine_Decide(b *testing.B) {
	v := &engines.View{Instances: enginetest.Running(1000), MaxActions: enginetest.Many}
	var values []string
	for n, i := range v.Instances {
		values = append(values, fmt.Sprint("v", n))
		i.ExtraVars = json.RawMessage(`{"slot":"` + values[n] + `"}`)
	}
	unique := `,"unique_key":"slot","unique_values":"` + strings.Join(values, ",") + `"`
	for name, text := range map[string]string{"at rest": `"preserve_n":1000`, "out of values": `"preserve_n":1001` + unique} {
		b.Run(name, func(b *testing.B) {
			e := enginetest.Made(b, needy.Kind(), conf(text), nil)
			enginetest.Measure(b, e, v)
		})
	}
}
