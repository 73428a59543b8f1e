package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/events"
)

const deadline = 10 * time.Second

// helperEnv makes the test binary an agent program of its own: its value is
// the server's URL, the state directory, the types file and the site.
const helperEnv = "AGENT_TEST_HELPER"

func TestMain(m *testing.M) {
	if args := strings.Split(os.Getenv(helperEnv), "|"); len(args) == 4 {
		if err := helper(args[0], args[1], args[2], args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func helper(url, dir, typesFile, site string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	types, err := agent.LoadTypes(typesFile)
	if err != nil {
		return err
	}
	return agent.Run(context.Background(), nc, agent.Config{Site: site, Types: types, Dir: dir})
}

// typesYAML has a type for each way to live and die. Each launch adds a line
// to the file that var "log" names.
const typesYAML = `
sleeper:
  command: [sh, -c, 'echo {{.node_id}} >> {{.log}}; exec sleep 1000']
  start_after: 60ms
family:
  command: [sh, -c, 'sleep 1000 & echo $! > {{.log}}; wait']
  start_after: 60ms
stubborn:
  command: [sh, -c, 'trap "" TERM; echo ready > {{.log}}; while :; do sleep 0.05; done']
  start_after: 60ms
  grace: 150ms
failing:
  command: [sh, -c, 'for i in $(seq 30); do echo line $i >&2; done; printf "bad \377 byte" >&2; sleep 0.2; exit 3']
  start_after: 60ms
leaver:
  command: [sh, -c, 'sleep 0.2']
  start_after: 60ms
early:
  command: [sh, -c, 'exit 7']
  start_after: 2s
chatty:
  command: [sh, -c, 'head -c 9000000 /dev/zero; echo ready > {{.log}}; exec sleep 1000']
  start_after: 60ms
missing:
  command: [/no/such/program]
templated:
  command: [sh, -c, 'printf "%s|%s|%s|%s|%s" "$COLOUR" "$EPUM_INSTANCE" "$EPUM_SITE" "$PWD" "{{.n}} {{.nested.x}}" > {{.log}}; exec sleep 1000']
  env: {COLOUR: '{{.colour}}'}
  dir: '{{.dir}}'
  start_after: 60ms
`

// harness is one server, one site and what was reported about it.
type harness struct {
	t     *testing.T
	nc    *nats.Conn
	site  string
	dir   string
	types string // path of a file with typesYAML
	ear   *nats.Subscription

	mu      sync.Mutex
	reports map[string][]map[string]any
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	srv, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(deadline) {
		t.Fatal("server not ready")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := &harness{t: t, nc: nc, site: "site-" + uuid.NewString(), dir: filepath.Join(t.TempDir(), "state"), reports: map[string][]map[string]any{}}
	h.types = h.write("types.yaml", typesYAML)
	t.Cleanup(h.killAll)
	if h.ear, err = nc.Subscribe("epum.node.*.instance_info", h.heard); err != nil {
		t.Fatal(err)
	}
	h.createStream()
	return h
}

func (h *harness) createStream() {
	h.t.Helper()
	js, err := natsjs.New(h.nc)
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := natsjs.StreamConfig{Name: "inbox", Subjects: []string{"epum.node.*.instance_info"}}
	if _, err := js.CreateOrUpdateStream(h.t.Context(), cfg); err != nil {
		h.t.Fatal(err)
	}
}

// loseStream takes away what acks the reports.
func (h *harness) loseStream() natsjs.JetStream {
	h.t.Helper()
	js, err := natsjs.New(h.nc)
	if err != nil {
		h.t.Fatal(err)
	}
	// No one else may listen, or a publish would wait for its ack in vain.
	if err := errors.Join(h.ear.Unsubscribe(), js.DeleteStream(h.t.Context(), "inbox")); err != nil {
		h.t.Fatal(err)
	}
	return js
}

func (h *harness) heard(msg *nats.Msg) {
	var rep map[string]any
	if err := json.Unmarshal(msg.Data, &rep); err != nil {
		h.t.Errorf("report %q: %v", msg.Data, err)
		return
	}
	id := rep["node_id"].(string)
	if want := events.DefaultPrefix.Node(id, events.OpInstanceInfo); msg.Subject != want {
		h.t.Errorf("report on %s, want %s", msg.Subject, want)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports[id] = append(h.reports[id], rep)
}

func (h *harness) write(name, content string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *harness) config() agent.Config {
	h.t.Helper()
	types, err := agent.LoadTypes(h.types)
	if err != nil {
		h.t.Fatal(err)
	}
	return agent.Config{Site: h.site, Types: types, Dir: h.dir, Logger: slog.New(slog.DiscardHandler)}
}

// start runs an agent and returns what stops it. It is stopped at the end.
func (h *harness) start() (stop func()) {
	h.t.Helper()
	a, err := agent.Open(h.nc, h.config())
	if err != nil {
		h.t.Fatal(err)
	}
	return h.run(a.Run)
}

func (h *harness) run(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.t.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			h.t.Error("Run does not stop")
		}
	})
	h.t.Cleanup(stop)
	return stop
}

func (h *harness) send(op string, req any, header nats.Header) {
	h.t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		h.t.Fatal(err)
	}
	msg := &nats.Msg{Subject: events.DefaultPrefix.Provisioner(h.site, op), Data: body, Header: header}
	if err := h.nc.PublishMsg(msg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) provision(id, deployable string, vars map[string]any) {
	h.t.Helper()
	h.send(events.OpProvision, h.launch(id, deployable, vars), nil)
}

func (h *harness) launch(id, deployable string, vars map[string]any) events.ProvisionRequest {
	raw := map[string]json.RawMessage{"node_id": json.RawMessage(strconv.Quote(id))}
	for name, v := range vars {
		raw[name], _ = json.Marshal(v)
	}
	return events.ProvisionRequest{LaunchID: "l1", InstanceIDs: []string{id}, DeployableType: deployable, Site: h.site, Vars: raw}
}

func (h *harness) terminate(ids ...string) {
	h.t.Helper()
	h.send(events.OpTerminateNodes, events.TerminateRequest{Nodes: ids}, nil)
}

func (h *harness) dump(ids ...string) {
	h.t.Helper()
	h.send(events.OpDumpState, events.DumpStateRequest{Nodes: ids}, nil)
}

// of gives what was reported about an instance.
func (h *harness) of(id string) []map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reports[id])
}

