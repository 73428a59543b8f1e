package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

const checksYAML = `
well:
  command: [sleep, "1000"]
  start_after: 60ms
  env: {COLOUR: '{{.colour}}'}
  dir: '{{.dir}}'
  check: [sh, -c, 'echo noise; test "$EPUM_INSTANCE|$EPUM_SITE|$COLOUR|$PWD" = "{{.want}}" && kill -0 $EPUM_PID']
unwell:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [/bin/sh, -c, 'echo first; echo "it is {{.why}}" >&2; echo; exit 3']
wordy:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [sh, -c, 'head -c 5000000 /dev/zero; echo; head -c 3000 /dev/zero | tr "\0" x; exit 1']
killed:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [sh, -c, 'kill -SEGV $$']
lacking:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [/no/such/check]
switched:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [test, -e, '{{.log}}']
hanging:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [sh, -c, 'sleep 1000 & echo $! >> {{.log}}; trap "" TERM; wait']
  check_timeout: 150ms
stuck:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [sh, -c, 'sleep 1000 & echo $! >> {{.log}}; wait']
  check_timeout: 1m
slow:
  command: [sleep, "1000"]
  start_after: 60ms
  check: [sh, -c, 'mkdir {{.log}} || exit 9; echo >> {{.log}}s; sleep 0.1; rmdir {{.log}}']
plain:
  command: [sleep, "1000"]
  start_after: 60ms
`

func newCheckHarness(t *testing.T) (*harness, *pulse) {
	t.Helper()
	h := newHarness(t)
	h.types = h.write("checks.yaml", checksYAML)
	return h, h.pulse()
}

// failure is what a heartbeat says of a check that did not end well.
func failure(beat map[string]any) map[string]any {
	said := map[string]any{}
	for _, field := range []string{"state", "error", "failed_processes"} {
		said[field] = beat[field]
	}
	return said
}

// awaitProblem waits until an instance's heartbeats are of a failed check. While
// it is STARTED it is not checked yet, and OK.
func (p *pulse) awaitProblem(id string) map[string]any {
	p.h.t.Helper()
	p.h.poll("failed check of "+id, func() bool { return p.last(id)["state"] == "PROCESS_ERROR" })
	return p.await(id, 2)
}

func problem(sentence string, process map[string]any) map[string]any {
	return map[string]any{"state": "PROCESS_ERROR", "error": sentence, "failed_processes": []any{process}}
}

