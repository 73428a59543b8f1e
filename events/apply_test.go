package events_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// change is what an event did: the documents that differ from those of
// eventLog.all, "" where one is gone.
func change(l *eventLog, before map[events.Key]string) map[events.Key]string {
	after, changed := documents(l.state), map[events.Key]string{}
	for k, doc := range after {
		if before[k] != doc {
			changed[k] = doc
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			changed[k] = ""
		}
	}
	return changed
}

func TestApply_EachType(t *testing.T) {
	const newDecision = `{"owner":"o","domain":"d","id":"id6","time":"2026-01-02T00:00:06Z","domain_seq":3,"config_seq":3,"input_seq":5,` +
		`"now":"2026-01-02T00:00:01Z","seed":9,"reason":"new","engine_state":"STABLE_DE","seq":6}`
	const domainHead = `{"name":"d","owner":"o","definition_id":"def","config":`
	const instanceHead = `{"instance_id":"i","launch_id":"l","deployable_type":"w","site":"s","allocation":"small","state":"`
	const instanceTail = `"errors":[],"error_time":null,"extravars":{},`
	preserve1 := `{"general":{},"engine_conf":{"preserve_n":1},"health":{}}`
	def2 := config("", "", `{"monitor_health":true}`)
	other := events.DomainID{Owner: "o 2", Name: "d.2"}
	failed := at(2)
	tests := []struct {
		name string
		key  events.Key
		ev   events.Event
		want string // the document of key; "": none
	}{
		{"definition added", events.DefinitionKey("d 2"), events.DefinitionAdded{Definition: def2}, `{"name":"d 2","definition":{"health":{"monitor_health":true}},"seq":6}`},
		{"definition updated", events.DefinitionKey("def"), events.DefinitionUpdated{Definition: def2}, `{"name":"def","definition":{"health":{"monitor_health":true}},"seq":6}`},
		{"definition removed", events.DefinitionKey("def"), events.DefinitionRemoved{}, ""},
		{
			"domain added", other.Key(),
			events.DomainAdded{DefinitionID: "def", DefinitionSeq: 2, SubscriberName: "s", SubscriberOp: "op"},
			`{"name":"d.2","owner":"o 2","definition_id":"def","config":{"general":{},"engine_conf":{},"health":{}},` +
				`"subscribers":[{"subscriber_name":"s","subscriber_op":"op"}],"removed":false,"added_seq":6,"config_seq":6,"seq":6}`,
		},
		{
			"domain reconfigured", dom.Key(),
			events.DomainReconfigured{Config: config("", `{"force_site":null}`, "")},
			domainHead + `{"general":{},"engine_conf":{"force_site":null,"preserve_n":1},"health":{}},"subscribers":[],"removed":false,"added_seq":3,"config_seq":6,"seq":6}`,
		},
		{
			"reconfigured to the same", dom.Key(),
			events.DomainReconfigured{Config: config("", `{"preserve_n":1}`, "")},
			domainHead + preserve1 + `,"subscribers":[],"removed":false,"added_seq":3,"config_seq":3,"seq":6}`,
		},
		{
			"reconfigured by what cannot be merged", dom.Key(),
			events.DomainReconfigured{Config: config("", `[]`, "")},
			domainHead + preserve1 + `,"subscribers":[],"removed":false,"added_seq":3,"config_seq":3,"seq":6}`,
		},
		{
			"subscribed", dom.Key(),
			events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "op"},
			domainHead + preserve1 + `,"subscribers":[{"subscriber_name":"s","subscriber_op":"op"}],"removed":false,"added_seq":3,"config_seq":3,"seq":6}`,
		},
		{
			"unsubscribed a stranger", dom.Key(),
			events.DomainUnsubscribed{SubscriberName: "s"},
			domainHead + preserve1 + `,"subscribers":[],"removed":false,"added_seq":3,"config_seq":3,"seq":6}`,
		},
		{
			"removal requested", dom.Key(),
			events.DomainRemovalRequested{},
			domainHead + preserve1 + `,"subscribers":[],"removed":true,"added_seq":3,"config_seq":3,"seq":6}`,
		},
		{"domain removed", dom.Key(), events.DomainRemoved{}, ""},
		{
			"launch requested", dom.InstanceKey("i2"),
			events.LaunchRequested{LaunchID: "l2", DeployableType: "w", Site: "s", Allocation: "big", ExtraVars: raw(`{"a":1}`), Attempt: 2},
			`{"instance_id":"i2","launch_id":"l2","deployable_type":"w","site":"s","allocation":"big","state":"100-REQUESTING",` +
				`"state_time":"2026-01-02T00:00:06Z","health":"UNKNOWN","errors":[],"error_time":null,"extravars":{"a":1},"epum":{"attempt":2},"seq":6}`,
		},
		{
			"state changed", dom.InstanceKey("i"),
			events.StateChanged{State: events.Running, Fields: fields("public_ip", `"1.2.3.4"`, "hostname", `"h"`)},
			instanceHead + `600-RUNNING","state_time":"2026-01-02T00:00:06Z","health":"UNKNOWN",` + instanceTail +
				`"hostname":"h","public_ip":"1.2.3.4","epum":{"running_time":"2026-01-02T00:00:06Z"},"seq":6}`,
		},
		{
			"state of a later version", dom.InstanceKey("i"),
			events.StateChanged{State: "999-NEWER"},
			instanceHead + `100-REQUESTING","state_time":"2026-01-02T00:00:05Z","health":"UNKNOWN",` + instanceTail + `"seq":6}`,
		},
		{
			"fields that no report may set", dom.InstanceKey("i"),
			events.StateChanged{State: events.Requesting, Fields: fields("seq", "99", "site", `"x"`, "health", `"OK"`, "epum", "{}", "State", "1")},
			instanceHead + `100-REQUESTING","state_time":"2026-01-02T00:00:05Z","health":"UNKNOWN",` + instanceTail + `"State":1,"seq":6}`,
		},
		{
			"terminate requested", dom.InstanceKey("i"),
			events.TerminateRequested{},
			instanceHead + `700-TERMINATING","state_time":"2026-01-02T00:00:06Z","health":"UNKNOWN",` + instanceTail + `"epum":{"unwanted":true},"seq":6}`,
		},
		{
			"health changed", dom.InstanceKey("i"),
			events.HealthChanged{Health: events.HealthMonitorError, Errors: rawList(`"a"`, "1"), ErrorTime: &failed},
			instanceHead + `100-REQUESTING","state_time":"2026-01-02T00:00:05Z","health":"MONITOR_ERROR",` +
				`"errors":["a",1],"error_time":"2026-01-02T00:00:02Z","extravars":{},"seq":6}`,
		},
		{"reaped", dom.InstanceKey("i"), events.Reaped{}, ""},
		{
			"decision made", dom.DecisionKey(),
			events.DecisionMade{
				DomainSeq: 3, ConfigSeq: 3, InputSeq: 5, Now: at(1), Seed: 9, Saw: raw(`{}`), Launches: []string{"x"}, Terminations: []string{"y"},
				Reason: "new", EngineState: events.EngineStable, Memory: raw("null"),
			},
			newDecision,
		},
		{"leader elected", events.LeaderKey, events.LeaderElected{Process: "q"}, `{"process":"q","epoch":6,"time":"2026-01-02T00:00:06Z","seq":6}`},
		{"pass committed", events.PassKey, events.PassCommitted{Pass: "decide"}, ""},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen[tt.ev.Type()] = true
			l := newLog().all()
			before := documents(l.state)
			l.add(tt.key, tt.ev)
			want := map[events.Key]string{tt.key: tt.want}
			if tt.key == events.PassKey {
				want = map[events.Key]string{}
			}
			if diff := cmp.Diff(want, change(l, before)); diff != "" {
				t.Errorf("changed documents (-want +got):\n%s", diff)
			}
			wantSeq := uint64(6)
			if tt.want == "" {
				wantSeq = 0
			}
			if got := l.state.SeqOf(tt.key); got != wantSeq {
				t.Errorf("SeqOf is %d, want %d", got, wantSeq)
			}
			if l.state.Seq != 6 || !l.state.Time.Equal(at(6)) || l.state.HasUnknown() {
				t.Errorf("at %d, %s, unknown %v", l.state.Seq, l.state.Time, l.state.HasUnknown())
			}
		})
	}
	for _, ev := range samples() {
		if !seen[ev.Type()] {
			t.Errorf("no case for %s", ev.Type())
		}
	}
}

