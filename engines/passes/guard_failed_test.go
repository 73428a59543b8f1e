package passes

import (
	"testing"

	"github.com/seed-524e47bf/epum/events"
)

// TestGuard_RunningFailed: a replacement that goes RUNNING_FAILED before it ran leaves
// its place open: the next ill one waits until a replacement runs.
func TestGuard_RunningFailed(t *testing.T) {
	s := newStage(t)
	s.play(`config {"engine_conf":{"preserve_n":2},"general":{"max_unhealthy_fraction":0},"health":{"monitor_health":true,"missing_timeout":36000,"boot_timeout":36000}}
		valid RUNNING
		valid OK
		i1 i2 MONITOR_ERROR
		i3 RUNNING_FAILED
		at 5s`)
	if len(s.those(func(i *events.Instance) bool { return i.State == events.Running })) == 0 {
		t.Errorf("both are gone, and no replacement has run:\n%s", s.out.String())
	}
}
