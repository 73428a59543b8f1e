package tests

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// scratch is a directory for all tests of this run; TestMain sets it.
var scratch string

// atOnce is how many tests run at the same time: most of them mostly wait.
const atOnce = "6"

// TestMain removes what the tests share.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "epum-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// The programs that tests run; each is built once.
var (
	binary     = built("epum", module+"/cmd/epum")
	sabotaged  = built("epum-sabotaged", "-tags", "sabotage", module+"/cmd/epum")
	natsBinary = built("nats-server", "github.com/nats-io/nats-server/v2")
)

func built(name string, args ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(scratch, name)
		out, err := exec.Command("go", append([]string{"build", "-o", path}, args...)...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
}

// machine is a directory with the state of one `epum serve`, and the processes
// that it runs.
type machine struct {
	t    *testing.T
	path string
	dir  string
	site string // no other machine's

	url     string
	process string // its id, as the log names a leader
	cmd     *exec.Cmd
	out     *output // its log
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, path: path, dir: t.TempDir(), site: "test-" + uuid.NewString()}
	t.Cleanup(m.cleanUp)
	return m
}

// serve starts the service and waits until it is ready.
func (m *machine) serve(flags ...string) {
	m.t.Helper()
	m.cmd = exec.Command(m.path, append([]string{"serve", "--lease_ttl", "1s"}, flags...)...)
	m.cmd.Dir = m.dir
	m.out = &output{}
	m.cmd.Stderr = m.out
	stdout, err := m.cmd.StdoutPipe()
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	lines := make(chan string, 1)
	go func() {
		r := bufio.NewReader(stdout)
		line, _ := r.ReadString('\n')
		lines <- line
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case line := <-lines:
		if _, err := fmt.Sscanf(line, "epum ready nats=%s process=%s", &m.url, &m.process); err != nil {
			m.kill()
			m.t.Fatalf("ready line %q: %v\n%s", line, err, m.out)
		}
	case <-time.After(3 * patience): // three servers that start beside others take long to agree on a leader
		m.kill()
		m.t.Fatalf("never ready:\n%s", m.out)
	}
}

func (m *machine) embedded() {
	m.t.Helper()
	m.serve("--embedded.listen", "127.0.0.1:-1", "--embedded.store_dir", m.dir, "--agent.site", m.site, "--agent.types", m.types())
}

// types has sleeping processes that count as running soon.
func (m *machine) types() string {
	m.t.Helper()
	path := filepath.Join(m.dir, "types.yaml")
	err := os.WriteFile(path, []byte("epu_work_consumer:\n  command: [sleep, \"1000\"]\n  start_after: 50ms\n  grace: 2s\n"), 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	return path
}

func (m *machine) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// signal sends a signal to the service.
func (m *machine) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatal(err)
	}
}