// TestApply_NoDocument: what does not create is ignored where there is nothing.
func TestApply_NoDocument(t *testing.T) {
	creates := []string{
		events.TypeDefinitionAdded, events.TypeDefinitionUpdated, events.TypeDomainAdded, events.TypeLaunchRequested,
		events.TypeDecisionMade, events.TypeLeaderElected,
	}
	for _, ev := range samples() {
		l := newLog()
		l.add(keyOf(ev.Type()), ev)
		if got := len(documents(l.state)) > 0; got != slices.Contains(creates, ev.Type()) {
			t.Errorf("%s: creates a document: %v", ev.Type(), got)
		}
		if l.state.Seq != 1 || l.state.HasUnknown() {
			t.Errorf("%s: at %d, unknown %v", ev.Type(), l.state.Seq, l.state.HasUnknown())
		}
	}
}

// TestApply_NotAboveItsDocument: documents of a torn bucket read may be newer
// than the checkpoint that the fold goes on from.
func TestApply_NotAboveItsDocument(t *testing.T) {
	for _, ev := range samples() {
		key := keyOf(ev.Type())
		docs := documents(newLog().all().state)
		s := load(t, docs)
		seq := max(s.SeqOf(key), 1)
		events.Apply(s, events.Envelope{Key: key, Type: ev.Type(), Seq: seq, Time: at(seq), ID: "again"}, ev)
		if ev.Type() == events.TypePassCommitted {
			continue // has no document
		}
		// keyOf's definition, domain and instance are those of all.
		if diff := cmp.Diff(docs, documents(s)); diff != "" {
			t.Errorf("%s: %s", ev.Type(), diff)
		}
		if s.Seq != seq || !s.Time.Equal(at(seq)) {
			t.Errorf("%s: at %d, %s", ev.Type(), s.Seq, s.Time)
		}
	}
}