func TestCheck_Findings(t *testing.T) {
	h, beats := newCheckHarness(t)
	h.beating(often)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"well", h.site, "blue", dir}, "|")
	h.provision("well", "well", map[string]any{"colour": "blue", "dir": dir, "want": want})
	h.provision("unwell", "unwell", map[string]any{"why": "broken"})
	h.provision("wordy", "wordy", nil)
	h.provision("killed", "killed", nil)
	h.provision("lacking", "lacking", nil)

	if beat := beats.await("well", 3); beat["state"] != "OK" || beat["error"] != nil || beat["failed_processes"] != nil {
		t.Errorf("heartbeat %v", beat)
	}
	for id, want := range map[string]map[string]any{
		"unwell":  problem("check exited with code 3: it is broken", map[string]any{"name": "sh", "exit_code": 3.0}),
		"wordy":   problem("check exited with code 1: "+strings.Repeat("x", 500), map[string]any{"name": "sh", "exit_code": 1.0}),
		"killed":  problem("check was killed by SIGSEGV", map[string]any{"name": "sh", "exit_signal": "SIGSEGV"}),
		"lacking": problem("check did not start: fork/exec /no/such/check: no such file or directory", map[string]any{"name": "check"}),
	} {
		if diff := cmp.Diff(want, failure(beats.awaitProblem(id))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
	for _, id := range []string{"unwell", "wordy", "killed", "lacking"} {
		if states := beats.states(id); len(states) > 2 || states[len(states)-1] != "PROCESS_ERROR" {
			t.Errorf("%s: states %v", id, states)
		}
	}
	if states := beats.states("well"); len(states) != 1 {
		t.Errorf("well: states %v", states)
	}
	h.provision("no var", "unwell", nil)
	if rep := h.await("no var", events.Failed, 0); !strings.Contains(rep["error"].(string), "check[2]") {
		t.Errorf("report %v", rep)
	}
}

func TestCheck_Recovers(t *testing.T) {
	h, beats := newCheckHarness(t)
	h.beating(often)
	vars := logVar(t)
	h.provision("i1", "switched", vars)
	if beat := beats.awaitProblem("i1"); beat["error"] != "check exited with code 1" {
		t.Errorf("heartbeat %v", beat)
	}
	if err := os.WriteFile(vars["log"].(string), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.poll("recovery", func() bool { return beats.last("i1")["state"] == "OK" })
}

// firstLogged waits for the first line that a check wrote, the pid of its child.
func (h *harness) firstLogged(path string) int {
	h.t.Helper()
	h.poll("first check", func() bool { return lines(path) > 0 })
	data, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	child, err := strconv.Atoi(first)
	if err != nil {
		h.t.Fatal(err)
	}
	return child
}

func TestCheck_TooSlow(t *testing.T) {
	h, beats := newCheckHarness(t)
	h.beating(seldom)
	vars := logVar(t)
	h.provision("i1", "hanging", vars)
	want := problem("check took longer than 150ms", map[string]any{"name": "sh"})
	if diff := cmp.Diff(want, failure(beats.last("i1"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	child := h.firstLogged(vars["log"].(string))
	h.poll("end of the check's child", func() bool { return !alive(child) })
	h.poll("end of the check", func() bool { return len(h.processes("i1")) == 1 })

	seen := beats.count("i1")
	h.ask(h.site) // is answered with what the last check found
	h.poll("answer", func() bool { return beats.count("i1") > seen })
	if diff := cmp.Diff(want, failure(beats.last("i1"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := lines(vars["log"].(string)); n != 1 {
		t.Errorf("%d checks, want 1", n)
	}
}

// A check ends with the agent, and with its instance.
func TestCheck_Ends(t *testing.T) {
	for _, name := range []string{"stopped", "terminated"} {
		t.Run(name, func(t *testing.T) {
			h, beats := newCheckHarness(t)
			stop := h.beating(seldom)
			vars := logVar(t)
			h.provision("i1", "stuck", vars)
			child := h.firstLogged(vars["log"].(string))
			left := 1
			if name == "stopped" {
				stop()
			} else {
				h.terminate("i1")
				h.await("i1", events.Terminated, 0)
				left = 0
			}
			h.poll("end of the check's child", func() bool { return !alive(child) })
			h.poll("end of the check", func() bool { return len(h.processes("i1")) == left })
			if n := beats.count("i1"); n != 0 {
				t.Errorf("%d heartbeats of an instance whose check has not ended", n)
			}
		})
	}
}

// An agent that is killed cannot end its checks; the next one does.
func TestCheck_LeftBehind(t *testing.T) {
	h, _ := newCheckHarness(t)
	program := h.program()
	vars := logVar(t)
	h.until("i1", events.Running, func() { h.provision("i1", "stuck", vars) })
	child := h.firstLogged(vars["log"].(string))
	crash(t, program)
	h.beating(seldom)
	h.poll("end of the check's child", func() bool { return !alive(child) })
	h.poll("the next check", func() bool { return lines(vars["log"].(string)) == 2 })
	if n := len(h.processes("i1")); n != 3 {
		t.Errorf("%d processes, want the instance's and two of its check", n)
	}
}

// The check is in the instance's record: the next agent may have other types.
func TestCheck_Adoption(t *testing.T) {
	h, beats := newCheckHarness(t)
	stop := h.beating(often)
	h.provision("i1", "unwell", map[string]any{"why": "broken"})
	before := beats.awaitProblem("i1")
	stop()
	h.types = h.write("types.yaml", typesYAML)
	h.beating(often)
	if diff := cmp.Diff(failure(before), failure(beats.await("i1", 3))); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// Never two checks of an instance, and never more than four of an agent.
func TestCheck_AtOnce(t *testing.T) {
	h, beats := newCheckHarness(t)
	h.beating(often / 4)
	vars := logVar(t)
	h.provision("slow", "slow", vars)
	h.poll("five checks", func() bool { return lines(vars["log"].(string)+"s") >= 5 })
	if states := beats.states("slow"); len(states) != 1 || states[0] != "OK" {
		t.Errorf("states %v", states)
	}
	h.terminate("slow")
	h.await("slow", events.Terminated, 0)

	const instances = 8
	log := filepath.Join(t.TempDir(), "log")
	for n := range instances {
		h.provision(fmt.Sprintf("stuck-%d", n), "stuck", map[string]any{"log": log})
	}
	h.provision("plain", "plain", nil)
	for n := range instances {
		h.await(fmt.Sprintf("stuck-%d", n), events.Running, 0)
	}
	h.poll("four checks", func() bool { return lines(log) == 4 })
	beats.await("plain", 10) // which the others do not hold up
	if n := lines(log); n != 4 {
		t.Errorf("%d checks at once, want 4", n)
	}
	began := time.Now()
	h.terminate("plain")
	h.await("plain", events.Terminated, 0)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("terminated after %v", took)
	}
}
