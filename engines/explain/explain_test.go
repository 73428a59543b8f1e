package explain_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/events"
)

var (
	dom   = events.DomainID{Owner: "o", Name: "d"}
	began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// heard is a story that a test adds events to, a second each.
type heard struct {
	*explain.Story
	seq uint64
}

func newStory(instance string) *heard {
	return &heard{Story: explain.NewStory(dom, instance, events.NewState())}
}

func (h *heard) add(key events.Key, ev events.Event, more ...func(*events.Envelope)) {
	h.seq++
	env := events.Envelope{
		Key: key, Type: ev.Type(), Seq: h.seq, Time: began.Add(time.Duration(h.seq) * time.Second), ID: fmt.Sprint("id", h.seq), Actor: "x",
	}
	for _, change := range more {
		change(&env)
	}
	h.Hear(env, ev)
}

// TestStory_Bounded: of a long history the latest steps are told, within what fits a
// message, and how many are left out.
func TestStory_Bounded(t *testing.T) {
	t.Parallel()
	h := newStory("")
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()})
	const many = 1000
	figures := strings.Repeat("9", 7<<10)
	for n := range many {
		h.add(dom.DecisionKey(), events.DecisionMade{
			DomainSeq: 1, InputSeq: h.seq, Reason: fmt.Sprint("decision ", n, strings.Repeat(" é", 3000)), EngineState: events.EngineStable,
			Saw: json.RawMessage(`{"target":1,"engine":{"figures":` + figures + `},"readings":{"m":` + figures + `}}`),
		})
	}
	told := h.Tell(explain.Present{})
	data, err := json.Marshal(told)
	if err != nil || len(data) > 700<<10 || len(told.Steps) < 50 || len(told.Steps)+told.LeftOut != many+1 {
		t.Errorf("%d bytes, %d steps and %d left out: %v", len(data), len(told.Steps), told.LeftOut, err)
	}
	last := told.Steps[len(told.Steps)-1]
	if !strings.Contains(last.Why, fmt.Sprint("decision ", many-1)) || !strings.Contains(string(last.Saw), `"left_out":["readings"]`) || !strings.Contains(string(last.Saw), `"engine"`) {
		t.Errorf("the last step: %.300s… %.300s", last.Why, last.Saw)
	}
}

// TestStory_Follows: a decision follows the newest event that it saw and the one before
// did not, a command before all others.
func TestStory_Follows(t *testing.T) {
	t.Parallel()
	h := newStory("")
	i := dom.InstanceKey("i")
	decide := func(input uint64) {
		h.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 1, InputSeq: input, Reason: "r", EngineState: events.EngineStable})
	}
	report := func(state events.InstanceState) { h.add(i, events.StateChanged{State: state}) }
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()}) // 1
	decide(1)                                                                                 // 2
	h.add(i, events.LaunchRequested{Site: "s"}, func(e *events.Envelope) { e.Epoch, e.CausationID = 1, "id2" })
	report(events.Pending)                        // 4
	report(events.Running)                        // 5
	decide(4)                                     // 6: it has not seen 5
	decide(6)                                     // 7: it has
	h.add(dom.Key(), events.DomainReconfigured{}) // 8
	report(events.Failed)                         // 9
	decide(9)                                     // 10
	decide(10)                                    // 11: nothing is new, it is the time that has come
	want := map[uint64]uint64{2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5, 9: 5, 10: 8, 11: 0}
	for _, s := range h.Tell(explain.Present{}).Steps {
		follows, ok := want[s.Seq]
		if ok && (s.Follows != follows || follows > 0 && s.After != float64(s.Seq-follows)) {
			t.Errorf("event %d follows %d after %g s, want %d", s.Seq, s.Follows, s.After, follows)
		}
	}
}

// TestStory_Unknown: what this version does not know is told of, and stops nothing.
func TestStory_Unknown(t *testing.T) {
	t.Parallel()
	h := newStory("")
	if !h.Empty() {
		t.Error("a story of nothing is not empty")
	}
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()})
	h.add(dom.Key(), events.Unknown{Name: "epum.domain.painted.v1"})
	h.add(dom.InstanceKey("i"), events.Foreign{})
	h.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 1, Reason: "r", Saw: json.RawMessage(`[1]`), EngineState: "odd"})
	told := h.Tell(explain.Present{Leading: explain.LeaderSilent})
	if len(told.Steps) != 4 || !strings.Contains(told.Steps[1].What, "painted") || told.Steps[2].Kind != explain.KindUnknown {
		t.Errorf("%+v", told.Steps)
	}
	if !strings.Contains(told.Now, "the leader did not answer") || h.Empty() {
		t.Errorf("now: %s", told.Now)
	}
}

