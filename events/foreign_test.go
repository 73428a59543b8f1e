package events_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// TestApply_Foreign: a message that is no event moves the sequence of what it is
// about, and is no reason to stop. A first decision is guarded by it, too.
func TestApply_Foreign(t *testing.T) {
	other := events.DomainID{Owner: "x", Name: "y"}
	keys := map[events.Key]uint64{ // → SeqOf after
		events.DefinitionKey("def"): 6, dom.Key(): 6, dom.InstanceKey("i"): 6, dom.DecisionKey(): 6, events.LeaderKey: 6, other.DecisionKey(): 6,
		events.PassKey: 0, events.DefinitionKey("none"): 0, other.Key(): 0, dom.InstanceKey("none"): 0,
		"nothing.known": 0, events.CheckpointKey: 0, "domain": 0, "": 0,
	}
	for key, seq := range keys {
		l := newLog().all()
		l.add(key, events.Decode("", []byte(`{"stream":"epum_inbox","seq":1}`)))
		if l.state.HasUnknown() || l.state.Unknown(key) != "" {
			t.Errorf("%q: counts as unknown", key)
		}
		if got := l.state.SeqOf(key); got != seq {
			t.Errorf("%q: SeqOf is %d, want %d", key, got, seq)
		}
		if l.state.Leader().Epoch != 1 || l.state.Seq != 6 {
			t.Errorf("%q: %+v at %d", key, l.state.Leader(), l.state.Seq)
		}
		want, got := documents(newLog().all().state), documents(l.state)
		if doc, ok := want[key]; ok {
			n := strings.LastIndex(doc, `"seq":`)
			want[key] = doc[:n] + `"seq":6}`
		}
		if key == other.DecisionKey() {
			want[key] = got[key]
			if d := l.state.Decision(other); d.DomainSeq != 0 || d.Memory != nil {
				t.Errorf("a decision of its own: %+v", d)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: more than its sequence has changed:\n%s", key, diff)
		}
		loaded := events.NewState()
		for k, doc := range got {
			if err := loaded.Load(k, []byte(doc)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(got, documents(loaded)); diff != "" || loaded.SeqOf(key) != seq {
			t.Errorf("%q: another one from its documents, at %d:\n%s", key, loaded.SeqOf(key), diff)
		}
	}
}

// TestApply_Foreign_first: one that comes before any election.
func TestApply_Foreign_first(t *testing.T) {
	l := newLog()
	l.add(events.LeaderKey, events.Foreign{})
	if l.state.SeqOf(events.LeaderKey) != 0 || len(documents(l.state)) != 0 {
		t.Errorf("somebody leads: %+v", l.state.Leader())
	}
}
