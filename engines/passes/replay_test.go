package passes_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// memory is a log of one domain, in memory, as it is read back: encoded and decoded.
type memory []events.Recorded

// History implements projections.History.
func (m memory) History(_ context.Context, q projections.Query, each func(*events.Recorded) error) error {
	for _, r := range m {
		kind := r.Key.Kind()
		if r.Seq > q.To.Seq || kind != events.KindDomain && kind != events.KindInstance && kind != events.KindDecision {
			continue
		}
		body, err := events.Encode(r.Event)
		if err != nil {
			return err
		}
		r.Event = events.Decode(r.Type, body)
		if err := each(&r); err != nil {
			return err
		}
	}
	return nil
}

// TestReplay_Scripts: what the leader has decided in each script comes out the same
// from the log alone, all of it.
func TestReplay_Scripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".script"), func(t *testing.T) {
			domain, log := passes.Played(t, script)
			recorded := 0
			for _, r := range log {
				if _, ok := r.Event.(events.DecisionMade); ok {
					recorded++
				}
			}
			result, err := backtest.Run(t.Context(), backtest.Config{
				Domain: domain, History: memory(log), To: log[len(log)-1].Seq,
				Engines: func(string) *engines.Registry { return passes.Registry() },
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range result.Replayed.Differences {
				t.Errorf("decision %d differs: %+v", d.Seq, d.Fields)
			}
			if result.Replayed.Same != recorded || recorded == 0 || result.Candidate.Launches != result.Recorded.Launches ||
				result.Candidate.Terminations != result.Recorded.Terminations || result.Candidate.BelowTarget != result.Recorded.BelowTarget {
				t.Errorf("%d of %d decisions come out the same: %+v, %+v", result.Replayed.Same, recorded, result.Recorded, result.Candidate)
			}
		})
	}
}