func TestApply_Unknown(t *testing.T) {
	keys := map[events.Key]uint64{ // → SeqOf after
		events.DefinitionKey("def"):  6,
		dom.Key():                    6,
		dom.InstanceKey("i"):         6,
		dom.DecisionKey():            6,
		events.LeaderKey:             6,
		events.PassKey:               0,
		events.DefinitionKey("none"): 0,
		events.DomainID{Owner: "x", Name: "y"}.DecisionKey(): 0,
		dom.InstanceKey("none"):                              0,
		"nothing.known":                                      0,
	}
	for key, seq := range keys {
		l := newLog().all()
		l.add(key, events.Unknown{Name: "epum.new.v9", Err: errors.New("x")})
		if got := l.state.Unknown(key); got != "epum.new.v9" || !l.state.HasUnknown() {
			t.Errorf("%s: unknown %q", key, got)
		}
		if got := l.state.SeqOf(key); got != seq {
			t.Errorf("%s: SeqOf is %d, want %d", key, got, seq)
		}
		want := documents(newLog().all().state)
		if doc, ok := want[key]; ok && seq == 6 {
			n := strings.LastIndex(doc, `"seq":`)
			want[key] = doc[:n] + `"seq":6}`
		}
		if diff := cmp.Diff(want, documents(l.state)); diff != "" {
			t.Errorf("%s: more than its sequence has changed:\n%s", key, diff)
		}
	}
}

