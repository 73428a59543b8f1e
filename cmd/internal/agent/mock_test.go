package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/events"
)

func (h *harness) mock(cfg agent.MockConfig) (stop func()) {
	h.t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	m, err := agent.OpenMock(h.nc, cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.run(m.Run)
}

func TestMock_LifeCycle(t *testing.T) {
	h := newHarness(t)
	h.mock(agent.MockConfig{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
	h.provision("i1", "anything", nil)
	rep := h.await("i1", events.Running, 0)
	if rep["site"] != h.site || rep["public_ip"] == nil || rep["hostname"] == nil {
		t.Errorf("report %v", rep)
	}
	h.site = "another site" // all sites are served
	h.provision("i2", "anything", nil)
	if rep := h.await("i2", events.Running, 0); rep["site"] != h.site {
		t.Errorf("report %v", rep)
	}
	h.provision("i2", "anything", nil)
	h.await("i2", events.Running, 4)
	h.terminate("i1", "unknown")
	h.await("i1", events.Terminated, 0)
	h.await("unknown", events.Terminated, 0)
	want := append(toRunning[:4:4], "700-TERMINATING", "800-TERMINATED")
	if diff := cmp.Diff(want, h.states("i1")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	for n, rep := range h.of("i1") {
		if rep["update_counter"] != float64(n+1) {
			t.Errorf("report %d: %v", n, rep)
		}
	}
	h.provision("unknown", "anything", nil)
	h.await("unknown", events.Terminated, 1)
	h.dump("i2", "ghost")
	h.await("i2", events.Running, 5)
	h.await("ghost", events.Failed, 0)
}

func TestMock_TerminateWhileStarting(t *testing.T) {
	h := newHarness(t)
	h.mock(agent.MockConfig{Delay: 50 * time.Millisecond})
	h.provision("i1", "anything", nil)
	h.await("i1", events.Pending, 0)
	h.terminate("i1")
	h.await("i1", events.Terminated, 0)
	if diff := cmp.Diff([]string{"200-REQUESTED", "400-PENDING", "700-TERMINATING", "800-TERMINATED"}, h.states("i1")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestMock_FailureRate(t *testing.T) {
	const instances = 400
	fates := func(seed uint64) map[string]bool {
		h := newHarness(t)
		stop := h.mock(agent.MockConfig{FailureRate: 0.25, Seed: seed})
		failed := make(map[string]bool, instances)
		for n := range instances {
			h.provision(fmt.Sprintf("instance-%d", n), "anything", nil)
		}
		for n := range instances {
			id := fmt.Sprintf("instance-%d", n)
			h.poll("fate of "+id, func() bool {
				states := h.states(id)
				last := ""
				if len(states) > 0 {
					last = states[len(states)-1]
				}
				failed[id] = last == string(events.Failed)
				return failed[id] || last == string(events.Running)
			})
		}
		stop()
		return failed
	}
	first, again, other := fates(1), fates(1), fates(2)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same seed (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, other) {
		t.Error("another seed fails the same launches")
	}
	n := 0
	for _, failed := range first {
		if failed {
			n++
		}
	}
	if n < 70 || n > 130 {
		t.Errorf("%d of %d failed, want about a quarter", n, instances)
	}
}

func TestMock_Config(t *testing.T) {
	h := newHarness(t)
	for _, cfg := range []agent.MockConfig{{FailureRate: 1.5}, {FailureRate: -1}, {Delay: -1}} {
		if err := agent.RunMock(context.Background(), h.nc, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
