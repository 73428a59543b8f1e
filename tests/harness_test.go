// Package tests drives the service from outside, over NATS, against a real
// embedded nats-server. Only the cloud is faked, by a provisioner that records
// what it is asked.
package tests

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// patience bounds every wait for something that ought to happen at once.
const patience = 20 * time.Second

// startServer starts a NATS server of its own for one test.
func startServer(t testing.TB) *jetstream.Server {
	t.Helper()
	server, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir(), Logger: logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	return server
}

// logger says what the service logs only where EPUM_TEST_LOG is set.
func logger() *slog.Logger {
	out := io.Writer(io.Discard)
	if os.Getenv("EPUM_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// config is a process of the service whose passes are driven by the test.
func config(t testing.TB, url string) service.Config {
	t.Helper()
	cfg, err := service.LoadConfig("", map[string]string{
		"nats.url": url, "external_decide": "true", "provisioner": "nats", "lease_ttl": "1s", "default_user": "nobody",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = logger()
	return cfg
}

// epum is one or more processes of the service on one server.
type epum struct {
	t   testing.TB
	url string
	nc  *nats.Conn
	js  natsjs.JetStream
}

// newEpum starts a server and one process on it.
func newEpum(t testing.TB, change ...func(*service.Config)) *epum {
	t.Helper()
	e := connect(t, startServer(t).ClientURL())
	e.process(change...)
	return e
}

func connect(t testing.TB, url string) *epum {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &epum{t: t, url: url, nc: nc, js: js}
}

// process starts one more process of the service, which stops with the test.
func (e *epum) process(change ...func(*service.Config)) *service.Service {
	e.t.Helper()
	cfg := config(e.t, e.url)
	for _, c := range change {
		c(&cfg)
	}
	s, err := service.Start(e.ctx(), cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(s.Stop)
	return s
}

func (e *epum) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	e.t.Cleanup(cancel)
	return ctx
}

// as is the service as one caller sees it.
func (e *epum) as(caller string) *natsapi.Client {
	return natsapi.NewClient(e.nc, events.DefaultPrefix, caller)
}

// do carries out commands that have to work and gives the last one's sequence.
func (e *epum) do(caller string, cmds ...commands.Command) (seq uint64) {
	e.t.Helper()
	for _, cmd := range cmds {
		var err error
		if seq, err = e.as(caller).Do(e.ctx(), cmd); err != nil {
			e.t.Fatalf("%s: %T: %v", caller, cmd, err)
		}
	}
	return seq
}

// refused carries out a command that has to be refused with the given type.
func (e *epum) refused(caller string, cmd commands.Command, want *commands.Error) {
	e.t.Helper()
	if _, err := e.as(caller).Do(e.ctx(), cmd); !errors.Is(err, want) {
		e.t.Fatalf("%s: %T: %v, want %s", caller, cmd, err, want.Type)
	}
}

// decide runs a decide pass.
func (e *epum) decide() *natsapi.PassResult {
	e.t.Helper()
	return e.pass("decide")
}

func (e *epum) pass(name string) *natsapi.PassResult {
	e.t.Helper()
	result, err := e.as("operator").RunPass(e.ctx(), name)
	if err != nil {
		e.t.Fatalf("pass %s: %v", name, err)
	}
	return result
}

func (e *epum) describe(caller, domain string) *natsapi.DomainDocument {
	e.t.Helper()
	doc, err := e.as(caller).DescribeDomain(e.ctx(), domain, "", 0)
	if err != nil {
		e.t.Fatalf("describe %s of %s: %v", domain, caller, err)
	}
	return doc
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// provisioner is the cloud of a test: it records what it is asked and reports
// only what the test says.
type provisioner struct {
	e *epum

	mu         sync.Mutex
	launches   []events.ProvisionRequest
	terminated []string // one entry for each id of each request
	dumps      []string
	headers    []nats.Header
	settled    int
}

func (e *epum) provisioner() *provisioner {
	e.t.Helper()
	p := &provisioner{e: e}
	sub, err := e.nc.Subscribe("epum.provisioner.*.*", p.hear)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.nc.Flush(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return p
}

func (p *provisioner) hear(msg *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	if op == "settle" {
		p.settled++
		return
	}
	p.headers = append(p.headers, msg.Header)
	var launch events.ProvisionRequest
	var nodes events.TerminateRequest
	into := any(&nodes)
	if op == events.OpProvision {
		into = &launch
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		p.e.t.Errorf("request %s is not readable: %v", msg.Subject, err)
		return
	}
	switch op {
	case events.OpProvision:
		p.launches = append(p.launches, launch)
	case events.OpTerminateNodes:
		p.terminated = append(p.terminated, nodes.Nodes...)
	case events.OpDumpState:
		p.dumps = append(p.dumps, nodes.Nodes...)
	}
}

// settle waits until all that was sent before is heard: a message of its own
// comes through after them. A pass sends its requests before it is answered.
func (p *provisioner) settle() {
	p.e.t.Helper()
	p.mu.Lock()
	want := p.settled + 1
	p.mu.Unlock()
	if err := p.e.nc.Publish("epum.provisioner.test.settle", nil); err != nil {
		p.e.t.Fatal(err)
	}
	eventually(p.e.t, "all requests are heard", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.settled >= want
	})
}

// provisions waits for a number of provision requests and gives their ids.
func (p *provisioner) provisions(want int) []string {
	p.e.t.Helper()
	var ids []string
	p.count("provision requests", want, func() int {
		ids = nil
		for _, l := range p.launches {
			ids = append(ids, l.InstanceIDs...)
		}
		return len(ids)
	})
	return ids
}

// terminations waits for a number of ids in terminate_nodes and gives them.
func (p *provisioner) terminations(want int) []string {
	p.e.t.Helper()
	var ids []string
	p.count("terminated ids", want, func() int { ids = append([]string(nil), p.terminated...); return len(ids) })
	return ids
}

// count waits until there are as many as wanted, and fails where there are more.
func (p *provisioner) count(what string, want int, count func() int) {
	p.e.t.Helper()
	p.settle()
	got := 0
	eventually(p.e.t, what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		got = count()
		return got >= want
	})
	if got != want {
		p.e.t.Fatalf("%d %s, want %d", got, what, want)
	}
}

// report publishes an instance_info and waits until it is durably taken.
func (e *epum) report(node string, fields map[string]any) {
	e.t.Helper()
	body := map[string]any{"node_id": node}
	for k, v := range fields {
		body[k] = v
	}
	data, err := json.Marshal(body)
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := e.js.Publish(e.ctx(), events.DefaultPrefix.Node(node, "instance_info"), data); err != nil {
		e.t.Fatal(err)
	}
}

// reportState reports a state and waits until the log has it.
func (e *epum) reportState(owner, domain, node string, state events.InstanceState) {
	e.t.Helper()
	e.report(node, map[string]any{"state": state})
	eventually(e.t, "report of "+string(state), func() bool {
		for _, i := range e.describe(owner, domain).Instances {
			if i.InstanceID == node {
				return i.State >= state
			}
		}
		return false
	})
}
