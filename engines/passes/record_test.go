package passes

import (
	"encoding/json"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// recorded is the last decision as the log has it: written and folded.
func recorded(t *testing.T, made events.DecisionMade) *events.Decision {
	t.Helper()
	body, err := events.Encode(made)
	if err != nil {
		t.Fatal(err)
	}
	key := events.DomainID{Owner: "o", Name: "d"}.DecisionKey()
	s := events.NewState()
	events.Apply(s, events.Envelope{Key: key, Seq: 1, Time: began}, events.Decode(made.Type(), body))
	return s.Decision(events.DomainID{Owner: "o", Name: "d"})
}

// isNews is news for the decision that would be recorded as made.
func isNews(last *events.Decision, made events.DecisionMade) bool {
	return news(last, made.RefusedSeq, made.Reason, &engines.Decision{State: made.EngineState, Memory: made.Memory})
}

func TestNews(t *testing.T) {
	base := events.DecisionMade{Reason: "2 of 3 are there", EngineState: events.EnginePending, Memory: json.RawMessage(`{"a":1}`)}
	tests := []struct {
		name   string
		change func(*events.DecisionMade)
		want   bool
	}{
		{"the same", func(*events.DecisionMade) {}, false},
		{"other figures", func(d *events.DecisionMade) { d.Reason = "10 of 30 are there" }, false},
		{"other inputs", func(d *events.DecisionMade) { d.InputSeq, d.Now, d.Seed, d.ConfigSeq = 9, began, 9, 9 }, false},
		{"another reason", func(d *events.DecisionMade) { d.Reason = "2 of 3 are gone" }, true},
		{"another engine state", func(d *events.DecisionMade) { d.EngineState = events.EngineStable }, true},
		{"a config was refused", func(d *events.DecisionMade) { d.RefusedSeq = 7 }, true},
		{"other memory", func(d *events.DecisionMade) { d.Memory = json.RawMessage(`{"a":2}`) }, true},
		{"no memory", func(d *events.DecisionMade) { d.Memory = nil }, true},
		{"memory with white space", func(d *events.DecisionMade) { d.Memory = json.RawMessage("{ \"a\": 1 }\n") }, false},
	}
	for _, tt := range tests {
		made := base
		tt.change(&made)
		if got := isNews(recorded(t, base), made); got != tt.want {
			t.Errorf("%s: news %v", tt.name, got)
		}
	}
	if !isNews(nil, base) {
		t.Error("the first record is no news")
	}
}

// TestNews_MemoryAsGiven: however an engine writes the same memory, what the
// log then has is no news to it. A record each pass would be written for ever.
func TestNews_MemoryAsGiven(t *testing.T) {
	for _, memory := range []string{"", "null", " null", `{}`, `{ "a" : [1, 2.0] }`, `"x y"`, `{"b":1,"a":"<&>"}`} {
		made := events.DecisionMade{Reason: "r", Memory: json.RawMessage(memory)}
		if memory == "" {
			made.Memory = nil
		}
		if isNews(recorded(t, made), made) {
			t.Errorf("%q is news each time", memory)
		}
	}
}

func TestSameReason(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"wait until 12:00:01", "wait until 9:59:00", true},
		{"load 0.75", "load 12", true},
		{"load 0.75.", "load 12.", true},
		{"1, 2", "10, 20", true},
		{"1 2", "1", false},
		{"all 2 are there", "all are there", false},
		{"launch 2", "terminate 2", false},
		{"v1", "v2", true},
		{"it is 3.", "it is 3", false},
		{"a: 1", "a. 1", false},
	} {
		if got := sameReason(tt.a, tt.b); got != tt.want || sameReason(tt.b, tt.a) != got {
			t.Errorf("%q and %q: same %v", tt.a, tt.b, got)
		}
	}
}
