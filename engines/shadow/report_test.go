package shadow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines/shadow"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

var (
	began  = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	domain = events.DomainID{Owner: "o", Name: "d"}
)

// wish is a decision that wants so many, so many minutes after the beginning.
type wish struct {
	minute, wanted int
	run            string
	ended          bool
}

func (w wish) made() events.DecisionMade {
	return events.DecisionMade{Engine: "simplest", Saw: json.RawMessage(fmt.Sprintf(`{"counts":{},"target":%d}`, w.wanted))}
}

func (w wish) at() time.Time { return began.Add(time.Duration(w.minute) * time.Minute) }

// own are a domain's decisions, as its log has them.
type own []wish

// End implements shadow.Log.
func (own) End(context.Context) (projections.Position, error) { return projections.Position{}, nil }

// History implements projections.History.
func (o own) History(_ context.Context, _ projections.Query, each func(*events.Recorded) error) error {
	for n, w := range o {
		err := each(&events.Recorded{Envelope: events.Envelope{Key: domain.DecisionKey(), Seq: uint64(n + 1), Time: w.at()}, Event: w.made()})
		if err != nil {
			return err
		}
	}
	return nil
}

// shadows are the records of shadows, to be read.
type shadows struct {
	shadow.Records
	all []wish
}

// Read implements shadow.Records.
func (s shadows) Read(_ context.Context, _ events.DomainID, each func(time.Time, []byte) error) error {
	for _, w := range s.all {
		body, err := json.Marshal(shadow.Record{DecisionMade: w.made(), Run: w.run, Ended: w.ended})
		if err == nil {
			err = each(w.at(), body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCompare holds reports against what they are by hand, in minutes.
func TestCompare(t *testing.T) {
	const until = 60
	for name, tt := range map[string]struct {
		own                []wish
		shadows            []wish
		same, more, fewer  int
		recorded, shadowed int // instance-minutes
		since              int
		runs, unended      int
		decisions          [2]int
	}{
		"one run that has ended": {
			own:     []wish{{0, 3, "", false}, {20, 5, "", false}},
			shadows: []wish{{10, 4, "a", false}, {30, 5, "a", false}, {40, 5, "a", true}},
			more:    10, fewer: 10, same: 10, recorded: 10*3 + 20*5, shadowed: 20*4 + 10*5, runs: 1, decisions: [2]int{1, 2},
		},
		"one that runs still": {
			own: []wish{{0, 1, "", false}}, shadows: []wish{{50, 2, "a", false}},
			more: 10, recorded: 10, shadowed: 20, runs: 1, unended: 1, decisions: [2]int{0, 1},
		},
		"one that was killed, and another": {
			own:     []wish{{0, 1, "", false}},
			shadows: []wish{{10, 2, "a", false}, {15, 1, "a", false}, {40, 1, "b", false}, {50, 1, "b", true}},
			more:    5, same: 10, recorded: 15, shadowed: 20, runs: 2, unended: 1, decisions: [2]int{0, 3},
		},
		"before the first decision": {
			own: []wish{{30, 2, "", false}}, shadows: []wish{{20, 2, "a", false}, {40, 2, "a", true}},
			more: 10, same: 10, recorded: 20, shadowed: 40, runs: 1, decisions: [2]int{1, 1},
		},
		"a log that was purged": {
			own:     []wish{{5, 3, "", false}, {35, 1, "", false}}, // the first is the last one before the purge
			shadows: []wish{{0, 9, "a", false}, {1, 9, "a", true}, {10, 2, "b", false}, {20, 3, "b", false}, {40, 1, "b", true}},
			since:   30, same: 5, more: 5, recorded: 5*3 + 5*1, shadowed: 10 * 3, runs: 1, decisions: [2]int{1, 0},
		},
		"a run that began before the purge, and decided nothing since": {
			own: []wish{{5, 3, "", false}}, shadows: []wish{{10, 2, "a", false}},
			since: 30, fewer: 30, recorded: 90, shadowed: 60, runs: 1, unended: 1,
		},
		"one that has ended before the purge": {
			own: []wish{{5, 3, "", false}}, shadows: []wish{{10, 2, "a", false}, {20, 2, "a", true}}, since: 30,
		},
		"none": {own: []wish{{0, 1, "", false}}},
	} {
		r, err := shadow.Compare(t.Context(), domain, own(tt.own), shadows{all: tt.shadows}, wish{minute: tt.since}.at(), wish{minute: until}.at())
		if err != nil {
			t.Fatal(err)
		}
		minutes := func(hours float64) int { return int(math.Round(hours * 60)) }
		got := []int{
			int(r.Same.Minutes()), int(r.More.Minutes()), int(r.Fewer.Minutes()), minutes(r.Recorded.WantedHours), minutes(r.Shadow.WantedHours),
			r.Runs, r.Unended, r.Recorded.Decisions, r.Shadow.Decisions,
		}
		want := []int{tt.same, tt.more, tt.fewer, tt.recorded, tt.shadowed, tt.runs, tt.unended, tt.decisions[0], tt.decisions[1]}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: same, more, fewer, recorded, shadowed, runs, unended, decisions, decisions of shadows (-want +got):\n%s", name, diff)
		}
	}
}