func (h *harness) states(id string) []string {
	var states []string
	for _, rep := range h.of(id) {
		states = append(states, rep["state"].(string))
	}
	return states
}

// await waits for a report of the state, not counting the first skip reports.
func (h *harness) await(id string, state events.InstanceState, skip int) map[string]any {
	h.t.Helper()
	var found map[string]any
	h.poll("report of "+id+" "+string(state), func() bool {
		for n, rep := range h.of(id) {
			if n >= skip && rep["state"] == string(state) {
				found = rep
				return true
			}
		}
		return false
	})
	return found
}

func (h *harness) poll(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.t.Fatalf("no %s; reports: %v", what, h.reports)
		}
	}
}

// settled waits until an instance's record is a tombstone.
func (h *harness) settled(id string) {
	h.t.Helper()
	h.poll("tombstone of "+id, func() bool { return h.record(id)["settled"] == true })
}

func (h *harness) record(id string) map[string]any {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, events.Token(id), "record.json"))
	if err != nil {
		return nil
	}
	var rec map[string]any
	if err := json.Unmarshal(data, &rec); err != nil {
		h.t.Fatal(err)
	}
	return rec
}

// rewrite changes an instance's record; no agent may be running.
func (h *harness) rewrite(id string, change func(map[string]any)) {
	h.t.Helper()
	rec := h.record(id)
	change(rec)
	data, err := json.Marshal(rec)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, events.Token(id), "record.json"), data, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// processes gives the pids that run with the instance's id, or with any id of
// the site where id is "".
func (h *harness) processes(id string) []int {
	var pids []int
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		environ, _ := os.ReadFile(path)
		env := strings.Split(string(environ), "\x00")
		if slices.Contains(env, "EPUM_SITE="+h.site) && (id == "" || slices.Contains(env, "EPUM_INSTANCE="+id)) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *harness) killAll() {
	h.poll("end of all processes", func() bool {
		pids := h.processes("")
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(pids) == 0
	})
}

func pid(rep map[string]any) int {
	n, _ := rep["pid"].(float64)
	return int(n)
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat[bytes.LastIndexByte(stat, ')'):]), ") Z")
}

func lines(path string) int {
	data, _ := os.ReadFile(path)
	return bytes.Count(data, []byte("\n"))
}

// program starts an agent as a program of its own, which can be killed.
func (h *harness) program() *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join([]string{h.nc.ConnectedUrl(), h.dir, h.types, h.site}, "|"))
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func crash(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}
