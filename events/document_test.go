package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// rich is a log of which the documents hold everything that documents can.
func rich() *eventLog {
	errorTime := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	l := newLog().all()
	full := config(`{"engine_class":"simplest"}`, `{"preserve_n":2,"note":"<é&\u2028>"}`, `{"monitor_health":true}`)
	l.add(events.DefinitionKey("def.é"), events.DefinitionAdded{Definition: full})
	d := events.DomainID{Owner: "alice@example.com", Name: "-"}
	l.add(d.Key(), events.DomainAdded{DefinitionID: "def.é", DefinitionSeq: 6, Config: full, SubscriberName: "a.b", SubscriberOp: "x\"y"})
	l.add(d.Key(), events.DomainRemovalRequested{})
	l.add(d.InstanceKey(`i"1`), events.LaunchRequested{
		LaunchID: "l\\1", DeployableType: "w", Site: "s", Allocation: "é", ExtraVars: raw(`{"a": [1.0]}`), Attempt: 2,
	})
	l.add(d.InstanceKey(`i"1`), events.StateChanged{State: events.Running, Fields: fields(
		"", "null", "State", `"mine"`, "SEQ", `"x"`, "Launch_ID", "{}", "public_ip", `"1.2.3.4"`, "é", "[ ]", "update_counter", "12345678901234567890",
	)})
	l.add(d.InstanceKey(`i"1`), events.HealthChanged{Health: "ODD\"", Errors: rawList(`{"name": "p"}`, "null"), ErrorTime: &errorTime})
	l.add(d.DecisionKey(), events.DecisionMade{
		DomainSeq: 7, ConfigSeq: 7, RefusedSeq: 3, InputSeq: 9, Now: at(9), Seed: 1 << 31, Reason: "<why>", EngineState: events.EngineDevmodeFailed,
		Memory: raw(`{"m": [1]}`),
	})
	return l
}

