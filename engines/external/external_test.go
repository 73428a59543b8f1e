package external_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/external"
	"github.com/seed-524e47bf/epum/events"
)

const conf = `{"subject":"policies.web","iaas_site":"s","deployable_type":"t"}`

func TestKind_Validate(t *testing.T) {
	kind := external.Kind("epum")
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: `{"subject":"a"}`},
		{Conf: `{"subject":"a.b-c","timeout":0.5,"settings":{"x":[1]},"iaas_site":"s","iaas_allocation":"a","deployable_type":"t","provisioner_vars":{},"sensor_type":"nats","monitor_sensors":["load"]}`},
		{Conf: `{}`, Field: "subject", Message: "is required"},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"subject":null}`, Field: "subject", Message: "is required"},
		{Conf: `{"subject":""}`, Field: "subject", Message: "must have 1 to"},
		{Conf: `{"subject":"$JS.API.STREAM.PURGE.epum_events"}`, Field: "subject", Message: "server's own"},
		{Conf: `{"subject":"_INBOX.a"}`, Field: "subject", Message: "server's own"},
		{Conf: `{"subject":"epum.cmd.bob.remove_domain"}`, Field: "subject", Message: "epum's own"},
		{Conf: `{"subject":"epum"}`, Field: "subject", Message: "epum's own"},
		{Conf: `{"subject":"epumx.a"}`},
		{Conf: `{"subject":"a.*"}`, Field: "subject", Message: "wildcards"},
		{Conf: `{"subject":"a..b"}`, Field: "subject", Message: "tokens"},
		{Conf: `{"subject":"a b"}`, Field: "subject", Message: "tokens"},
		{Conf: `{"subject":"` + strings.Repeat("a", 2000) + `"}`, Field: "subject", Message: "must have 1 to"},
		{Conf: `{"subject":"a","timeout":0}`, Field: "timeout", Message: "above 0"},
		{Conf: `{"subject":"a","timeout":31}`, Field: "timeout", Message: "at most 30"},
		{Conf: `{"subject":"a","settings":[1]}`, Field: "settings", Message: "JSON object"},
		{Conf: `{"subject":"a","preserve_n":1}`, Field: "preserve_n", Message: "not known"},
		{Conf: `{"subject":"a","iaas_site":".."}`, Field: "iaas_site", Message: "must be a name"},
		{Conf: `{"subject":"a","sensor_type":"x"}`, Field: "sensor_type", Message: "one of"},
	})
	enginetest.CheckDoc(t, kind, `{"subject":"a"}`)
}

// view has two instances that run, of which one is ill.
func view(answer *engines.Answer) *engines.View {
	return &engines.View{
		Domain: events.DomainID{Owner: "o", Name: "d"}, Seq: 9, Now: time.Unix(100, 0), Seed: 7, MaxActions: 3, Memory: json.RawMessage(`{"n":1}`),
		Instances: []*events.Instance{
			{ID: "a", State: events.Running, Health: events.HealthOK, Domain: events.DomainID{Owner: "o", Name: "d"}},
			{ID: "b", State: events.Running, Health: events.HealthMissing, Domain: events.DomainID{Owner: "o", Name: "d"}},
		},
		Answer: answer,
	}
}

func decide(t *testing.T, v *engines.View) engines.Decision {
	t.Helper()
	return enginetest.Decided(t, enginetest.Made(t, external.Kind("epum"), conf, nil), v)
}

func TestEngine_Decide(t *testing.T) {
	got := decide(t, view(&engines.Answer{Body: json.RawMessage(
		`{"launches":[{},{"site":"other","deployable_type":"u","allocation":"big","extravars":{"k":"v"}}],"terminations":["b"],` +
			`"reason":"three are wanted","engine_state":"PENDING_DE","target":3,"memory":{"n":2}}`,
	)}))
	want := engines.Decision{
		Launches: []engines.Launch{
			{DeployableType: "t", Site: "s"},
			{DeployableType: "u", Site: "other", Allocation: "big", ExtraVars: json.RawMessage(`{"k":"v"}`)},
		},
		Terminations: []string{"b"}, Reason: "three are wanted", State: events.EnginePending, Target: 3,
		Memory: json.RawMessage(`{"n":2}`), Saw: json.RawMessage(`{"subject":"policies.web"}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestEngine_Decide_target: what is launched is wanted, whatever the answer says, so
// that it can be in the place of what is ill.
func TestEngine_Decide_target(t *testing.T) {
	for _, tt := range []struct {
		answer string
		want   int
	}{
		{`{"launches":[{}],"terminations":["b"],"reason":"r"}`, 2},
		{`{"launches":[{}],"terminations":["b","b"],"reason":"r","target":0}`, 2},
		{`{"launches":[{},{}],"reason":"r","target":3}`, 4},
		{`{"launches":[{}],"reason":"r","target":7}`, 7},
		{`{"terminations":["a"],"reason":"r"}`, 0},
		{`{"reason":"r","target":1}`, 1},
	} {
		if got := decide(t, view(&engines.Answer{Body: json.RawMessage(tt.answer)})); got.Target != tt.want {
			t.Errorf("%s: the target is %d, not %d: %s", tt.answer, got.Target, tt.want, got.Reason)
		}
	}
}

