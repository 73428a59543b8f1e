package agent_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// The same program stops an agent and runs another.
func TestAdoption_CleanStop(t *testing.T) {
	h := newHarness(t)
	stop := h.start()
	vars := logVar(t)
	for _, id := range []string{"lives", "dies"} {
		h.provision(id, "sleeper", vars)
		h.await(id, events.Running, 0)
	}
	before := h.await("lives", events.Running, 0)
	stop()
	if !alive(pid(before)) {
		t.Fatal("the process did not survive the agent")
	}
	if err := syscall.Kill(pid(h.await("dies", events.Running, 0)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	seen := len(h.of("lives"))
	h.start()
	after := h.await("lives", events.Running, seen)
	if pid(after) != pid(before) || after["update_counter"].(float64) <= before["update_counter"].(float64) {
		t.Errorf("before %v, after %v", before, after)
	}
	h.await("dies", events.Failed, 0)
	h.provision("lives", "sleeper", vars)
	h.provision("dies", "sleeper", vars)
	h.await("lives", events.Running, seen+1)
	if n := lines(vars["log"].(string)); n != 2 {
		t.Errorf("launched %d times, want 2", n)
	}
	if err := syscall.Kill(pid(after), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if rep := h.await("lives", events.Failed, 0); rep["exit_signal"] != "SIGKILL" {
		t.Errorf("report %v", rep)
	}
}

// The agent's program is killed; the next one is not the processes' parent.
func TestAdoption_Crash(t *testing.T) {
	h := newHarness(t)
	first := h.program()
	vars := logVar(t)
	for _, id := range []string{"lives", "dies", "ends", "stubborn"} {
		kind := "sleeper"
		if id == "stubborn" {
			kind = id
		}
		h.until(id, events.Running, func() { h.provision(id, kind, vars) })
	}
	h.terminate("stubborn")
	h.await("stubborn", events.Terminating, 0)
	crash(t, first)
	before := h.await("lives", events.Running, 0)
	if err := syscall.Kill(pid(h.await("dies", events.Running, 0)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	seen := len(h.of("lives"))
	h.start()
	if after := h.await("lives", events.Running, seen); pid(after) != pid(before) {
		t.Errorf("before %v, after %v", before, after)
	}
	if rep := h.await("dies", events.Failed, 0); !strings.Contains(rep["error"].(string), "exit code is unknown") {
		t.Errorf("report %v", rep)
	}
	h.await("stubborn", events.Terminated, 0)
	h.terminate("lives")
	h.await("lives", events.Terminated, 0)

	began := time.Now()
	if err := syscall.Kill(pid(h.await("ends", events.Running, 0)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.await("ends", events.Failed, 0)
	if took := time.Since(began); took > time.Second {
		t.Errorf("the death of an adopted process was seen after %v", took)
	}
}

// until repeats a request until it is heard, as the leader does.
func (h *harness) until(id string, state events.InstanceState, ask func()) {
	h.t.Helper()
	next := time.Now()
	h.poll("report of "+id+" "+string(state), func() bool {
		if time.Now().After(next) {
			ask()
			next = time.Now().Add(200 * time.Millisecond)
		}
		for _, rep := range h.of(id) {
			if rep["state"] == string(state) {
				return true
			}
		}
		return false
	})
}

// An agent that died between the fork and the record of the process left an
// intent.
func TestAdoption_Intent(t *testing.T) {
	h := newHarness(t)
	stop := h.start()
	vars := logVar(t)
	for _, id := range []string{"forked", "parent", "gone"} {
		kind := "sleeper"
		if id == "parent" {
			kind = "family"
		}
		h.provision(id, kind, map[string]any{"log": vars["log"].(string) + id})
		h.await(id, events.Running, 0)
	}
	stop()
	if err := syscall.Kill(pid(h.await("gone", events.Running, 0)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"forked", "parent", "gone"} {
		h.rewrite(id, func(rec map[string]any) {
			for _, field := range []string{"process", "pid", "hostname", "public_ip", "private_ip"} {
				delete(rec, field)
			}
			rec["state"] = string(events.Pending)
		})
	}
	seen := len(h.of("forked"))
	h.start()
	for _, id := range []string{"forked", "parent"} {
		before, after := h.await(id, events.Running, 0), h.await(id, events.Running, seen)
		if pid(before) != pid(after) {
			t.Errorf("%s: before %v, after %v", id, before, after)
		}
	}
	// How it ended may have been noted after the record was rewritten.
	said := h.await("gone", events.Failed, 0)["error"].(string)
	if !strings.Contains(said, "while it started the process") && !strings.Contains(said, "before it was running") {
		t.Errorf("reported: %s", said)
	}
	if n := lines(vars["log"].(string) + "forked"); n != 1 {
		t.Errorf("launched %d times", n)
	}
	h.terminate("forked", "parent")
	h.await("forked", events.Terminated, 0)
	h.await("parent", events.Terminated, 0)
	if left := h.processes(""); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
}

// However often and whenever the agent is killed, no instance is launched
// twice, and none is lost.
func TestAdoption_KilledAtAnyTime(t *testing.T) {
	h := newHarness(t)
	dir := t.TempDir()
	logOf := func(id string) string { return filepath.Join(dir, id) }
	var ids []string
	for round := range 6 {
		program := h.program()
		id := fmt.Sprintf("first-%d", round)
		ids = append(ids, id)
		h.until(id, events.Requested, func() { h.provision(id, "sleeper", map[string]any{"log": logOf(id)}) })
		for n := range 8 {
			id := fmt.Sprintf("i-%d-%d", round, n)
			ids = append(ids, id)
			h.provision(id, "sleeper", map[string]any{"log": logOf(id)})
		}
		last := ids[len(ids)-1-round]
		h.poll("anything of "+last, func() bool { return len(h.of(last)) > 0 })
		crash(t, program)
	}
	h.start()
	for _, id := range ids {
		ask := func() { h.provision(id, "sleeper", map[string]any{"log": logOf(id)}) }
		seen := len(h.of(id))
		ask()
		h.poll("end or success of "+id, func() bool {
			for _, state := range h.states(id)[seen:] {
				if state == string(events.Running) || state == string(events.Failed) {
					return true
				}
			}
			return false
		})
		states := h.states(id)
		launched, running := lines(logOf(id)), len(h.processes(id))
		failed := states[len(states)-1] == string(events.Failed)
		if launched > 1 || running > 1 || failed == (running == 1) {
			t.Errorf("%s: launched %d times, %d processes, states %v", id, launched, running, states)
		}
	}
}
