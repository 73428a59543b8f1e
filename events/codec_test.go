package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenEvents = "testdata/events.golden"

// samples are events of every type, in full and with the least.
func samples() []events.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 60_000_000, time.UTC)
	full := config(`{"engine_class":"simplest"}`, `{"preserve_n":2,"note":"<a & b>"}`, `{"monitor_health":true}`)
	return []events.Event{
		events.DefinitionAdded{Definition: full},
		events.DefinitionAdded{},
		events.DefinitionUpdated{Definition: config("", `{"preserve_n":null}`, "")},
		events.DefinitionRemoved{},
		events.DomainAdded{DefinitionID: "def.1", DefinitionSeq: 7, Config: full, SubscriberName: "watch", SubscriberOp: "tell"},
		events.DomainAdded{DefinitionID: "def.1", DefinitionSeq: 7},
		events.DomainReconfigured{Config: config("", `{"preserve_n":3}`, "")},
		events.DomainSubscribed{SubscriberName: "watch", SubscriberOp: "tell"},
		events.DomainUnsubscribed{SubscriberName: "watch"},
		events.DomainRemovalRequested{},
		events.DomainRemoved{},
		events.LaunchRequested{
			LaunchID: "l1", DeployableType: "worker", Site: "ec2-east", Allocation: "small", ExtraVars: raw(`{"a":{"b":[1.0]}}`), Attempt: 3,
		},
		events.LaunchRequested{LaunchID: "l1", DeployableType: "worker", Site: "local", Allocation: "small"},
		events.LaunchRequested{LaunchID: "l1", DeployableType: "worker", Site: "local", Allocation: "small", Replaces: "i1"},
		events.StateChanged{State: events.Running, Fields: fields("", "null", "public_ip", `"1.2.3.4"`, "update_counter", "12")},
		events.StateChanged{State: events.Pending},
		events.TerminateRequested{},
		events.HealthChanged{Health: events.HealthProcessError, Errors: []json.RawMessage{raw(`"broken"`), raw(`{"name":"p1"}`)}, ErrorTime: &at},
		events.HealthChanged{Health: events.HealthOK},
		events.Reaped{},
		events.DecisionMade{
			DomainSeq: 1, ConfigSeq: 2, RefusedSeq: 3, InputSeq: 4, Engine: "simplest", Now: at, Seed: 5, Saw: raw(`{"target":2}`), Launches: []string{"i1"},
			Terminations: []string{"i2"}, Reason: "because", EngineState: events.EnginePending, Memory: raw(`{"m":1}`),
		},
		events.DecisionMade{DomainSeq: 1, ConfigSeq: 2, InputSeq: 4, Now: at, Reason: "because", EngineState: events.EngineStable},
		events.LeaderElected{Process: "p1"},
		events.PassCommitted{Pass: "decide", Domains: 1, Launched: 2, Terminated: 3, Changed: 4},
		events.PassCommitted{Pass: "reap"},
	}
}

func TestCodec_Golden(t *testing.T) {
	var got bytes.Buffer
	for _, ev := range samples() {
		body, err := events.Encode(ev)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(ev.Type() + " " + string(body) + "\n")
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenEvents, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenEvents)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Fatalf("the log's bytes have changed, which old logs do not follow (-golden +got):\n%s", diff)
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(want), "\n"), "\n") {
		typ, body, _ := strings.Cut(line, " ")
		if diff := cmp.Diff(samples()[n], events.Decode(typ, []byte(body))); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}

// TestCodec_Complete holds the wire names, the samples and Decode together.
func TestCodec_Complete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, `"epum.`) {
			name, _ := strconv.Unquote(lit.Value)
			declared = append(declared, name)
		}
		return true
	})
	slices.Sort(declared)
	var sampled []string
	for _, ev := range samples() {
		sampled = append(sampled, ev.Type())
		if u, ok := events.Decode(ev.Type(), []byte("{}")).(events.Unknown); ok {
			t.Errorf("%s is not decoded: %v", ev.Type(), u.Err)
		}
	}
	slices.Sort(sampled)
	if diff := cmp.Diff(declared, slices.Compact(sampled)); diff != "" {
		t.Errorf("samples lack a type (-declared +sampled):\n%s", diff)
	}
}

func TestDecode_Unknown(t *testing.T) {
	for _, tt := range []struct {
		typ, body string
		readable  bool // only the type is not known
	}{
		{"epum.domain.added.v2", `{}`, true},
		{events.TypeDomainAdded, ``, false},
		{events.TypeDomainAdded, `{`, false},
		{events.TypeDomainAdded, `[]`, false},
		{events.TypeStateChanged, `{"state":1}`, false},
		{events.TypeHealthChanged, `{"error_time":"yesterday"}`, false},
		{events.TypeDecisionMade, `{"seed":-1}`, false},
	} {
		u, ok := events.Decode(tt.typ, []byte(tt.body)).(events.Unknown)
		if !ok || u.Name != tt.typ || u.Type() != tt.typ || (u.Err == nil) != tt.readable {
			t.Errorf("Decode(%q, %s) = %#v", tt.typ, tt.body, u)
		}
	}
	if _, ok := events.Decode("", nil).(events.Foreign); !ok {
		t.Error("a message without a type counts as an event")
	}
	got := events.Decode(events.TypeLeaderElected, []byte(`{"process":"p","later":{"x":1}}`))
	if diff := cmp.Diff(events.LeaderElected{Process: "p"}, got); diff != "" {
		t.Errorf("an unknown field: %s", diff)
	}
}

