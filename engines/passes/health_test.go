package passes

import (
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// TestDiagnose is the doctor's table (design §6), with the election at 100 s,
// boot_timeout 60 s, missing_timeout 20 s, really_missing_timeout 5 s,
// zombie_seconds 10 s.
func TestDiagnose(t *testing.T) {
	config := &engines.Health{
		MonitorHealth: true, BootTimeout: 60 * time.Second, MissingTimeout: 20 * time.Second,
		ReallyMissingTimeout: 5 * time.Second, Zombie: 10 * time.Second,
	}
	const never = -1 // heard; or no further look
	for _, tt := range []struct {
		name   string
		state  events.InstanceState
		health events.Health
		since  int // state_time
		heard  int
		now    int
		want   events.Health
		again  int
	}{
		{"boots", events.Running, events.HealthUnknown, 110, never, 170, events.HealthUnknown, 170},
		{"never came up", events.Running, events.HealthUnknown, 110, never, 171, events.HealthOutOfContact, never},
		{"counted from the election", events.Running, events.HealthUnknown, 10, never, 160, events.HealthUnknown, 160},
		{"not heard since the election", events.Running, events.HealthUnknown, 10, never, 161, events.HealthOutOfContact, never},
		{"was OK under the leader before", events.Running, events.HealthOK, 10, never, 120, events.HealthOK, 120},
		{"and is silent now", events.Running, events.HealthOK, 10, never, 121, events.HealthOutOfContact, never},
		{"had an error under the leader before", events.Running, events.HealthProcessError, 10, never, 121, events.HealthOutOfContact, never},
		{"heard", events.Running, events.HealthOK, 110, 130, 150, events.HealthOK, 150},
		{"silent", events.Running, events.HealthOK, 110, 130, 151, events.HealthOutOfContact, never},
		{"silent with an error", events.Running, events.HealthMonitorError, 110, 130, 151, events.HealthOutOfContact, never},
		{"out of contact", events.Running, events.HealthOutOfContact, 110, 151, 156, events.HealthOutOfContact, 156},
		{"missing", events.Running, events.HealthOutOfContact, 110, 151, 157, events.HealthMissing, never},
		{"out of contact before the election", events.Running, events.HealthOutOfContact, 10, never, 105, events.HealthOutOfContact, 105},
		{"and still", events.Running, events.HealthOutOfContact, 10, never, 106, events.HealthMissing, never},
		{"is missing", events.Running, events.HealthMissing, 110, never, 500, events.HealthMissing, never},
		{"not running yet", events.Pending, events.HealthUnknown, 110, never, 500, events.HealthUnknown, never},
		{"failed", events.RunningFailed, events.HealthOK, 110, 120, 500, events.HealthOK, never},

		{"ends, never heard", events.Terminating, events.HealthUnknown, 110, never, 500, events.HealthUnknown, never},
		{"ends, heard before", events.Terminating, events.HealthUnknown, 110, 105, 111, events.HealthUnknown, never},
		{"ends, heard soon after", events.Terminated, events.HealthUnknown, 110, 120, 121, events.HealthUnknown, never},
		{"lives on", events.Terminated, events.HealthUnknown, 110, 121, 125, events.HealthZombie, 131},
		{"lives on while it ends", events.Terminating, events.HealthOK, 110, 121, 125, events.HealthZombie, 131},
		{"lived on until now", events.Terminated, events.HealthZombie, 110, 140, 150, events.HealthZombie, 150},
		{"is dead at last", events.Terminated, events.HealthZombie, 110, 140, 151, events.HealthUnknown, never},
		{"a zombie of the leader before", events.Failed, events.HealthZombie, 10, never, 101, events.HealthUnknown, never},
		{"said OK while it ended", events.Terminating, events.HealthOK, 110, 112, 120, events.HealthOK, 122},
		{"and then nothing", events.Terminating, events.HealthOK, 110, 112, 123, events.HealthUnknown, never},
	} {
		second := func(n int) time.Time {
			if n == never {
				return time.Time{}
			}
			return at(n)
		}
		i := &events.Instance{State: tt.state, Health: tt.health, StateTime: second(tt.since)}
		health, again := diagnose(i, second(tt.heard), at(100), second(tt.now), config)
		if health != tt.want || !again.Equal(second(tt.again)) && health == tt.health {
			t.Errorf("%s: %s, look again at %s; want %s, %s", tt.name, health, again, tt.want, second(tt.again))
		}
	}
}
