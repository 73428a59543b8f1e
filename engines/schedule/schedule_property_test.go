package schedule_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines/enginetest"
)

// TestEngine_LifeOfScaling: over an engine that scales, the sizes of the entry in force
// are its bounds whatever the provisioner does and whatever is read. Once the
// provisioner behaves and the load is steady, or swings within the tolerance, the
// number comes to what the load needs in one go, and stays.
func TestEngine_LifeOfScaling(t *testing.T) {
	entries := []struct{ least, most int }{{2, 6}, {4, 9}, {0, 3}}
	rapid.Check(t, func(t *rapid.T) {
		w := enginetest.New(t, kind(), tracked(
			`{"cron":"0 * * * *","minimum":2,"maximum":6},{"cron":"20 * * * *","minimum":4,"maximum":9},{"cron":"40 * * * *","maximum":3}`))
		step := func(d time.Duration, load float64) (decision enginetest.Step, least, most int) {
			w.Now = w.Now.Add(d)
			w.OfDomain("queue", load)
			decision = w.Decide(t)
			e := entries[w.Now.Minute()/20]
			if decision.Target < e.least || decision.Target > e.most || w.Healthy()+decision.Held != decision.Target {
				t.Fatalf("at %s %d are wanted, %d there, %d to %d allowed: %s", w.Now, decision.Target, w.Healthy(), e.least, e.most, decision.Reason)
			}
			return decision, e.least, e.most
		}
		for range rapid.IntRange(0, 15).Draw(t, "steps") {
			step(time.Duration(rapid.IntRange(1, 1500).Draw(t, "seconds"))*time.Second, rapid.Float64Range(0, 15).Draw(t, "load"))
			w.Misbehave(t)
		}
		w.Now = w.Now.Truncate(20 * time.Minute).Add(24 * time.Hour) // an entry begins, and no launch is held back
		load := rapid.IntRange(1, 12).Draw(t, "steady load")
		_, least, most := step(0, float64(load))
		want := min(max(load, least), most)
		w.Settle()
		step(5*time.Minute, float64(load)) // past every cool-down
		w.Settle()
		for range 8 {
			swing := rapid.Float64Range(0.91, 1.09).Draw(t, "swing")
			d, _, _ := step(30*time.Second, float64(load)*swing)
			if d.Target != want || len(d.Launches)+len(d.Terminations) > 0 {
				t.Fatalf("%d are wanted at a load of %d times %g, not %d: %s", d.Target, load, swing, want, d.Reason)
			}
		}
	})
}