// cleanUp ends the service, and each process of this machine's site.
func (m *machine) cleanUp() {
	m.kill()
	for _, pid := range m.alive() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// alive gives the processes that the agent has started, by what their
// environment says, sorted.
func (m *machine) alive() []int {
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && bytes.Contains(env, []byte("EPUM_SITE="+m.site+"\x00")) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// cli runs the client and gives what it prints.
func (m *machine) cli(args ...string) []byte {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.path, append([]string{"--server", m.url, "--as", "al", "-o", "json"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			m.t.Fatalf("epum %s: %v: %s", strings.Join(args, " "), err, exit.Stderr)
		}
		m.t.Fatal(err)
	}
	return out
}

// running gives the pids of the instances that describe shows as running,
// sorted.
func (m *machine) running() []int {
	m.t.Helper()
	var doc natsapi.DomainDocument
	if err := json.Unmarshal(m.cli("domain", "describe", "web"), &doc); err != nil {
		m.t.Fatal(err)
	}
	pids := []int{}
	for _, i := range doc.Instances {
		if i.State != events.Running {
			continue
		}
		pid, err := strconv.Atoi(string(i.Fields["pid"]))
		if err != nil {
			m.t.Fatalf("instance %+v: %v", i, err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// becomes waits until so many processes run, and the service says the same.
func (m *machine) becomes(want int) []int {
	m.t.Helper()
	var pids []int
	eventually(m.t, fmt.Sprintf("%d processes run", want), func() bool {
		pids = m.running()
		return len(pids) == want && slices.Equal(pids, m.alive())
	})
	return pids
}

// TestProcess_FirstRun is the main job on real input (issue 2, First run).
func TestProcess_FirstRun(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.embedded()
	m.cli("definition", "add", "worker", "--set", "general.engine_class=simplest")
	began := time.Now()
	m.cli("domain", "add", "web", "--definition", "worker", "--set", "engine_conf.preserve_n=3")
	pids := m.becomes(3)
	t.Logf("three processes run after %s", time.Since(began))

	began = time.Now()
	if err := syscall.Kill(pids[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed process is replaced", func() bool {
		now := m.alive()
		return len(now) == 3 && !slices.Contains(now, pids[1])
	})
	t.Logf("replaced %s after kill -9", time.Since(began))
	if time.Since(began) > time.Second {
		t.Errorf("replaced after %s, want a second at most", time.Since(began))
	}
	if now := m.becomes(3); !slices.Contains(now, pids[0]) || !slices.Contains(now, pids[2]) {
		t.Errorf("of %v two should have stayed: %v", pids, now)
	}
	m.cli("domain", "reconfigure", "web", "--set", "engine_conf.preserve_n=5")
	five := m.becomes(5)

	// The service dies and comes back: the same processes, nothing launched twice.
	m.kill()
	if diff := cmp.Diff(five, m.alive()); diff != "" {
		t.Errorf("the processes went with the service: %s", diff)
	}
	m.embedded()
	e := connect(t, m.url)
	e.leader()
	stays(t, "the same processes", time.Second, func() bool { return slices.Equal(five, m.alive()) })
	if diff := cmp.Diff(five, m.becomes(5)); diff != "" {
		t.Error(diff)
	}
	if n := len(e.logOf(events.TypeLaunchRequested)); n != 6 {
		t.Errorf("%d launches, want 6", n)
	}
	// An adopted process is watched like one of its own.
	if err := syscall.Kill(five[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the adopted process is replaced", func() bool { return !slices.Contains(m.becomes(5), five[0]) })
	m.cli("domain", "reconfigure", "web", "--set", "engine_conf.preserve_n=0")
	m.becomes(0)
	m.cli("domain", "reconfigure", "web", "--set", "engine_conf.preserve_n=2")
	two := m.becomes(2)

	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, m.out)
	}
	m.cmd = nil
	if diff := cmp.Diff(two, m.alive()); diff != "" {
		t.Errorf("a clean stop ends the instances: %s", diff)
	}
}

// TestProcess_KilledLeader kills the leader of two processes with -9; the other
// one takes over when the lease has run out. It runs alone, for its time counts.
func TestProcess_KilledLeader(t *testing.T) {
	const ttl = time.Second
	url := startServer(t).ClientURL()
	e := connect(t, url)
	first, second := newMachine(t), newMachine(t)
	first.serve("--nats.url", url)
	leads := e.leader()
	second.serve("--nats.url", url)
	var took []time.Duration
	for _, m := range []*machine{first, second} {
		killed := time.Now()
		m.kill()
		eventually(t, "the other one leads", func() bool { return e.logLeads() != leads.Process })
		elections := e.logOf(events.TypeLeaderElected)
		took = append(took, elections[len(elections)-1].time.Sub(killed))
		m.serve("--nats.url", url)
		leads = e.leader()
	}
	t.Logf("taken over after %s", took)
	for _, d := range took {
		if d > ttl+500*time.Millisecond {
			t.Errorf("taken over %s after kill -9, the lease is %s", d, ttl)
		}
	}
}

// logLeads gives the process that was elected last.
func (e *epum) logLeads() string {
	e.t.Helper()
	return e.fold().Leader().Process
}
