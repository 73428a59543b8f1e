package agent_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/events"
)

const (
	often  = 40 * time.Millisecond // a heartbeat interval for a test that waits for several
	seldom = time.Hour             // for a test in which none may come by itself
)

// pulse is what was heard of the heartbeats of all instances.
type pulse struct {
	h  *harness
	mu sync.Mutex
	of map[string][]map[string]any
}

func (h *harness) pulse() *pulse {
	h.t.Helper()
	p := &pulse{h: h, of: map[string][]map[string]any{}}
	if _, err := h.nc.Subscribe("epum.node.*.ou_heartbeat", p.heard); err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (p *pulse) heard(msg *nats.Msg) {
	var beat map[string]any
	if err := json.Unmarshal(msg.Data, &beat); err != nil {
		p.h.t.Errorf("heartbeat %q: %v", msg.Data, err)
		return
	}
	id, _ := beat["node_id"].(string)
	if want := events.DefaultPrefix.Node(id, events.OpHeartbeat); msg.Subject != want {
		p.h.t.Errorf("heartbeat on %s, want %s", msg.Subject, want)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[id] = append(p.of[id], beat)
}

func (p *pulse) count(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.of[id])
}

// await waits for more heartbeats of an instance than it has, and gives the last.
func (p *pulse) await(id string, more int) map[string]any {
	p.h.t.Helper()
	seen := p.count(id)
	p.h.poll(fmt.Sprintf("%d heartbeats more of %s", more, id), func() bool { return p.count(id) >= seen+more })
	return p.last(id)
}

func (p *pulse) last(id string) map[string]any {
	p.h.t.Helper()
	p.h.poll("heartbeat of "+id, func() bool { return p.count(id) > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[id][len(p.of[id])-1]
}

// states are the states in an instance's heartbeats, each once where it repeats.
func (p *pulse) states(id string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var states []string
	for _, beat := range p.of[id] {
		if s := beat["state"].(string); len(states) == 0 || states[len(states)-1] != s {
			states = append(states, s)
		}
	}
	return states
}

// beating runs an agent with a heartbeat interval.
func (h *harness) beating(every time.Duration) (stop func()) {
	h.t.Helper()
	cfg := h.config()
	cfg.HeartbeatInterval = every
	a, err := agent.Open(h.nc, cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.run(a.Run)
}

// ask sends a dump_state to the address of a site's agent.
func (h *harness) ask(site string) {
	h.t.Helper()
	if err := h.nc.Publish(events.DefaultPrefix.OUAgent("epum-agent-"+site), []byte("{}")); err != nil {
		h.t.Fatal(err)
	}
}

func TestHeartbeat_LiveProcess(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	h.beating(often)
	for _, id := range []string{"dies", "lives/1"} {
		h.provision(id, "sleeper", logVar(t))
		beats.await(id, 3)
	}
	beat := beats.last("lives/1")
	when, err := time.Parse(time.RFC3339, beat["timestamp"].(string))
	if age := time.Since(when); err != nil || age < 0 || age > deadline {
		t.Errorf("timestamp %v: %v ago (%v)", beat["timestamp"], age, err)
	}
	delete(beat, "timestamp")
	want := map[string]any{"node_id": "lives/1", "state": "OK", "caller": "epum-agent-" + h.site}
	if diff := cmp.Diff(want, beat); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}

	if err := syscall.Kill(pid(h.await("dies", events.Running, 0)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.await("dies", events.Failed, 0)
	beats.await("lives/1", 1) // what was on its way has come
	seen := beats.count("dies")
	beats.await("lives/1", 5)
	if n := beats.count("dies"); n != seen {
		t.Errorf("%d heartbeats of a process that was killed", n-seen)
	}
}

// Whatever an agent thinks of an instance, it beats as long as its process is
// there.
func TestHeartbeat_TerminatingAndStopped(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	h.types = h.write("types.yaml", typesYAML+"lingering:\n  command: [sh, -c, 'trap \"\" TERM; echo ready > {{.log}}; while :; do sleep 0.05; done']\n  grace: 1m\n")
	h.beating(often)
	vars := logVar(t)
	h.provision("terminating", "lingering", vars)
	h.await("terminating", events.Running, 0)
	h.poll("trap", func() bool { return lines(vars["log"].(string)) == 1 })
	h.terminate("terminating")
	h.await("terminating", events.Terminating, 0)
	beats.await("terminating", 3)

	h.provision("stopped", "sleeper", logVar(t))
	rep := h.await("stopped", events.Running, 0)
	if err := syscall.Kill(pid(rep), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	beats.await("stopped", 3)
	if diff := cmp.Diff([]string{"OK"}, beats.states("terminating")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// The first heartbeat follows the report of RUNNING, and an agent can be asked
// for the next.
func TestHeartbeat_DumpState(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	h.beating(seldom)
	js, err := natsjs.New(h.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		h.provision(id, "sleeper", logVar(t))
		beats.last(id)
		msg, err := stream.GetLastMsgForSubject(t.Context(), events.DefaultPrefix.Node(id, events.OpInstanceInfo))
		if err != nil || !strings.Contains(string(msg.Data), `"600-RUNNING"`) {
			t.Errorf("%s: a heartbeat after %v (%v), want RUNNING", id, msg, err)
		}
	}
	h.provision("dead", "early", nil)
	h.await("dead", events.Failed, 0)

	first, second := beats.count("i1"), beats.count("i2")
	began := time.Now()
	h.ask("another-site")
	h.ask(h.site)
	h.poll("answers", func() bool { return beats.count("i1") > first && beats.count("i2") > second })
	if took := time.Since(began); took > time.Second {
		t.Errorf("answered after %v", took)
	}
	if n := beats.count("dead"); n != 0 {
		t.Errorf("%d heartbeats of an instance that failed", n)
	}

	// The leader asks once for each instance; one answer speaks for them all.
	const asked = 1000
	seen := beats.count("i1")
	for range asked {
		h.ask(h.site)
	}
	h.poll("an answer", func() bool { return beats.count("i1") > seen })
	seen = beats.count("i1")
	h.ask(h.site)
	h.poll("the next answer", func() bool { return beats.count("i1") > seen })
	if n := beats.count("i1"); n > asked/10 {
		t.Errorf("%d heartbeats when asked %d times", n, asked)
	}
}

func TestHeartbeat_Adoption(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	stop := h.beating(often)
	h.provision("i1", "sleeper", logVar(t))
	beats.await("i1", 2)
	stop()
	stop = h.beating(often)
	beats.await("i1", 3)
	stop()
	if err := h.nc.Flush(); err != nil { // the last ones are on their way to the test
		t.Fatal(err)
	}
	seen := beats.count("i1")
	h.beating(seldom)
	h.poll("heartbeat after its report was acked", func() bool { return beats.count("i1") > seen })
}

// Heartbeats do not wait for reports that nobody acks.
func TestHeartbeat_ReportsNotAcked(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	stop := h.beating(often)
	h.provision("i1", "sleeper", logVar(t))
	beats.await("i1", 1)
	stop()
	h.loseStream()
	h.beating(often)
	beats.await("i1", 3)
}

func TestHeartbeat_Config(t *testing.T) {
	h := newHarness(t)
	cfg := h.config()
	cfg.HeartbeatInterval = -time.Second
	if _, err := agent.Open(h.nc, cfg); err == nil || !strings.Contains(err.Error(), "heartbeat interval") {
		t.Errorf("negative interval: %v", err)
	}
	if _, err := agent.OpenMock(h.nc, agent.MockConfig{HeartbeatInterval: -1}); err == nil {
		t.Error("the mock takes a negative interval")
	}
	cfg = h.config()
	cfg.Site = strings.Repeat("x", 118) // a name, but its address is too long for one
	if _, err := agent.Open(h.nc, cfg); err == nil || !strings.Contains(err.Error(), "address") {
		t.Errorf("site without an address: %v", err)
	}
}

func TestMock_Heartbeats(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	h.mock(agent.MockConfig{HeartbeatInterval: often})
	h.provision("ends", "anything", nil)
	h.provision("lives", "anything", nil)
	beats.await("ends", 3)
	beat := beats.await("lives", 3)
	if beat["state"] != "OK" || beat["caller"] != "epum-agent-"+h.site || beat["timestamp"] == nil {
		t.Errorf("heartbeat %v", beat)
	}
	h.terminate("ends")
	h.await("ends", events.Terminated, 0)
	beats.await("lives", 1)
	seen := beats.count("ends")
	beats.await("lives", 3)
	if n := beats.count("ends"); n != seen {
		t.Errorf("%d heartbeats of an instance that was terminated", n-seen)
	}
}

func TestMock_HeartbeatsAsked(t *testing.T) {
	h := newHarness(t)
	beats := h.pulse()
	h.mock(agent.MockConfig{HeartbeatInterval: seldom, Delay: 20 * time.Millisecond})
	first, second := h.site, "another.site"
	h.provision("i1", "anything", nil)
	h.site = second
	h.provision("i2", "anything", nil)
	for _, id := range []string{"i1", "i2"} {
		beats.last(id) // the one that follows RUNNING
	}
	if err := h.nc.Publish("epum.ouagent.i1.dump_state", []byte("{}")); err != nil { // no agent's address
		t.Fatal(err)
	}
	seen := beats.count("i2")
	h.ask(second)
	h.poll("answer", func() bool { return beats.count("i2") > seen })
	seen = beats.count("i1")
	at := beats.count("i2")
	h.ask(first)
	h.poll("answer", func() bool { return beats.count("i1") > seen })
	if n := beats.count("i2"); n != at {
		t.Errorf("%d heartbeats of an instance whose agent was not asked", n-at)
	}
}