// TestApply_OtherKind: an event on a subject of another kind changes nothing.
func TestApply_OtherKind(t *testing.T) {
	for _, ev := range samples() {
		for _, other := range samples() {
			key := keyOf(other.Type())
			if key == keyOf(ev.Type()) {
				continue
			}
			l, unknown := newLog().all(), newLog().all()
			l.add(key, ev)
			unknown.add(key, events.Unknown{Name: ev.Type()})
			if diff := cmp.Diff(documents(unknown.state), documents(l.state)); diff != "" {
				t.Fatalf("%s on %s: %s", ev.Type(), key, diff)
			}
			if got := l.state.Unknown(key); got != ev.Type() {
				t.Fatalf("%s on %s: unknown %q", ev.Type(), key, got)
			}
		}
	}
}

func TestApply_Subscribers(t *testing.T) {
	l := newLog().all()
	before := l.state.Domain(dom)
	subs := func() string { return fmt.Sprint(l.state.Domain(dom).Subscribers) }
	for _, step := range []struct {
		ev   events.Event
		want string
	}{
		{events.DomainSubscribed{SubscriberName: "a", SubscriberOp: "1"}, "[{a 1}]"},
		{events.DomainSubscribed{SubscriberName: "b", SubscriberOp: "1"}, "[{a 1} {b 1}]"},
		{events.DomainSubscribed{SubscriberName: "a", SubscriberOp: "2"}, "[{a 2} {b 1}]"},
		{events.DomainUnsubscribed{SubscriberName: "c"}, "[{a 2} {b 1}]"},
		{events.DomainUnsubscribed{SubscriberName: "a"}, "[{b 1}]"},
		{events.DomainUnsubscribed{SubscriberName: "b"}, "[]"},
	} {
		held := l.state.Domain(dom)
		was := string(held.AppendJSON(nil))
		l.add(dom.Key(), step.ev)
		if got := subs(); got != step.want {
			t.Errorf("after %v: %s, want %s", step.ev, got, step.want)
		}
		if got := string(held.AppendJSON(nil)); got != was {
			t.Errorf("%v changed a domain that was handed out: %s", step.ev, got)
		}
	}
	if len(before.Subscribers) != 0 {
		t.Error("the first domain was changed")
	}
}

// TestApply_DomainRemoved: orphan instances and the decision stay, and a new
// domain of the name starts afresh beside them.
func TestApply_DomainRemoved(t *testing.T) {
	l := newLog().all()
	l.add(dom.Key(), events.DomainSubscribed{SubscriberName: "a", SubscriberOp: "1"})
	l.add(dom.Key(), events.DomainRemovalRequested{})
	l.add(dom.Key(), events.DomainRemoved{})
	if l.state.Domain(dom) != nil || l.state.SeqOf(dom.Key()) != 0 {
		t.Error("the domain is still there")
	}
	if i := l.state.Instance("i"); i == nil || len(l.state.Instances(dom)) != 1 {
		t.Error("its instance is gone")
	}
	if l.state.SeqOf(dom.DecisionKey()) != 4 {
		t.Error("its decision, a guard still, is gone")
	}
	l.add(dom.InstanceKey("i"), events.StateChanged{State: events.Failed})
	if got := l.state.Instance("i").State; got != events.Failed {
		t.Errorf("the orphan is %s", got)
	}
	added := l.add(dom.Key(), events.DomainAdded{DefinitionID: "def"})
	d := l.state.Domain(dom)
	if d.AddedSeq != added || d.Removed || len(d.Subscribers) != 0 {
		t.Errorf("the new life has of the old: %+v", d)
	}
	l.add(dom.InstanceKey("i"), events.Reaped{})
	if l.state.Instance("i") != nil || len(l.state.Instances(dom)) != 0 || l.state.SeqOf(dom.InstanceKey("i")) != 0 {
		t.Error("the orphan is not reaped")
	}
	if n := len(slices.Collect(l.state.Domains())); n != 1 {
		t.Errorf("%d domains", n)
	}
	if n := len(slices.Collect(l.state.AllInstances())); n != 0 {
		t.Errorf("%d instances", n)
	}
	if defs := slices.Collect(l.state.Definitions()); len(defs) != 1 || defs[0] != l.state.Definition("def") {
		t.Errorf("definitions %v", defs)
	}
}

