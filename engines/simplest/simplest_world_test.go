package simplest_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/events"
)

// TestEngine_AdversarialProvisioner: whatever is reported, what counts is never more
// than wanted; once the provisioner behaves, all that is wanted runs, and nothing is
// done any more.
func TestEngine_AdversarialProvisioner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := rapid.IntRange(0, 6).Draw(t, "wanted")
		w := enginetest.New(t, simplest.Kind(simplest.DefaultSite), fmt.Sprintf(`{"preserve_n":%d}`, wanted))
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			w.Now = w.Now.Add(5 * time.Second)
			if d := w.Decide(t); w.Healthy() > wanted {
				t.Fatalf("%d of %d wanted: %s", w.Healthy(), wanted, d.Reason)
			}
			w.Misbehave(t)
		}
		for range 30 {
			w.Now = w.Now.Add(5 * time.Second)
			w.Decide(t)
			w.Behave()
		}
		if d := w.Decide(t); d.State != events.EngineStable || len(d.Launches)+len(d.Terminations) > 0 || w.Healthy() != wanted {
			t.Fatalf("%d of %d wanted: %s", w.Healthy(), wanted, d.Reason)
		}
	})
}