// TestEngine_Decide_unsound leaves the domain as it is, and says why.
func TestEngine_Decide_unsound(t *testing.T) {
	for name, tt := range map[string]struct {
		answer *engines.Answer
		reason string
	}{
		"not asked":            {nil, "nobody has been asked"},
		"no answer":            {&engines.Answer{Err: "no answer within 2s"}, "no answer within 2s"},
		"no JSON":              {&engines.Answer{Body: json.RawMessage(`hello`)}, "no decision"},
		"another kind":         {&engines.Answer{Body: json.RawMessage(`[1]`)}, "no decision"},
		"empty":                {&engines.Answer{Body: json.RawMessage(``)}, "no decision"},
		"no reason":            {&engines.Answer{Body: json.RawMessage(`{}`)}, "no reason"},
		"unknown field":        {&engines.Answer{Body: json.RawMessage(`{"reason":"x","launch":1}`)}, "no decision"},
		"says no":              {&engines.Answer{Body: json.RawMessage(`{"error":"I am tired"}`)}, "I am tired"},
		"too much":             {&engines.Answer{Body: json.RawMessage(`{"reason":"x","launches":[{},{},{},{}]}`)}, "4 actions, at most 3"},
		"a stranger's":         {&engines.Answer{Body: json.RawMessage(`{"reason":"x","terminations":["z"]}`)}, "no instance of the domain"},
		"bad site":             {&engines.Answer{Body: json.RawMessage(`{"reason":"x","launches":[{"site":".."}]}`)}, "its launch 0: site"},
		"bad vars":             {&engines.Answer{Body: json.RawMessage(`{"reason":"x","launches":[{"extravars":[1]}]}`)}, "extravars"},
		"bad state":            {&engines.Answer{Body: json.RawMessage(`{"reason":"x","engine_state":"FINE"}`)}, "engine_state"},
		"below nothing":        {&engines.Answer{Body: json.RawMessage(`{"reason":"x","target":-1}`)}, "below 0"},
		"a reason like a book": {&engines.Answer{Body: json.RawMessage(`{"reason":"` + strings.Repeat("x", 2000) + `"}`)}, "1024 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(t, view(tt.answer))
			if len(d.Launches)+len(d.Terminations) > 0 || d.State != events.EngineUnknown || string(d.Memory) != `{"n":1}` || d.Target != 1 {
				t.Errorf("it does something: %+v", d)
			}
			if !strings.Contains(d.Reason, tt.reason) || !strings.Contains(d.Reason, "the domain stays as it is") {
				t.Errorf("reason %q lacks %q", d.Reason, tt.reason)
			}
		})
	}
}

func TestEncodeView(t *testing.T) {
	v := view(nil)
	v.Readings = engines.Readings{"load": {"a": {Value: 0.5, Time: time.Unix(99, 0).UTC()}}}
	data, err := engines.EncodeView(v, json.RawMessage(`{"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var got engines.WireView
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	instances := got.Instances
	got.Instances = nil
	want := engines.WireView{
		Owner: "o", Domain: "d", Seq: 9, Now: time.Unix(100, 0).UTC(), Seed: 7, MaxActions: 3, Settings: json.RawMessage(`{"x":1}`),
		Memory: json.RawMessage(`{"n":1}`), Unhealthy: []string{"b"}, Readings: v.Readings,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(instances) != 2 || !strings.Contains(string(instances[0]), `"instance_id":"a"`) {
		t.Errorf("instances: %s", instances)
	}
}

func FuzzDecodeDecision(f *testing.F) {
	for _, seed := range []string{
		`{"reason":"x","launches":[{}],"terminations":["a"]}`, `{"error":"no"}`, `{"reason":"x","memory":{"a":[1]}}`, `{}`, `[`, `{"reason":"x","reason":"y"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v := view(nil)
		d, err := engines.DecodeDecision(v, body, engines.Launch{DeployableType: "t", Site: "s"})
		if err != nil {
			return
		}
		if d.Reason == "" || len(d.Launches)+len(d.Terminations) > v.MaxActions {
			t.Errorf("unsound: %+v", d)
		}
		for _, l := range d.Launches {
			if events.CheckName(l.Site) != nil || events.CheckName(l.DeployableType) != nil {
				t.Errorf("launch %+v", l)
			}
		}
	})
}

// BenchmarkEngine_Decide decides over 1,000 instances, as it is told.
func BenchmarkEngine_Decide(b *testing.B) {
	e, err := external.Kind("epum").New(json.RawMessage(conf), nil)
	if err != nil {
		b.Fatal(err)
	}
	v := large()
	if d := enginetest.Decided(b, e, v); len(d.Terminations) != 10 {
		b.Fatalf("%+v", d)
	}
	enginetest.Measure(b, e, v)
}

// BenchmarkEncodeView writes the question about 1,000 instances.
func BenchmarkEncodeView(b *testing.B) {
	v := large()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engines.EncodeView(v, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// large has 1,000 instances, of which ten are to go.
func large() *engines.View {
	v := view(nil)
	v.Instances, v.MaxActions = nil, 998
	for n := range 1000 {
		v.Instances = append(v.Instances, &events.Instance{ID: fmt.Sprintf("i%04d", n), Domain: v.Domain, State: events.Running, Health: events.HealthOK})
	}
	told := engines.WireDecision{Reason: "ten are too many", Target: 990}
	for _, i := range v.Instances[:10] {
		told.Terminations = append(told.Terminations, i.ID)
	}
	body, err := json.Marshal(told)
	if err != nil {
		panic(err)
	}
	v.Answer = &engines.Answer{Body: body}
	return v
}