// TestApply_DecisionOutlivesItsDomain: it guards the next decision of the name.
func TestApply_DecisionOutlivesItsDomain(t *testing.T) {
	l := newLog().all()
	l.add(dom.InstanceKey("i"), events.Reaped{})
	l.add(dom.Key(), events.DomainRemoved{})
	if l.state.SeqOf(dom.DecisionKey()) != 4 || l.state.Decision(dom) == nil {
		t.Error("the decision is gone")
	}
}

func TestApply_TimeNeverGoesBack(t *testing.T) {
	s := events.NewState()
	for seq, when := range []time.Time{at(5), at(3), at(9)} {
		env := events.Envelope{Key: events.PassKey, Seq: uint64(seq + 1), Time: when}
		events.Apply(s, env, events.PassCommitted{})
	}
	if !s.Time.Equal(at(9)) || s.Seq != 3 {
		t.Errorf("at %d, %s", s.Seq, s.Time)
	}
	events.Apply(s, events.Envelope{Key: events.PassKey, Seq: 4, Time: at(1)}, events.PassCommitted{})
	if !s.Time.Equal(at(9)) || s.Seq != 4 {
		t.Errorf("at %d, %s", s.Seq, s.Time)
	}
}

func TestState_DocumentMatchesDocuments(t *testing.T) {
	l := newLog().all()
	docs := maps.Collect(l.state.Documents())
	if len(docs) != 5 {
		t.Errorf("%d documents, want 5", len(docs))
	}
	for k, d := range docs {
		if l.state.Document(k) != d {
			t.Errorf("Document(%s) is another", k)
		}
	}
	for _, k := range []events.Key{
		events.PassKey, events.CheckpointKey, "x", events.DefinitionKey("x"), dom.InstanceKey("x"), events.DomainID{Owner: "x", Name: "x"}.Key(),
		events.DomainID{Owner: "x", Name: "x"}.DecisionKey(), events.DomainID{Owner: "x", Name: "x"}.InstanceKey("i"),
	} {
		if d := l.state.Document(k); d != nil {
			t.Errorf("Document(%s) = %v", k, d)
		}
	}
	if d := events.NewState().Document(events.LeaderKey); d != nil {
		t.Errorf("a leader before the first election: %v", d)
	}
}

// TestApply_ElectionNeverBack: a server whose clock was set back elects a leader
// in the past; the leader's now starts from its election and must not go back.
func TestApply_ElectionNeverBack(t *testing.T) {
	tests := []struct {
		name    string
		elected uint64 // by the server's clock
		want    uint64
	}{
		{"before the last event", 3, 10},
		{"with the last event", 10, 10},
		{"after the last event", 11, 11},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := events.NewState()
			events.Apply(s, events.Envelope{Key: dom.Key(), Seq: 1, Time: at(10)}, events.DomainAdded{DefinitionID: "def"})
			events.Apply(s, events.Envelope{Key: events.LeaderKey, Seq: 2, Time: at(tt.elected)}, events.LeaderElected{Process: "p"})
			if l := s.Leader(); l.Process != "p" || l.Epoch != 2 || !l.Time.Equal(at(tt.want)) {
				t.Errorf("%+v, want it elected at %s", l, at(tt.want))
			}
			if !s.Time.Equal(at(tt.want)) {
				t.Errorf("the state is of %s, want %s", s.Time, at(tt.want))
			}
		})
	}
}
