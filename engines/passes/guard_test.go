package passes

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// TestGuard_Holds: whatever the monitoring says, and however launches fail, no more
// than max_unhealthy_fraction of what ran is missing at a time; and once launches
// come through, all is well again.
func TestGuard_Holds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newStage(t)
		size := rapid.IntRange(1, 12).Draw(r, "size")
		fraction := rapid.SampledFrom([]float64{0, 0.25, 0.5, 0.7}).Draw(r, "fraction")
		most := max(int(fraction*float64(size)+1e-9), 1)
		s.play(fmt.Sprintf(`config {"engine_conf":{"preserve_n":%d},"general":{"max_unhealthy_fraction":%g},"health":{"monitor_health":true,"missing_timeout":36000,"boot_timeout":36000}}
			valid RUNNING
			valid OK`, size, fraction))
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			s.shake(r)
			if running := len(s.those(func(i *events.Instance) bool { return i.State == events.Running })); running < size-most {
				r.Fatalf("%d of %d run, at most %d may be replaced:\n%s", running, size, most, s.out.String())
			}
		}
		for range 3 * size {
			for _, i := range s.those(func(i *events.Instance) bool { return i.State < events.Running }) {
				s.play(s.names[i.ID] + " RUNNING")
				s.play(s.names[i.ID] + " OK")
			}
			s.goOn(s.now.Add(2 * engines.MostBackOff))
		}
		if well := len(s.those(func(i *events.Instance) bool { return i.State == events.Running && !i.Unhealthy() })); well != size {
			r.Fatalf("%d of %d are well in the end:\n%s", well, size, s.out.String())
		}
	})
}

// shake lets something happen to an instance, or time go on.
func (s *stage) shake(r *rapid.T) {
	valid := s.those((*events.Instance).Valid)
	if len(valid) == 0 {
		s.goOn(s.now.Add(engines.MostBackOff))
		return
	}
	switch i := rapid.SampledFrom(valid).Draw(r, "instance"); rapid.SampledFrom([]string{"one", "all", "time", "elect"}).Draw(r, "what") {
	case "one":
		said := []string{"RUNNING", "FAILED", "MONITOR_ERROR", "RUNNING_FAILED"}
		if i.State == events.Running {
			said = []string{"MONITOR_ERROR", "PROCESS_ERROR", "OK"}
		}
		s.play(s.names[i.ID] + " " + rapid.SampledFrom(said).Draw(r, "said"))
	case "all":
		fails := rapid.SampledFrom([]string{"FAILED", "MONITOR_ERROR", "RUNNING_FAILED"}).Draw(r, "fails")
		for _, i := range valid {
			if i.State == events.Running {
				s.play(s.names[i.ID] + " MONITOR_ERROR")
			} else {
				s.play(s.names[i.ID] + " " + fails)
			}
		}
	case "time":
		s.goOn(s.now.Add(time.Duration(rapid.IntRange(1, 90_000).Draw(r, "ms")) * time.Millisecond))
	case "elect":
		s.play("elect")
	}
}

func (s *stage) those(which func(*events.Instance) bool) (list []*events.Instance) {
	s.term.Replica.View(func(state *events.State) {
		for _, i := range state.Instances(dom) {
			if which(i) {
				list = append(list, i)
			}
		}
	})
	return list
}
