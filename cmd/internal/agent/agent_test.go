package agent_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/events"
)

var toRunning = []string{"200-REQUESTED", "400-PENDING", "500-STARTED", "600-RUNNING"}

func logVar(t *testing.T) map[string]any {
	return map[string]any{"log": filepath.Join(t.TempDir(), "log")}
}

func TestAgent_Provision(t *testing.T) {
	h := newHarness(t)
	h.start()
	id := "a@b.c/1" // no plain token
	vars := logVar(t)
	h.provision(id, "sleeper", vars)
	rep := h.await(id, events.Running, 0)
	if !alive(pid(rep)) {
		t.Errorf("pid %v of %v does not run", rep["pid"], rep)
	}
	if diff := cmp.Diff(toRunning, h.states(id)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	for n, rep := range h.of(id) {
		if rep["update_counter"] != float64(n+1) || rep["site"] != h.site {
			t.Errorf("report %d: %v", n, rep)
		}
	}
	host, _ := os.Hostname()
	if rep["hostname"] != host || rep["public_ip"] != "127.0.0.1" || rep["private_ip"] != "127.0.0.1" {
		t.Errorf("address in %v", rep)
	}
	if sid, err := sessionOf(pid(rep)); err != nil || sid != pid(rep) {
		t.Errorf("session %d (%v), want its own", sid, err)
	}

	t.Run("repeated", func(t *testing.T) {
		h.t = t
		for range 3 {
			seen := len(h.of(id))
			h.provision(id, "sleeper", vars)
			again := h.await(id, events.Running, seen)
			if pid(again) != pid(rep) || again["update_counter"].(float64) <= rep["update_counter"].(float64) {
				t.Errorf("repeated: %v, first %v", again, rep)
			}
		}
		if n := lines(vars["log"].(string)); n != 1 {
			t.Errorf("launched %d times", n)
		}
	})
}

func sessionOf(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.Fields(string(stat[strings.LastIndex(string(stat), ")"):]))[4])
}

