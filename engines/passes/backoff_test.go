package passes

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

var began = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// at is so many seconds after began.
func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

// failedLaunch is an instance that failed before it ran.
func failedLaunch(site string, when, attempt int) *events.Instance {
	return &events.Instance{Site: site, State: events.Failed, StateTime: at(when), Attempt: attempt}
}

// ran is an instance that reached RUNNING.
func ran(site string, when int, state events.InstanceState) *events.Instance {
	return &events.Instance{Site: site, State: state, StateTime: at(when), RunningTime: at(when)}
}

func TestBackOff(t *testing.T) {
	rejected := failedLaunch("a", 10, 0)
	rejected.State = events.Rejected
	terminated := failedLaunch("a", 10, 0)
	terminated.State = events.Terminated
	unwanted := failedLaunch("a", 10, 0)
	unwanted.Unwanted = true
	ranAndFailed := ran("a", 10, events.Failed)
	ranAndFailed.StateTime = at(20)
	tests := []struct {
		name      string
		instances []*events.Instance
		until     time.Time
		attempt   int
	}{
		{"nothing", nil, time.Time{}, 0},
		{"none failed", []*events.Instance{ran("a", 10, events.Running), {Site: "a", State: events.Pending, Attempt: 3, StateTime: at(1)}}, time.Time{}, 0},
		{"the first failed", []*events.Instance{failedLaunch("a", 10, 0)}, at(11), 1},
		{"rejected", []*events.Instance{rejected}, at(11), 1},
		{"terminated, though nobody asked for it", []*events.Instance{terminated}, at(11), 1},
		{"failed after a request to terminate", []*events.Instance{unwanted}, time.Time{}, 0},
		{"at another site", []*events.Instance{failedLaunch("b", 10, 0)}, time.Time{}, 0},
		{"the latest failure counts", []*events.Instance{failedLaunch("a", 30, 0), failedLaunch("a", 10, 0)}, at(31), 1},
		{"the highest attempt counts", []*events.Instance{failedLaunch("a", 10, 2), failedLaunch("a", 30, 0)}, at(34), 3},
		{"an instance ran and failed", []*events.Instance{ranAndFailed}, time.Time{}, 0},
		{"one ran since", []*events.Instance{failedLaunch("a", 10, 4), ran("a", 20, events.Running)}, time.Time{}, 0},
		{"one ran at the same time", []*events.Instance{failedLaunch("a", 10, 4), ran("a", 10, events.Running)}, time.Time{}, 0},
		{"one ran elsewhere since", []*events.Instance{failedLaunch("a", 10, 4), ran("b", 20, events.Running)}, at(26), 5},
		{"one ran, which is gone", []*events.Instance{failedLaunch("a", 10, 4), ran("a", 20, events.Terminated)}, time.Time{}, 0},
		{"failed since one ran", []*events.Instance{failedLaunch("a", 10, 4), ran("a", 20, events.Running), failedLaunch("a", 30, 0)}, at(31), 1},
	}
	for _, tt := range tests {
		until, attempt := engines.BackOff(tt.instances, "a")
		if !until.Equal(tt.until) || attempt != tt.attempt {
			t.Errorf("%s: until %s, attempt %d; want %s, %d", tt.name, until, attempt, tt.until, tt.attempt)
		}
	}
}

func TestBackOff_Doubles(t *testing.T) {
	for n, delay := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		until, attempt := engines.BackOff([]*events.Instance{failedLaunch("a", 100, n)}, "a")
		if !until.Equal(at(100+delay)) || attempt != n+1 {
			t.Errorf("after attempt %d: until %s, attempt %d; want %s, %d", n, until, attempt, at(100+delay), n+1)
		}
	}
	if until, attempt := engines.BackOff([]*events.Instance{failedLaunch("a", 100, 1<<40)}, "a"); !until.Equal(at(160)) || attempt != 1<<40+1 {
		t.Errorf("a great many: until %s, attempt %d", until, attempt)
	}
}

func TestHoldBack(t *testing.T) {
	a, b, c := engines.Launch{Site: "a"}, engines.Launch{Site: "b"}, engines.Launch{Site: "c"}
	instances := []*events.Instance{failedLaunch("a", 100, 1), failedLaunch("b", 100, 0)} // a waits until 102, b until 101
	tests := []struct {
		name     string
		now      time.Time
		launches []engines.Launch
		due      []attemptedLaunch
		held     heldBack
	}{
		{"nothing to launch", at(100), nil, nil, heldBack{}},
		{"at a site that is well", at(100), []engines.Launch{c, c}, []attemptedLaunch{{c, 0}, {c, 0}}, heldBack{}},
		{"held at two sites", at(100), []engines.Launch{a, c, b, a}, []attemptedLaunch{{c, 0}}, heldBack{count: 3, site: "b", attempt: 1, until: at(101)}},
		{"one site is due", at(101), []engines.Launch{a, b}, []attemptedLaunch{{b, 1}}, heldBack{count: 1, site: "a", attempt: 2, until: at(102)}},
		{"both are due", at(102), []engines.Launch{a, b}, []attemptedLaunch{{a, 2}, {b, 1}}, heldBack{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			due, held := holdBack(&look{instances: instances, view: engines.View{Now: tt.now}}, tt.launches)
			if diff := cmp.Diff(tt.due, append([]attemptedLaunch(nil), due...), cmp.AllowUnexported(attemptedLaunch{})); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.held, held, cmp.AllowUnexported(heldBack{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	held := heldBack{count: 3, site: "b", attempt: 1, until: at(101)}
	if got, want := held.reason(), "; 3 launches at site b wait for attempt 1, at 00:01:41, since launches failed there"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBackOff_RunningFailed: launches that go RUNNING_FAILED without ever having run
// are no hot loop.
func TestBackOff_RunningFailed(t *testing.T) {
	s := newStage(t)
	s.play(`config {"engine_conf":{"preserve_n":1}}`)
	for range 20 {
		for _, i := range s.those((*events.Instance).Valid) {
			name := s.names[i.ID]
			s.play(fmt.Sprintf("%s STARTED\n%s RUNNING_FAILED\n%s TERMINATED", name, name, name))
		}
	}
	if n := len(s.ids); n > 3 {
		t.Errorf("%d launches within %s", n, s.now.Sub(began))
	}
	s.play("at 5m")
	if n := len(s.those((*events.Instance).Valid)); n != 1 {
		t.Errorf("%d instances once the back-off is over, not 1:\n%s", n, s.out.String())
	}
}
