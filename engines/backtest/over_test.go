package backtest_test

import (
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines/backtest/histories"
)

// TestRun_SameEngine: the recorded engine is the same one by whatever name it is called.
func TestRun_SameEngine(t *testing.T) {
	for _, recorded := range []string{"", "simplest"} {
		h := histories.New(t, registry("local"), histories.Config(recorded, `{"preserve_n":3}`))
		h.Live(time.Hour)
		if r := run(t, h, over(histories.Config("simplest", ""))); r.Replayed == nil || r.Replayed.Same != r.Recorded.Decisions {
			t.Errorf("recorded as %q: %+v", recorded, r)
		}
	}
}

// TestRun_DryRun: a dry run is one in a simulation too, which says so, unless it is told.
func TestRun_DryRun(t *testing.T) {
	config := histories.Config("", `{"preserve_n":3}`)
	config.General = []byte(`{"dry_run":true}`)
	h := histories.New(t, registry("local"), config)
	h.Live(time.Hour)
	if r := run(t, h, nil); r.Replayed.Same != r.Recorded.Decisions || r.Recorded.Launches > 0 {
		t.Errorf("%+v", r.Replayed)
	}
	other := histories.Config("", `{"preserve_n":5}`)
	dry := run(t, h, over(other))
	other.General = []byte(`{"dry_run":false}`)
	done := run(t, h, over(other))
	if dry.Candidate.Launches != 0 || done.Candidate.Launches != 5 || len(dry.Notes) != len(done.Notes)+1 {
		t.Errorf("%d and %d launches: %q, %q", dry.Candidate.Launches, done.Candidate.Launches, dry.Notes, done.Notes)
	}
}