func TestDocument_RoundTrip(t *testing.T) {
	s := rich().state
	checkDocuments(t, s)
	loaded := load(t, documents(s))
	for key, want := range s.Documents() {
		alone, err := events.DecodeDocument(key, want.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []events.Document{loaded.Document(key), alone} {
			if diff := cmp.Diff(meaning(want), meaning(got)); diff != "" {
				t.Errorf("%s: %s", key, diff)
			}
		}
		if loaded.SeqOf(key) != s.SeqOf(key) || loaded.SeqOf(key) == 0 {
			t.Errorf("%s: SeqOf is %d, was %d", key, loaded.SeqOf(key), s.SeqOf(key))
		}
		if got := want.AppendJSON([]byte("x")); got[0] != 'x' || !json.Valid(got[1:]) {
			t.Errorf("%s: AppendJSON does not append: %s", key, got)
		}
	}
	if loaded.Instance(`i"1`) == nil || loaded.Leader().Process != "p" {
		t.Error("instance by id or leader is missing")
	}
}

// meaning is a document with what means the same made the same.
func meaning(d events.Document) any {
	switch d := d.(type) {
	case *events.Domain:
		c := *d
		c.Subscribers = append([]events.Subscriber{}, d.Subscribers...)
		return c
	case *events.Decision: // has an embedded part that cmp cannot see into
		return map[string]any{
			"domain": d.Domain, "id": d.ID, "time": d.Time, "seq": d.Seq, "domain_seq": d.DomainSeq, "config_seq": d.ConfigSeq,
			"refused": d.RefusedSeq, "input": d.InputSeq, "now": d.Now, "seed": d.Seed, "reason": d.Reason, "state": d.EngineState,
			"memory": compact(d.Memory), "saw": d.Saw, "launches": d.Launches, "terminations": d.Terminations,
		}
	case *events.Definition:
		c := *d
		c.Config = config(compact(d.Config.General), compact(d.Config.EngineConf), compact(d.Config.Health))
		return c
	default:
		return d
	}
}

func compact(v json.RawMessage) string { return strings.ReplaceAll(string(v), " ", "") }

func TestInstance_AppendShown(t *testing.T) {
	l := newLog().all()
	i := l.state.Instance("i")
	fresh := `{"instance_id":"i","launch_id":"l","deployable_type":"w","site":"s","allocation":"small","state":"100-REQUESTING",` +
		`"state_time":"2026-01-02T00:00:05Z","health":"UNKNOWN","errors":[],"error_time":null,"extravars":{},"seq":5}`
	if diff := cmp.Diff(fresh, string(i.AppendShown(nil, nil))); diff != "" {
		t.Error(diff)
	}
	got := string(rich().state.Instance(`i"1`).AppendShown([]byte("> "), nil))
	want := `> {"instance_id":"i\"1","launch_id":"l\\1","deployable_type":"w","site":"s","allocation":"é","state":"600-RUNNING",` +
		`"state_time":"2026-01-02T00:00:10Z","health":"ODD\"","errors":[{"name": "p"},null],"error_time":"2026-01-02T02:04:05.000000006Z",` +
		`"extravars":{"a": [1.0]},"":null,"Launch_ID":{},"SEQ":"x","State":"mine","public_ip":"1.2.3.4","update_counter":12345678901234567890,` +
		`"é":[ ],"seq":11}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestInstance_TimeAtTheEnd: an error_time that UTC has no four-digit year for
// must not make a document that nobody can read.
func TestInstance_TimeAtTheEnd(t *testing.T) {
	for _, text := range []string{"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"} {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		l := newLog().all()
		l.add(dom.InstanceKey("i"), events.HealthChanged{Health: events.HealthMonitorError, ErrorTime: &when})
		if got := load(t, documents(l.state)).Instance("i").ErrorTime; got == nil || !got.Equal(when) {
			t.Errorf("%s comes back as %v", text, got)
		}
	}
}

func TestLoad_Refuses(t *testing.T) {
	d := dom.InstanceKey("i")
	good := string(newLog().all().state.Instance("i").AppendJSON(nil))
	if err := events.NewState().Load(d, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key events.Key
		doc string
	}{
		{"nothing.known", "{}"},
		{events.CheckpointKey, "{}"},
		{events.PassKey, "{}"},
		{dom.AllInstances(), good},
		{d, ""},
		{d, "{"},
		{d, "[]"},
		{d, "null"},
		{d, "{}"},
		{d, strings.Replace(good, "100-REQUESTING", "100", 1)},
		{d, strings.Replace(good, `"seq":5`, `"seq":"5"`, 1)},
		{d, strings.Replace(good, `"state_time":"`, `"state_time":"x`, 1)},
		{dom.Key(), `{"seq":-1}`},
		{dom.DecisionKey(), `{"now":1}`},
		{events.DefinitionKey("d"), `[]`},
		{events.LeaderKey, `{"epoch":"1"}`},
	} {
		s := events.NewState()
		if err := s.Load(tt.key, []byte(tt.doc)); err == nil || !strings.Contains(err.Error(), string(tt.key)) {
			t.Errorf("%s %s: got %v, want an error with the key", tt.key, tt.doc, err)
		}
		if n := len(documents(s)); n != 0 {
			t.Errorf("%s %s: loaded %d documents all the same", tt.key, tt.doc, n)
		}
		if _, err := events.DecodeDocument(tt.key, []byte(tt.doc)); err == nil {
			t.Errorf("DecodeDocument takes %s %s", tt.key, tt.doc)
		}
	}
}

// TestLoad_Replaces: a document that is read twice is there once.
func TestLoad_Replaces(t *testing.T) {
	l := rich()
	s := load(t, documents(newLog().all().state))
	for range 2 {
		for k, doc := range documents(l.state) {
			if err := s.Load(k, []byte(doc)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(documents(l.state), documents(s)); diff != "" {
		t.Error(diff)
	}
	for _, id := range []events.DomainID{dom, {Owner: "alice@example.com", Name: "-"}} {
		if n := len(s.Instances(id)); n != 1 {
			t.Errorf("%v has %d instances", id, n)
		}
	}
}

// FuzzLoad: a document that is taken comes back the same for ever.
func FuzzLoad(f *testing.F) {
	for k, d := range rich().state.Documents() {
		f.Add(string(k), d.AppendJSON(nil))
	}
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		s := events.NewState()
		if s.Load(events.Key(key), data) == nil {
			checkDocuments(t, s)
		}
	})
}

// TestDecodeDocument_Others: what is JSON but not the document of its key is none.
func TestDecodeDocument_Others(t *testing.T) {
	keys := []events.Key{events.DefinitionKey("d"), dom.Key(), dom.DecisionKey(), dom.InstanceKey("i"), events.LeaderKey}
	others := []string{
		`{"stream":"epum_inbox","seq":1}`, `{}`, ``, `null`, `{"name":"x","owner":"y","domain":"z","epoch":0,"seq":1}`,
		`{"instance_id":"j","state":"600-RUNNING","seq":1}`, `{"instance_id":1,"state":"600-RUNNING"}`,
	}
	for _, key := range keys {
		for _, other := range others {
			if doc, err := events.DecodeDocument(key, []byte(other)); err == nil {
				t.Errorf("%s: %s is %+v", key, other, doc)
			}
		}
	}
	own := []byte(`{"instance_id":"\u0069","state":"600-RUNNING","state_time":"2026-01-02T03:04:05Z","seq":1}`)
	if _, err := events.DecodeDocument(dom.InstanceKey("i"), own); err != nil {
		t.Errorf("an id with an escape: %v", err)
	}
}
