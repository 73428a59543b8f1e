package tests

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// program is a process that is started again and again, and its log.
type program struct {
	t    testing.TB
	name string
	path string
	log  string // file that what it says is appended to

	mu    sync.Mutex
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
	ready chan struct{} // closed when it has printed its first line
}

// start starts the process with its output going to its log.
func (p *program) start(env []string, args ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(p.path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = log
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return err
	}
	cmd, done, ready := p.cmd, make(chan struct{}), make(chan struct{})
	p.done, p.ready = done, ready
	go func() {
		r := bufio.NewReader(stdout)
		if _, err := r.ReadString('\n'); err == nil {
			close(ready)
		}
		_, _ = io.Copy(io.Discard, r)
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}

// signal sends a signal to the process, if it runs.
func (p *program) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig) // it may have ended
	}
}

// end ends the process with a signal and waits until it is gone.
func (p *program) end(sig syscall.Signal) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	began := time.Now()
	_ = cmd.Process.Signal(sig)
	_ = cmd.Process.Signal(syscall.SIGCONT)
	defer func() {
		if took := time.Since(began); took > 3*time.Second {
			p.t.Logf("%s took %s to end after %s", p.name, took.Round(time.Millisecond), sig)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		p.t.Errorf("%s goes on after %s", p.name, sig)
		_ = cmd.Process.Kill()
		<-done
	}
}

// tail gives the end of the log.
func (p *program) tail() string {
	const most = 8 << 10
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-most):])
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// fleet is a real NATS server or several, and real processes of the service, each with a
// wire of its own to the server.
type fleet struct {
	t   testing.TB
	dir string // of all logs; it stays where the test fails

	servers []*natsServer
	nodes   []*node
	exits   atomic.Int64 // of ready nodes, by themselves
	dark    atomic.Bool  // no service is meant to be up
}

// node is one machine on which `epum serve` runs.
type node struct {
	*program
	server *natsServer
	wire   *wire
	flags  []string
	env    []string
	lives  int         // how often it was started
	down   atomic.Bool // it is meant to be
	ended  atomic.Bool // on purpose, and not started again yet
}

// newFleet starts a NATS server, or a cluster of several.
func newFleet(t testing.TB, servers int) *fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "epum-fleet-")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, dir: dir}
	t.Cleanup(f.leave)
	f.addServers(servers)
	return f
}

// addServers adds n servers; more than one are a cluster.
func (f *fleet) addServers(n int) {
	f.t.Helper()
	ports := freePorts(f.t, n)
	var routes []string
	for _, port := range ports {
		routes = append(routes, strconv.Quote("nats://127.0.0.1:"+strconv.Itoa(port)))
	}
	for i, port := range ports {
		o := natsOptions{name: "nats-" + strconv.Itoa(i)}
		if n > 1 { // a client stays with the server that it was given
			o.more = fmt.Sprintf("cluster {name: c, listen: \"127.0.0.1:%d\", no_advertise: true, routes: [%s]}\n", port, strings.Join(routes, ", "))
		}
		f.servers = append(f.servers, newNATS(f.t, o).start())
	}
	for _, s := range f.servers {
		s.answers()
	}
}

// url gives the servers, with commas between.
func (f *fleet) url() string {
	var urls []string
	for _, s := range f.servers {
		urls = append(urls, s.url())
	}
	return strings.Join(urls, ",")
}

// leave removes what a test that passed leaves; else it shows the logs' ends.
func (f *fleet) leave() {
	if !f.t.Failed() {
		_ = os.RemoveAll(f.dir)
		return
	}
	for _, n := range f.nodes {
		f.t.Logf("the end of %s:\n%s", n.log, n.tail())
	}
	for _, s := range f.servers {
		f.t.Logf("the end of %s:\n%s", s.log, s.tail())
	}
}

func (f *fleet) program(name, path string) *program {
	return &program{t: f.t, name: name, path: path, log: filepath.Join(f.dir, name+".log")}
}

// connect gives the service as it is reached without a wire.
func (f *fleet) connect() *epum {
	f.t.Helper()
	return connect(f.t, f.url())
}

// node adds a node and starts the service on it.
func (f *fleet) node(path string, env []string, flags ...string) *node {
	f.t.Helper()
	server := f.servers[len(f.nodes)%len(f.servers)]
	n := &node{server: server, wire: newWire(f.t, server.addr()), flags: flags, env: env}
	n.program = f.program("epum-"+strconv.Itoa(len(f.nodes)), path)
	f.nodes = append(f.nodes, n)
	f.t.Cleanup(func() { n.end(syscall.SIGKILL) })
	f.serve(n)
	if !n.waitReady(patience) {
		f.t.Fatalf("%s is never ready", n.name)
	}
	return n
}

// serve starts the service on a node, under a new name.
func (f *fleet) serve(n *node) {
	n.lives++
	err := n.start(n.env, append([]string{
		"serve", "--nats.url", n.wire.url(), "--lease_ttl", "1s", "--process", fmt.Sprintf("%s-%d", n.name, n.lives), "--log.format", "json",
		"--nats.replicas", strconv.Itoa(len(f.servers)),
	}, n.flags...)...)
	if err != nil {
		f.t.Errorf("start %s: %v", n.name, err)
	}
}

// waitReady waits until the service is ready; false: it has ended, or it is not
// in time.
func (n *node) waitReady(patience time.Duration) bool {
	n.mu.Lock()
	ready, done := n.ready, n.done
	n.mu.Unlock()
	select {
	case <-ready:
		return true
	default:
	}
	select {
	case <-ready:
		return true
	case <-done:
	case <-time.After(patience):
	}
	return false
}

// isOver reports whether the process has ended.
func (p *program) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// settled waits until every server of a cluster has everything.
func (f *fleet) settled(e *epum) {
	f.t.Helper()
	if len(f.servers) > 1 {
		for _, stream := range []string{events.StreamEvents, events.BucketState, events.StreamResults, events.StreamDead} {
			e.copied(stream)
		}
	}
}

// mind starts the service again wherever it has ended, unless the node is meant
// to be down, until stop is closed. It counts those that were ready before.
func (f *fleet) mind(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		for _, n := range f.nodes {
			if f.dark.Load() || n.down.Load() || !n.isOver() {
				continue
			}
			if !n.ended.Swap(false) && n.waitReady(0) {
				f.exits.Add(1)
				f.t.Logf("%s has ended by itself: %s", n.name, lastLine(n.tail()))
			}
			f.serve(n)
		}
	}
}