func TestAgent_DefaultTypes(t *testing.T) {
	h := newHarness(t)
	cfg := h.config()
	cfg.Types = nil
	a, err := agent.Open(h.nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.run(a.Run)
	h.provision("i1", "epu_work_consumer", nil)
	rep := h.await("i1", events.Running, 0)
	began := time.Now()
	h.terminate("i1")
	h.await("i1", events.Terminated, 0)
	if took := time.Since(began); took > 2*time.Second || alive(pid(rep)) {
		t.Errorf("terminated after %v", took)
	}
}

func TestAgent_Exit(t *testing.T) {
	h := newHarness(t)
	h.start()

	t.Run("killed", func(t *testing.T) {
		h.t = t
		h.provision("killed", "sleeper", logVar(t))
		rep := h.await("killed", events.Running, 0)
		began := time.Now()
		if err := syscall.Kill(pid(rep), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		rep = h.await("killed", events.Failed, 0)
		if took := time.Since(began); took > time.Second {
			t.Errorf("seen after %v", took)
		}
		if rep["exit_signal"] != "SIGKILL" || rep["exit_code"] != nil || !strings.Contains(rep["error"].(string), "SIGKILL") {
			t.Errorf("report %v", rep)
		}
	})
	t.Run("code and stderr", func(t *testing.T) {
		h.t = t
		h.provision("failing", "failing", nil)
		rep := h.await("failing", events.Failed, 0)
		tail := rep["stderr_tail"].(string)
		if rep["exit_code"] != 3.0 || !strings.HasPrefix(tail, "line 12\n") || !strings.HasSuffix(tail, "line 30\nbad ? byte") || !utf8.ValidString(tail) {
			t.Errorf("report %v", rep)
		}
		if diff := cmp.Diff(append(toRunning[:4:4], "900-FAILED"), h.states("failing")); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
	t.Run("code 0", func(t *testing.T) {
		h.t = t
		h.provision("leaver", "leaver", nil)
		if rep := h.await("leaver", events.Failed, 0); rep["exit_code"] != 0.0 {
			t.Errorf("report %v", rep)
		}
	})
	t.Run("before it runs", func(t *testing.T) {
		h.t = t
		h.provision("early", "early", nil)
		rep := h.await("early", events.Failed, 0)
		if rep["exit_code"] != 7.0 || !strings.Contains(rep["error"].(string), "before it was running") {
			t.Errorf("report %v", rep)
		}
		if diff := cmp.Diff(append(toRunning[:3:3], "900-FAILED"), h.states("early")); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
	t.Run("takes its group along", func(t *testing.T) {
		h.t = t
		vars := logVar(t)
		h.provision("family", "family", vars)
		rep := h.await("family", events.Running, 0)
		if err := syscall.Kill(pid(rep), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.await("family", events.Failed, 0)
		h.poll("end of the family", func() bool { return len(h.processes("family")) == 0 })
	})
}

func TestAgent_NoStart(t *testing.T) {
	h := newHarness(t)
	h.start()
	for _, c := range []struct{ deployable, want string }{
		{"missing", "/no/such/program"},
		{"nonsense", `unknown deployable type "nonsense"; this agent knows chatty, early, `},
		{"sleeper", `no entry for key "log"`},
	} {
		h.provision("i-"+c.deployable, c.deployable, nil)
		rep := h.await("i-"+c.deployable, events.Failed, 0)
		if !strings.Contains(rep["error"].(string), c.want) {
			t.Errorf("%s: error %q, want %q in it", c.deployable, rep["error"], c.want)
		}
		if n := len(h.processes("i-" + c.deployable)); n != 0 {
			t.Errorf("%s: %d processes", c.deployable, n)
		}
	}
	h.provision("i-null", "sleeper", map[string]any{"log": nil})
	h.await("i-null", events.Failed, 0)
}

func TestAgent_Templates(t *testing.T) {
	h := newHarness(t)
	h.start()
	vars, dir := logVar(t), t.TempDir()
	vars["colour"], vars["dir"], vars["n"], vars["nested"] = "dark green", dir, 1e15+1, map[string]any{"x": true}
	h.provision("i1", "templated", vars)
	h.await("i1", events.Running, 0)
	got, err := os.ReadFile(vars["log"].(string))
	if err != nil {
		t.Fatal(err)
	}
	want := "dark green|i1|" + h.site + "|" + dir + "|1000000000000001 true"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAgent_Terminate(t *testing.T) {
	h := newHarness(t)
	h.start()

	t.Run("with SIGTERM", func(t *testing.T) {
		h.t = t
		h.provision("polite", "family", logVar(t))
		h.await("polite", events.Running, 0)
		h.terminate("polite")
		rep := h.await("polite", events.Terminated, 0)
		if rep["exit_signal"] != "SIGTERM" || len(h.processes("polite")) != 0 {
			t.Errorf("report %v, processes left %v", rep, h.processes("polite"))
		}
		if diff := cmp.Diff(append(toRunning[:4:4], "700-TERMINATING", "800-TERMINATED"), h.states("polite")); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
	t.Run("with SIGKILL", func(t *testing.T) {
		h.t = t
		vars := logVar(t)
		h.provision("stubborn", "stubborn", vars)
		h.await("stubborn", events.Running, 0)
		h.poll("trap", func() bool { return lines(vars["log"].(string)) == 1 })
		h.terminate("stubborn")
		h.await("stubborn", events.Terminating, 0)
		h.terminate("stubborn")
		if rep := h.await("stubborn", events.Terminated, 0); rep["exit_signal"] != "SIGKILL" {
			t.Errorf("report %v", rep)
		}
	})
	t.Run("before it is provisioned", func(t *testing.T) {
		h.t = t
		vars := logVar(t)
		h.terminate("never", "nor-this")
		h.await("never", events.Terminated, 0)
		h.await("nor-this", events.Terminated, 0)
		seen := len(h.of("never"))
		h.provision("never", "sleeper", vars)
		h.await("never", events.Terminated, seen)
		if states := h.states("never"); len(h.processes("never")) != 0 || states[len(states)-1] != "800-TERMINATED" {
			t.Errorf("states %v", states)
		}
	})
	t.Run("after it failed", func(t *testing.T) {
		h.t = t
		h.provision("failed", "early", nil)
		h.await("failed", events.Failed, 0)
		seen := len(h.of("failed"))
		h.terminate("failed")
		h.await("failed", events.Failed, seen)
		h.settled("failed")
		if entries, _ := os.ReadDir(filepath.Join(h.dir, "failed")); len(entries) != 1 {
			t.Errorf("a tombstone has %v", entries)
		}
	})
}

func TestAgent_DumpState(t *testing.T) {
	h := newHarness(t)
	h.start()
	h.provision("i1", "sleeper", logVar(t))
	h.await("i1", events.Running, 0)
	seen := len(h.of("i1"))
	h.dump("i1", "ghost")
	h.await("i1", events.Running, seen)
	if rep := h.await("ghost", events.Failed, 0); !strings.Contains(rep["error"].(string), "does not know") {
		t.Errorf("report %v", rep)
	}
	h.provision("ghost", "sleeper", logVar(t))
	h.await("ghost", events.Failed, 1)
	if n := len(h.processes("ghost")); n != 0 {
		t.Errorf("%d processes of an instance that was called FAILED", n)
	}
}

func TestAgent_Fence(t *testing.T) {
	h := newHarness(t)
	stop := h.start()
	now := time.Now().UTC()
	header := func(when time.Time, epoch string) nats.Header {
		return nats.Header{events.HeaderTime: {when.Format(time.RFC3339Nano)}, events.HeaderEpoch: {epoch}}
	}
	send := func(id string, header nats.Header) {
		h.send(events.OpProvision, h.launch(id, "sleeper", logVar(t)), header)
	}
	send("new", header(now, "7"))
	h.await("new", events.Running, 0)
	refused := func() {
		t.Helper()
		send("older", header(now.Add(-time.Nanosecond), "9"))
		send("lower", header(now, "6"))
		send("broken", nats.Header{events.HeaderTime: {"yesterday"}, events.HeaderEpoch: {"7"}})
		send("half", nats.Header{events.HeaderEpoch: {"7"}})
		seen := len(h.of("new"))
		send("new", header(now, "7")) // handled after the ones above
		h.await("new", events.Running, seen)
		for _, id := range []string{"older", "lower", "broken", "half"} {
			if states := h.states(id); len(states) != 0 {
				t.Errorf("%s was obeyed: %v", id, states)
			}
		}
	}
	refused()
	stop()
	h.start()
	refused()
	send("bare", nil)
	h.await("bare", events.Running, 0)
	send("later", header(now.Add(time.Second), "1"))
	h.await("later", events.Running, 0)
}

// A report waits for its ack, in order, however long the stream is away.
func TestAgent_ReportsUntilAcked(t *testing.T) {
	h := newHarness(t)
	js := h.loseStream()
	stop := h.start()
	h.provision("i1", "early", nil)
	h.provision("i2", "leaver", nil)
	h.poll("end of i2 on disk", func() bool { return h.record("i2")["state"] == string(events.Failed) })
	h.poll("end of i1 on disk", func() bool { return h.record("i1")["state"] == string(events.Failed) })
	if h.record("i1")["settled"] == true {
		t.Error("settled without an ack")
	}
	h.createStream()
	h.settled("i1")
	stop()
	h.start() // whatever i2 still had to say, its end is said again
	h.settled("i2")
	stream, err := js.Stream(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		msg, err := stream.GetLastMsgForSubject(t.Context(), events.DefaultPrefix.Node(id, events.OpInstanceInfo))
		if err != nil || !strings.Contains(string(msg.Data), `"900-FAILED"`) {
			t.Errorf("%s: last in the stream: %v %v", id, msg, err)
		}
	}
}
