// Package tests drives the service from outside, over NATS, against a real
// embedded nats-server. Only the cloud is faked, by a provisioner that records
// what it is asked.
package tests

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/engines"
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
	if os.Getenv("EPUM_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// config is a process of the service whose passes are driven by the test.
func config(t testing.TB, url string) service.Config {
	t.Helper()
	cfg, err := service.LoadConfig("", map[string]string{
		"nats.url": url, "external_decide": "true", "provisioner": "nats", "default_user": "nobody",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = logger()
	return cfg
}

// epum is one or more processes of the service on one server.
type epum struct {
	t         testing.TB
	prefix    events.Prefix
	url       string
	nc        *nats.Conn
	js        natsjs.JetStream
	processes []*service.Service // in the order of their start
	lease     time.Duration      // of the cell; 0: no process has said
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
	return &epum{t: t, prefix: events.DefaultPrefix, url: url, nc: nc, js: js}
}

// process starts one more process of the service, which stops with the test.
func (e *epum) process(change ...func(*service.Config)) *service.Service {
	e.t.Helper()
	cfg := config(e.t, e.url)
	if e.lease != 0 {
		cfg.LeaseTTL = e.lease // all processes of a cell have the same
	}
	for _, c := range change {
		c(&cfg)
	}
	e.lease = cfg.LeaseTTL
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience) // servers may have just begun
	defer cancel()
	s, err := service.Start(ctx, cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(s.Stop)
	e.processes = append(e.processes, s)
	return s
}

// stopAll stops all processes cleanly.
func (e *epum) stopAll() {
	for _, s := range e.processes {
		s.Stop()
	}
	e.processes = nil
}

func (e *epum) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	e.t.Cleanup(cancel)
	return ctx
}

// as is the service as one caller sees it.
func (e *epum) as(caller string) *natsapi.Client {
	return natsapi.NewClient(e.nc, e.prefix, caller)
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
	within(t, patience, what, holds)
}

// within is eventually with another patience.
func within(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// await waits until a channel is closed.
func await(t testing.TB, what string, closed <-chan struct{}) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatalf("not in time: %s", what)
	}
}

// stays checks that a condition holds all the time for a while.
func stays(t testing.TB, what string, d time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if !holds() {
			t.Fatalf("did not stay so: %s", what)
		}
	}
}

// report publishes an instance_info and waits until it is durably taken.
func (e *epum) report(node string, fields map[string]any) {
	e.t.Helper()
	body := map[string]any{"node_id": node}
	maps.Copy(body, fields)
	data, err := json.Marshal(body)
	if err != nil {
		e.t.Fatal(err)
	}
	// As an agent does, until the stream has a leader again.
	if _, err := e.js.Publish(e.ctx(), e.prefix.Node(node, "instance_info"), data, natsjs.WithRetryAttempts(40)); err != nil {
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

// reportStateOrGone is reportState where the report may end the domain.
func (e *epum) reportStateOrGone(owner, domain, node string, state events.InstanceState) {
	e.t.Helper()
	e.report(node, map[string]any{"state": state})
	eventually(e.t, "report of "+string(state), func() bool {
		doc, err := e.as(owner).DescribeDomain(e.ctx(), domain, "", 0)
		if isNotFound(err) {
			return true
		}
		return err == nil && slices.ContainsFunc(doc.Instances, func(i natsapi.InstanceDocument) bool {
			return i.InstanceID == node && i.State >= state
		})
	})
}

// instance gives one instance of a domain; ok is false where there is none.
func (e *epum) instance(owner, domain, id string) (natsapi.InstanceDocument, bool) {
	e.t.Helper()
	for _, i := range e.describe(owner, domain).Instances {
		if i.InstanceID == id {
			return i, true
		}
	}
	return natsapi.InstanceDocument{}, false
}

// leader waits until a process leads and gives its name and epoch.
func (e *epum) leader() natsapi.LeaderStatus {
	e.t.Helper()
	var leads natsapi.LeaderStatus
	eventually(e.t, "somebody leads", func() bool {
		s, err := e.as("operator").Status(e.ctx())
		if err != nil || s.Leader == nil {
			return false
		}
		leads = *s.Leader
		return true
	})
	return leads
}

// What a test changes of a process's configuration.

func named(process string) func(*service.Config) {
	return func(c *service.Config) { c.Process = process }
}

// shortLease is for tests in which a leader loses its lease. Elsewhere a longer
// one keeps a busy machine from costing the leader its own.
func shortLease(c *service.Config) { c.LeaseTTL = time.Second }

// eventDriven lets passes and re-sends start by themselves.
func eventDriven(c *service.Config) { c.ExternalDecide = false }

func retryEvery(d time.Duration) func(*service.Config) {
	return func(c *service.Config) { c.RetryInterval = d }
}

func withEngines(kinds ...engines.Kind) func(*service.Config) {
	return func(c *service.Config) { c.Engines = append(c.Engines, kinds...) }
}

func logTo(h slog.Handler) func(*service.Config) {
	return func(c *service.Config) { c.Logger = slog.New(h) }
}

func isNotFound(err error) bool { return errors.Is(err, commands.ErrNotFound) }

func contains(s, part string) bool { return strings.Contains(s, part) }
