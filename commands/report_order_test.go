package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// folding is a log that is folded at once.
type folding struct {
	commands.Log
	state *events.State
}

// Append implements commands.Log.
func (f folding) Append(_ context.Context, d events.Draft) (uint64, error) {
	return f.apply(d.Key, d.Event), nil
}

func (f folding) apply(key events.Key, ev events.Event) uint64 {
	seq := f.state.Seq + 1
	events.Apply(f.state, events.Envelope{Key: key, Type: ev.Type(), Seq: seq, Time: time.Unix(int64(seq), 0).UTC(), ID: fmt.Sprint("id", seq)}, ev)
	return seq
}

// step is a report, or, where its body is nil, the leader's termination, which is
// guarded by nothing.
type step struct{ body []byte }

// outcome is what an instance comes to after steps.
func outcome(t *rapid.T, steps []step) *events.Instance {
	t.Helper()
	log := folding{state: events.NewState()}
	log.apply(domainD.Key(), events.DomainAdded{DefinitionID: "f"})
	log.apply(domainD.InstanceKey("i"), events.LaunchRequested{LaunchID: "l"})
	r := &commands.Reporter{Log: log, Replica: stillReplica{log.state}, NewID: func() string { return "id" }}
	for _, s := range steps {
		if s.body == nil {
			log.apply(domainD.InstanceKey("i"), events.TerminateRequested{})
		} else if err := r.Handle(context.Background(), "i", s.body); err != nil {
			t.Fatalf("%s: %v", s.body, err)
		}
	}
	return log.state.Instance("i")
}

// anySteps are what an instance goes through: each report has a counter, higher
// than those before.
func anySteps(t *rapid.T) []step {
	var steps []step
	for n := range rapid.IntRange(1, 8).Draw(t, "steps") {
		if rapid.IntRange(0, 5).Draw(t, "termination") == 0 {
			steps = append(steps, step{})
			continue
		}
		body, err := json.Marshal(map[string]any{
			"node_id": "i", "state": rapid.SampledFrom(events.InstanceStates).Draw(t, "state"), "update_counter": n + 1,
			rapid.SampledFrom([]string{"public_ip", "error", "x"}).Draw(t, "field"): rapid.IntRange(0, 3).Draw(t, "value"),
		})
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step{body})
	}
	return steps
}

// TestReports_Reordered: whatever the order in which reports come, the instance
// ends in the same state and health.
func TestReports_Reordered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := anySteps(t)
		a, b := outcome(t, steps), outcome(t, rapid.Permutation(steps).Draw(t, "order"))
		if a.State != b.State || a.Health != b.Health {
			t.Fatalf("%s %s in one order, %s %s in the other", a.State, a.Health, b.State, b.Health)
		}
	})
}

// TestReports_Repeated: reports that come again, at once or much later, change nothing.
func TestReports_Repeated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := anySteps(t)
		var repeated []step
		for n, s := range steps {
			repeated = append(repeated, s)
			for range rapid.IntRange(0, 2).Draw(t, "again") {
				if old := steps[rapid.IntRange(0, n).Draw(t, "which")]; old.body != nil {
					repeated = append(repeated, old)
				}
			}
		}
		a, b := outcome(t, steps), outcome(t, repeated)
		if diff := cmp.Diff(string(a.AppendJSON(nil)), string(b.AppendJSON(nil))); diff != "" {
			t.Fatal(diff)
		}
	})
}
