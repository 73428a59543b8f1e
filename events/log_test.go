package events_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

var (
	began = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	dom   = events.DomainID{Owner: "o", Name: "d"}
)

// at is the stream's timestamp of an event.
func at(seq uint64) time.Time { return began.Add(time.Duration(seq) * time.Second) }

type entry struct {
	env events.Envelope
	ev  events.Event
}

// eventLog is a log and its fold.
type eventLog struct {
	entries []entry
	state   *events.State
}

func newLog() *eventLog { return &eventLog{state: events.NewState()} }

// add appends an event, folds it, and gives its sequence.
func (l *eventLog) add(key events.Key, ev events.Event) uint64 {
	seq := l.state.Seq + 1
	env := events.Envelope{Key: key, Type: ev.Type(), Seq: seq, Time: at(seq), ID: fmt.Sprint("id", seq)}
	l.entries = append(l.entries, entry{env, ev})
	events.Apply(l.state, env, ev)
	return seq
}

// all adds a document of each kind, each with seq 1 to 5.
func (l *eventLog) all() *eventLog {
	l.add(events.LeaderKey, events.LeaderElected{Process: "p"})
	l.add(events.DefinitionKey("def"), events.DefinitionAdded{Definition: config("", `{"preserve_n":1}`, "")})
	l.add(dom.Key(), events.DomainAdded{DefinitionID: "def", DefinitionSeq: 2, Config: config("", `{"preserve_n":1}`, "")})
	l.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 3, Reason: "why", EngineState: events.EnginePending, Memory: raw(`{"m":1}`)})
	l.add(dom.InstanceKey("i"), events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small"})
	return l
}

// documents is a state as the bucket would keep it.
func documents(s *events.State) map[events.Key]string {
	docs := map[events.Key]string{}
	for k, d := range s.Documents() {
		docs[k] = string(d.AppendJSON(nil))
	}
	return docs
}

// load is the state that a bucket gives.
func load(t interface {
	Helper()
	Fatalf(string, ...any)
}, docs map[events.Key]string,
) *events.State {
	t.Helper()
	s := events.NewState()
	for k, doc := range docs {
		if err := s.Load(k, []byte(doc)); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
	}
	return s
}

// checkDocuments fails unless every document is JSON and comes back the same.
func checkDocuments(t *testing.T, s *events.State) {
	t.Helper()
	docs := documents(s)
	for k, doc := range docs {
		if !json.Valid([]byte(doc)) {
			t.Errorf("%s is no JSON: %s", k, doc)
		}
	}
	again := documents(load(t, docs))
	for k, doc := range docs {
		if again[k] != doc {
			t.Errorf("%s comes back as\n%s, was\n%s", k, again[k], doc)
		}
	}
	if len(again) != len(docs) {
		t.Errorf("%d documents came back of %d", len(again), len(docs))
	}
}