// TestTell: every event type has words of its own.
func TestTell(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, doc := range events.Catalogue {
		kind, what, _ := explain.Tell(events.Decode(doc.Type, []byte(`{}`)))
		if kind == explain.KindUnknown || what == "" && doc.Type != events.TypeStateChanged && doc.Type != events.TypeHealthChanged || what != "" && seen[what] {
			t.Errorf("%s: %s %q", doc.Type, kind, what)
		}
		seen[what] = true
	}
}

// TestStory_AnotherLife: what was decided for a domain that has gone says nothing of the
// next one of its name.
func TestStory_AnotherLife(t *testing.T) {
	t.Parallel()
	h := newStory("")
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()})
	h.add(dom.DecisionKey(), events.DecisionMade{
		DomainSeq: 1, InputSeq: 1, Reason: "r", EngineState: events.EngineStable, Saw: json.RawMessage(`{"engine":{"load":{"metric":"load","fresh":0,"missing":2}}}`),
	})
	if now := h.Tell(explain.Present{}).Now; !strings.Contains(now, "2 of 2 readings of load were missing") {
		t.Errorf("the first: %s", now)
	}
	h.add(dom.Key(), events.DomainRemovalRequested{})
	h.add(dom.Key(), events.DomainRemoved{})
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()})
	if now := h.Tell(explain.Present{}).Now; strings.Contains(now, "load") || !strings.Contains(now, "no decision is on record since it was added (event 5)") {
		t.Errorf("the second: %s", now)
	}
}

// TestStory_NowBounded: what an engine of somebody's own says that it saw may be long.
func TestStory_NowBounded(t *testing.T) {
	t.Parallel()
	h := newStory("")
	h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()})
	var figures []string
	for n := range 10_000 {
		figures = append(figures, fmt.Sprintf(`"m%d":{"metric":"m%d","fresh":0,"missing":1}`, n, n))
	}
	h.add(dom.DecisionKey(), events.DecisionMade{
		DomainSeq: 1, InputSeq: 1, Reason: "r", EngineState: events.EngineStable, Saw: json.RawMessage(`{"engine":{` + strings.Join(figures, ",") + `}}`),
	})
	if now := h.Tell(explain.Present{}).Now; len(now) > 33<<10 || !strings.HasSuffix(now, "…") {
		t.Errorf("%d bytes", len(now))
	}
}

// TestStory_Foreign: nothing comes of a message that is no event.
func TestStory_Foreign(t *testing.T) {
	t.Parallel()
	for _, instance := range []string{"", "i"} {
		h := newStory(instance)
		i := dom.InstanceKey("i")
		foreign := func() {
			h.add(i, events.Foreign{})
			h.add(dom.Key(), events.Foreign{})
		}
		h.add(i, events.Foreign{}) // 1
		if instance != "" && !h.Empty() {
			t.Error("a message that is no event makes an instance")
		}
		h.add(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{}.Filled()}) // 2
		foreign()                                                                                 // 3, 4
		h.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 2, ConfigSeq: 2, InputSeq: 4, Engine: "e", Launches: []string{"i"}})
		foreign() // 6, 7
		h.add(i, events.LaunchRequested{Site: "s"}, func(e *events.Envelope) { e.Epoch, e.CausationID = 1, "id5" })
		foreign() // 9, 10
		h.add(i, events.StateChanged{State: events.Running})
		h.add(dom.Key(), events.DomainRemovalRequested{}) // 12
		foreign()                                         // 13, 14
		h.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 2, ConfigSeq: 2, InputSeq: 14, Terminations: []string{"i"}})
		got := map[uint64]uint64{}
		for _, s := range h.Tell(explain.Present{}).Steps {
			if got[s.Seq] = s.Follows; s.Kind == explain.KindUnknown && s.Follows > 0 {
				t.Errorf("%q: message %d follows %d", instance, s.Seq, s.Follows)
			}
		}
		for seq, follows := range map[uint64]uint64{5: 2, 8: 5, 11: 8, 15: 12} {
			if got[seq] != follows {
				t.Errorf("%q: event %d follows %d, want %d", instance, seq, got[seq], follows)
			}
		}
		if _, told := got[12]; !told {
			t.Errorf("%q: the command that ended it is missing", instance)
		}
	}
}
