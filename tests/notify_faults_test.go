package tests

import (
	"fmt"
	"log/slog"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// TestNotify_NoLeader: what is reported while nobody leads is told as it was then,
// by the next leader, although the domain has changed since.
func TestNotify_NoLeader(t *testing.T) {
	t.Parallel()
	e := newEpum(t, shortLease)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	e.decide()
	id := p.provisions(1)[0]
	other := e.takeLeaseAway()
	e.noLeader()
	first := e.reportEvent(id, map[string]any{"state": "600-RUNNING", "public_ip": "10.0.0.1"})
	e.do("al", subscribe("s", "second"), subscribe("late", "op"))
	second := e.reportEvent(id, map[string]any{"state": "700-TERMINATING", "public_ip": "10.0.0.2"})
	e.do("al", commands.UnsubscribeDomain{DomainID: "web", SubscriberName: "s"})
	stays(t, "nobody is told", 200*time.Millisecond, func() bool { return len(e.notifications()) == 0 })
	other.release()
	want := []notified{
		{"epum.notify.s.op", first + "/s", note(id, "600-RUNNING", `"10.0.0.1"`)},
		{"epum.notify.s.second", second + "/s", note(id, "900-FAILED", `"10.0.0.2"`)},
		{"epum.notify.late.op", second + "/late", note(id, "900-FAILED", `"10.0.0.2"`)},
	}
	if diff := cmp.Diff(want, e.told(3), cmp.AllowUnexported(notified{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNotify_Deposed passes the lead to and fro while reports come in: every one
// is told, and the ids show that none is told twice.
func TestNotify_Deposed(t *testing.T) {
	t.Parallel()
	const reports = 120
	e := newEpum(t, shortLease, named("a"))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	e.decide()
	id := p.provisions(1)[0]
	e.process(named("b"))
	for n := range reports {
		e.report(id, map[string]any{"state": "600-RUNNING", "update_counter": n + 1})
		if n%40 == 20 {
			stranger := e.takeLeaseAway()
			e.appendByHand(events.LeaderKey, events.TypeLeaderElected, `{"process":"stranger"}`)
			stranger.release()
		}
		if n%10 == 0 {
			e.inboxEmpty() // else reports overtake each other between the two processes
		}
	}
	e.inboxEmpty()
	e.checkIDs(len(e.expected()))
	if n := len(e.expected()); n < reports/10 {
		t.Errorf("only %d reports were accepted", n)
	}
}

// TestNotify_Killed kills the process that took a report, and leads, as soon as
// the log has the report.
func TestNotify_Killed(t *testing.T) {
	t.Parallel()
	const rounds = 4
	url := startServer(t).ClientURL()
	e := connect(t, url)
	p := e.provisioner()
	a, b := newMachine(t), newMachine(t)
	a.serve("--nats.url", url)
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	id := p.provisions(1)[0]
	for n := range rounds {
		e.leader() // a, which is alone and takes the report
		e.reportEvent(id, map[string]any{"state": "600-RUNNING", "update_counter": n + 1})
		a.kill()
		a, b = b, a
		a.serve("--nats.url", url)
	}
	e.checkIDs(rounds)
}

// TestNotify_Frozen stops the leader as soon as the log has a report, and lets it
// go on when another one leads.
func TestNotify_Frozen(t *testing.T) {
	t.Parallel()
	const rounds = 2
	url := startServer(t).ClientURL()
	e := connect(t, url)
	p := e.provisioner()
	a, b := newMachine(t), newMachine(t)
	a.serve("--nats.url", url)
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	id := p.provisions(1)[0]
	leads := e.leader().Process
	b.serve("--nats.url", url)
	for n := range rounds {
		e.reportEvent(id, map[string]any{"state": "600-RUNNING", "update_counter": n + 1})
		a.signal(syscall.SIGSTOP)
		eventually(t, "the other one leads", func() bool { return e.logLeads() != leads })
		leads = e.logLeads()
		a.signal(syscall.SIGCONT)
		a, b = b, a
	}
	e.checkIDs(rounds)
}

// TestNotify_ServerRestarts: the NATS server goes and comes back.
func TestNotify_ServerRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: dir, Logger: logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Shutdown() }) // the one that runs then
	e := connect(t, server.ClientURL())
	at, err := url.Parse(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	e.process()
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	e.decide()
	id := p.provisions(1)[0]
	e.reportEvent(id, map[string]any{"state": "600-RUNNING", "update_counter": 1})
	server.Shutdown()
	if server, err = jetstream.StartServer(jetstream.EmbeddedConfig{Listen: at.Host, StoreDir: dir, Logger: logger()}); err != nil {
		t.Fatal(err)
	}
	body := fmt.Appendf(nil, `{"node_id":%q,"state":"600-RUNNING","update_counter":2}`, id)
	eventually(t, "a report is taken", func() bool {
		_, err := e.js.Publish(e.try(), events.DefaultPrefix.Node(id, events.OpInstanceInfo), body)
		return err == nil
	})
	eventually(t, "it is in the log", func() bool { return len(e.logOf(events.TypeStateChanged)) == 2 })
	e.checkIDs(2)
}

// TestNotify_ConsumerDeleted: somebody deletes the consumer. The leader creates it
// again where it stood, and says so.
func TestNotify_ConsumerDeleted(t *testing.T) {
	t.Parallel()
	says := newRecorder()
	e := newEpum(t, func(c *service.Config) { c.Logger = slog.New(says) })
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1), SubscriberName: "s", SubscriberOp: "op"})
	e.decide()
	id := p.provisions(1)[0]
	e.reportEvent(id, map[string]any{"state": "600-RUNNING"})
	e.told(1)
	if err := e.eventStream().DeleteConsumer(e.ctx(), "notify"); err != nil {
		t.Fatal(err)
	}
	e.reportEvent(id, map[string]any{"state": "900-FAILED"})
	e.checkIDs(2)
	if !says.said("the consumer of notifications was missing") {
		t.Error("nobody says so")
	}
}
