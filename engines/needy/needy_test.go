package needy_test

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
	"github.com/seed-524e47bf/epum/engines/needy"
	"github.com/seed-524e47bf/epum/events"
)

const many = 998 // actions a decision may have

// conf is an engine_conf with the launch keys and these.
func conf(more string) string {
	return `{"iaas_site":"s","iaas_allocation":"small","deployable_type":"worker",` + more + `}`
}

func engine(t interface {
	Helper()
	Fatal(...any)
}, conf string,
) engines.Engine {
	t.Helper()
	e, err := needy.Kind().New(json.RawMessage(conf), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKind_Validate(t *testing.T) {
	kind := needy.Kind()
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string
	}{
		{conf: conf(`"preserve_n":0`)},
		{conf: conf(`"preserve_n":3,"retirable_nodes":["a","b"],"unique_key":"k","unique_values":["a"],"provisioner_vars":{}`)},
		{conf: conf(`"preserve_n":3,"retirable_nodes":" a , b","unique_key":"k","unique_values":"a, b,"`)},
		{conf: conf(`"preserve_n":3,"retirable_nodes":null,"unique_key":null,"unique_values":null,"provisioner_vars":null`)},
		{conf: conf(`"preserve_n":3,"retirable_nodes":""`)},
		{conf: ``, incomplete: true},
		{conf: `{}`, incomplete: true},
		{conf: `{"iaas_site":"s"}`, incomplete: true},
		{conf: `{"preserve_n":null}`, incomplete: true},
		{conf: `{"unique_key":"k"}`, incomplete: true},
		{conf: ``, field: "preserve_n", message: "is required: how many"},
		{conf: conf(`"preserve_n":null`), field: "preserve_n", message: "is required"},
		{conf: conf(`"preserve_n":-1`), field: "preserve_n", message: "is -1, but must be an integer of 0 or more"},
		{conf: `{"preserve_n":-1}`, incomplete: true, field: "preserve_n", message: "0 or more"},
		{conf: conf(`"preserve_n":1.5`), field: "preserve_n", message: "must be an integer"},
		{conf: conf(`"preserve_n":"1"`), field: "preserve_n", message: "must be an integer"},
		{conf: conf(`"preserve_n":1e400`), field: "preserve_n", message: "must be an integer"},
		{conf: conf(`"preserve_n":1,"preserve_n":2`), field: "preserve_n", message: "given twice"},
		{conf: `{"preserve_n":1,"iaas_allocation":"a","deployable_type":"t"}`, field: "iaas_site", message: "is required"},
		{conf: `{"preserve_n":1,"iaas_site":"s","deployable_type":"t"}`, field: "iaas_allocation", message: "is required"},
		{conf: `{"preserve_n":1,"iaas_site":"s","iaas_allocation":"a"}`, field: "deployable_type", message: "is required"},
		{conf: `{"deployable_type":""}`, incomplete: true, field: "deployable_type", message: "must be a name"},
		{conf: conf(`"preserve_n":1,"retirable_nodes":7`), field: "retirable_nodes", message: "must be a list of strings, or one string with commas between them"},
		{conf: conf(`"preserve_n":1,"retirable_nodes":[7]`), field: "retirable_nodes", message: "must be a list of strings"},
		{conf: conf(`"preserve_n":1,"unique_key":"k"`), field: "unique_values", message: "is required with unique_key"},
		{conf: conf(`"preserve_n":1,"unique_values":"k"`), field: "unique_key", message: "is required with unique_values"},
		{conf: conf(`"preserve_n":1,"unique_key":"k","unique_values":"a,a"`), field: "unique_values", message: `has the value "a"`},
		{conf: conf(`"preserve_n":1,"provisioner_vars":[]`), field: "provisioner_vars", message: "must be a JSON object"},
		{conf: conf(`"preserve_n":1,"force_site":"s"`), field: "force_site", message: "is not known"},
		{conf: `{"more":1}`, incomplete: true, field: "more", message: "is not known"},
	} {
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		refused, ok := errors.AsType[*engines.FieldError](err)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!ok || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want %s: …%s…", tt.conf, err, tt.field, tt.message)
		}
		if _, newErr := kind.New(json.RawMessage(tt.conf), nil); !tt.incomplete && (newErr == nil) != (err == nil) {
			t.Errorf("%s: Validate says %v and New %v", tt.conf, err, newErr)
		}
	}
	if kind.Name != "needy" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.needy.NeedyEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	for key := range strings.FieldsSeq("preserve_n iaas_site iaas_allocation deployable_type retirable_nodes unique_key unique_values provisioner_vars") {
		if !strings.Contains(kind.Doc, "| `"+key+"` |") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestEngine_Decide(t *testing.T) {
	slot := func(id string, state events.InstanceState, health events.Health, value string) *events.Instance {
		return &events.Instance{ID: id, State: state, Health: health, ExtraVars: json.RawMessage(`{"slot":"` + value + `"}`)}
	}
	runs := func(ids ...string) (list []*events.Instance) {
		for _, id := range ids {
			list = append(list, &events.Instance{ID: id, State: events.Running, Health: events.HealthOK})
		}
		return list
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
		{"all there", `"preserve_n":2`, runs("x", "y"), nil, nil, events.EngineStable, "all 2 wanted instances are running"},
		{"none wanted", `"preserve_n":0`, runs("x", "y"), nil, []string{"y", "x"}, events.EnginePending, "2 instances are there and 0 are wanted: terminate 2"},
		{"retirable first", `"preserve_n":1,"retirable_nodes":" x , w"`, runs("x", "y", "z"), nil, []string{"x", "z"}, events.EnginePending, "3 instances are there and 1 are wanted: terminate 2"},
		{"retirable but needed", `"preserve_n":2,"retirable_nodes":["x"]`, runs("x", "y"), nil, nil, events.EngineStable, "all 2 wanted instances are running"},
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
			d, err := engine(t, conf(tt.conf)).Decide(&engines.View{Instances: tt.instances, MaxActions: many})
			if err != nil {
				t.Fatal(err)
			}
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
	e := engine(t, conf(`"preserve_n":1`))
	target := func() int {
		d, err := e.Decide(&engines.View{MaxActions: many})
		if err != nil {
			t.Fatal(err)
		}
		return d.Target
	}
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
		text := conf(fmt.Sprintf(`"preserve_n":%d,"unique_key":"slot","unique_values":"a,b,c,d"`, wanted))
		e := engine(t, text)
		v := &engines.View{MaxActions: rapid.IntRange(1, 5).Draw(t, "most")}
		healths := []events.Health{events.HealthUnknown, events.HealthOK, events.HealthOutOfContact, events.HealthMissing, events.HealthProcessError}
		const wild, steps = 30, 60
		for step := range steps {
			d, err := e.Decide(v)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := engine(t, text).Decide(v)
			if diff := cmp.Diff(d, again); diff != "" {
				t.Fatalf("a new engine decides otherwise: %s", diff)
			}
			fold(v, d)
			held := map[string]bool{}
			for _, i := range v.Instances {
				if i.Valid() && !i.Unhealthy() {
					if held[string(i.ExtraVars)] {
						t.Fatalf("two have %s", i.ExtraVars)
					}
					held[string(i.ExtraVars)] = true
				}
			}
			if len(held) > max(wanted, 0) && len(d.Terminations) < v.MaxActions {
				t.Fatalf("%d stay of %d wanted", len(held), wanted)
			}
			if step >= wild {
				behave(v)
				continue
			}
			if len(v.Instances) > 0 {
				i := rapid.SampledFrom(v.Instances).Draw(t, "instance")
				i.State = max(i.State, rapid.SampledFrom(events.InstanceStates).Draw(t, "report")) // the fold drops a lower one
				if health := rapid.SampledFrom(healths).Draw(t, "health"); !i.Unhealthy() {
					i.Health = health // what was unhealthy may be going, so a recovery would be two with a value
				}
			}
		}
		if got, want := v.Healthy(), min(wanted, 4); got != want {
			t.Fatalf("came to rest at %d, want %d", got, want)
		}
	})
}

// fold is what a decision comes to in the log.
func fold(v *engines.View, d engines.Decision) {
	for _, i := range v.Instances {
		if slices.Contains(d.Terminations, i.ID) {
			i.State = max(i.State, events.Terminating)
		}
	}
	for _, launch := range d.Launches {
		v.Instances = append(v.Instances, &events.Instance{
			ID: fmt.Sprintf("i%04d", len(v.Instances)), State: events.Requesting, Health: events.HealthUnknown, ExtraVars: launch.ExtraVars,
		})
	}
}

// behave is a provisioner that does what it was asked for.
func behave(v *engines.View) {
	for _, i := range v.Instances {
		switch {
		case i.State < events.Running:
			i.State, i.Health = events.Running, events.HealthOK
		case i.State == events.Terminating:
			i.State = events.Terminated
		}
	}
}

func BenchmarkEngine_Decide(b *testing.B) {
	v := &engines.View{MaxActions: many}
	var values []string
	for n := range 1000 {
		values = append(values, fmt.Sprint("v", n))
		v.Instances = append(v.Instances, &events.Instance{
			ID: fmt.Sprintf("i%04d", n), State: events.Running, Health: events.HealthOK, ExtraVars: json.RawMessage(`{"slot":"` + values[n] + `"}`),
		})
	}
	unique := `,"unique_key":"slot","unique_values":"` + strings.Join(values, ",") + `"`
	for name, text := range map[string]string{"at rest": `"preserve_n":1000`, "out of values": `"preserve_n":1001` + unique} {
		b.Run(name, func(b *testing.B) {
			e, err := needy.Kind().New(json.RawMessage(conf(text)), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Decide(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