func TestEncode_RefusesNoJSON(t *testing.T) {
	if got, err := events.Encode(events.DefinitionAdded{Definition: config("{", "", "")}); err == nil {
		t.Errorf("got %s", got)
	}
}

// TestEncode_RefusesTooDeep: what is encoded can be decoded.
func TestEncode_RefusesTooDeep(t *testing.T) {
	report := func(value string) events.Event {
		return events.StateChanged{State: events.Running, Fields: fields("x", value)}
	}
	for name, tt := range map[string]struct {
		ev events.Event
		ok bool
	}{
		"report":                {report(nested(9_998)), true},
		"report, one more":      {report(nested(9_999)), false},
		"report, far too deep":  {report(nested(20_000)), false},
		"brackets in a string":  {report(`"\"` + strings.Repeat("[", 30_000) + `"`), true},
		"many beside the other": {report("[" + strings.Repeat("[],", 20_000) + "[]]"), true},
		"launch":                {events.LaunchRequested{ExtraVars: []byte(`{"x":` + nested(9_998) + `}`)}, true},
		"launch, one more":      {events.LaunchRequested{ExtraVars: []byte(`{"x":` + nested(9_999) + `}`)}, false},
		"health":                {events.HealthChanged{Errors: rawList(nested(9_998))}, true},
		"health, one more":      {events.HealthChanged{Errors: rawList(nested(9_999))}, false},
		"definition, one more":  {events.DefinitionAdded{Definition: config(`{"x":`+nested(9_998)+`}`, "", "")}, false},
	} {
		body, err := events.Encode(tt.ev)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, unknown := events.Decode(tt.ev.Type(), body).(events.Unknown); err == nil && unknown {
			t.Errorf("%s: cannot be read back", name)
		}
	}
}

func TestTooDeep(t *testing.T) {
	for value, want := range map[string]bool{
		`1`: false, nested(100): false, nested(101): true, `"` + strings.Repeat("[", 300) + `"`: false,
		`{"a":` + nested(99) + `,"b":` + nested(99) + `}`: false, `{"a":[],"b":` + nested(100) + `}`: true,
		`["\\",` + nested(100) + `]`: true, `["\"` + strings.Repeat("{", 300) + `"]`: false,
	} {
		if got := events.TooDeep([]byte(value)); got != want {
			t.Errorf("%.20s… of %d bytes: %v", value, len(value), got)
		}
	}
}

// keyOf is a key that an event of a type may happen to.
func keyOf(typ string) events.Key {
	parts := strings.Split(typ, ".")
	if len(parts) < 2 {
		return "x"
	}
	d := events.DomainID{Owner: "o", Name: "d"}
	return map[string]events.Key{
		"definition": events.DefinitionKey("def"), "domain": d.Key(), "instance": d.InstanceKey("i"), "decision": d.DecisionKey(),
		"leader": events.LeaderKey, "pass": events.PassKey,
	}[parts[1]]
}

// FuzzDecode: whatever is in the log, it decodes, folds, and gives documents
// that can be read back.
func FuzzDecode(f *testing.F) {
	for _, ev := range samples() {
		body, err := events.Encode(ev)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ev.Type(), body)
	}
	f.Add(events.TypeStateChanged, []byte(`{"state":"999-NEWER","fields":{"State":1,"SEQ":"x","epum":2,"a":[ 1 ]}}`))
	f.Add(events.TypeHealthChanged, []byte(`{"health":"\"\u2028","errors":[null, 1],"error_time":"9999-12-31T23:59:59-01:00"}`))
	f.Add(events.TypeLaunchRequested, []byte(`{"launch_id":"é\"","extravars":null,"attempt":-1}`))
	f.Add(events.TypeDomainReconfigured, []byte(`{"config":{"general":null,"health":[]}}`))
	f.Add(events.TypeDecisionMade, []byte(`{"now":"0000-01-01T00:00:00+23:59","memory":null}`))
	f.Fuzz(func(t *testing.T, typ string, body []byte) {
		ev := events.Decode(typ, body)
		if _, unknown := ev.(events.Unknown); !unknown {
			once, err := events.Encode(ev)
			if err != nil {
				t.Fatal(err)
			}
			twice, err := events.Encode(events.Decode(typ, once))
			if err != nil || !bytes.Equal(once, twice) {
				t.Errorf("%s comes back as %s, %v", once, twice, err)
			}
		}
		l := newLog().all()
		l.add(keyOf(typ), ev)
		checkDocuments(t, l.state)
	})
}
