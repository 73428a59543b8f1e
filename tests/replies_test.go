package tests

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// newEpumFor starts a server with accounts, and a process in one of them. Alice may
// send her commands alone, and Bob, in an account of his own, has them imported.
func newEpumFor(t testing.TB, change ...func(*service.Config)) (e *epum, url func(user string) string) {
	t.Helper()
	srv := newNATS(t, natsOptions{more: `
		accounts {
			CELL {
				jetstream: enabled
				users: [
					{ user: epum, password: x }
					{ user: alice, password: x, permissions: { publish: ["epum.cmd.alice.>", "$SRV.>", "epum.node.>"], subscribe: ["_INBOX.>", "alice.>"] } }
				]
				exports: [ { service: "epum.cmd.>" } ]
			}
			OTHER {
				users: [ { user: bob, password: x } ]
				imports: [ { service: { account: CELL, subject: "epum.cmd.bob.status" }, to: "fleet.status" } ]
			}
		}`}).start().ready()
	url = func(user string) string { return "nats://" + user + ":x@" + srv.addr() }
	e = connect(t, url("epum"))
	eventually(t, "JetStream answers", func() bool {
		_, err := e.nc.Request("$JS.API.INFO", nil, time.Second)
		return err == nil
	})
	e.process(change...)
	return e, url
}

// TestReplies has a caller who may do no more than send its own commands, and names
// as the place for the reply where it may not write itself.
func TestReplies(t *testing.T) {
	t.Parallel()
	said := newRecorder()
	e, url := newEpumFor(t, logTo(said))
	before := e.leader()
	first := e.do("carol", commands.AddDefinition{DefinitionID: "d"})
	alice, err := nats.Connect(url("alice"), nats.CustomInboxPrefix("alice.in"))
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	heard, err := e.nc.SubscribeSync("epum.none.>")
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{
		"$JS.API.STREAM.PURGE.epum_events", "$KV.epum_leases.leader", "$KV.epum_state.checkpoint", "$SYS.x", "$x", "epum.event.leader", "epum.event.domain.alice.d",
		"epum.cmd.carol.remove_domain_definition", "epum.inbox.carol.status", "epum.leader.run_pass", "epum.none.x", "epum.none." + strings.Repeat("x", 3500),
		"a" + strings.Repeat(".xxxx", 700),
	}
	for n, reply := range bad {
		definition := `{"definition_id":"` + strconv.Itoa(n) + `","definition":{}}`
		for op, body := range map[string]string{"add_domain_definition": definition, "add_domain": `{}`, "status": ``, "run_pass": `{"pass":"decide"}`} {
			if err := alice.PublishRequest("epum.cmd.alice."+op, reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		// What it may not send to the leader itself: its process may be told to.
		for _, body := range []string{`{"pass":"decide"}`, `nonsense`} {
			if err := e.nc.PublishRequest("epum.leader.run_pass", reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all are refused", func() bool { return said.times("no reply is sent") >= 6*len(bad) })
	// Replies to who means it.
	if _, err := alice.Request("epum.cmd.alice.status", nil, patience); err != nil {
		t.Errorf("a custom inbox: %v", err)
	}
	bob, err := nats.Connect(url("bob"))
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	if m, err := bob.Request("fleet.status", nil, patience); err != nil || !contains(string(m.Data), `"service_name"`) {
		t.Errorf("from another account: %v", err)
	}
	if m, err := heard.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("a reply came to %s", m.Subject)
	}
	all := e.log()
	if all[0].seq != 1 || all[len(all)-1].seq < first {
		t.Errorf("the log was purged up to %d", all[0].seq)
	}
	for _, l := range all {
		if l.typ() == "" {
			t.Errorf("%d %s: %s", l.seq, l.key, l.body)
		}
	}
	if now := e.leader(); now != before {
		t.Errorf("%+v led, now %+v", before, now)
	}
	e.do("carol", commands.AddDomain{DomainID: "d", DefinitionID: "d", Config: preserve(1)})
	e.decide()
	e.projected()
	e.bucketIsFold()
}

// TestReplies_Discovery has the same tried with the requests that the micro package
// answers by itself: what it says there purges nothing, and ends no more than a term.
func TestReplies_Discovery(t *testing.T) {
	t.Parallel()
	e, url := newEpumFor(t)
	before := e.leader()
	e.do("carol", commands.AddDefinition{DefinitionID: "d"})
	alice, err := nats.Connect(url("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		for _, api := range []string{"STREAM.PURGE.", "STREAM.DELETE.", "STREAM.MSG.DELETE.", "STREAM.UPDATE."} {
			for _, stream := range []string{events.StreamEvents, events.StreamInbox, events.StreamDead} {
				if err := alice.PublishRequest("$SRV."+verb+".epum", "$JS.API."+api+e.prefix.Stream(stream), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, reply := range []string{"epum.event.leader", "epum.event.domain.carol.d", "epum.event.decision.carol.d", "epum.event." + strings.Repeat("x", 4000)} {
			if err := alice.PublishRequest("$SRV."+verb+".epum", reply, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "another term", func() bool { return e.leader().Epoch > before.Epoch })
	if all := e.log(); all[0].seq != 1 {
		t.Errorf("the log was purged up to %d", all[0].seq)
	}
	e.do("carol", commands.AddDomain{DomainID: "d", DefinitionID: "d", Config: preserve(1)})
	eventually(t, "it is decided on", func() bool {
		_, err := e.as("operator").RunPass(e.ctx(), "decide")
		return err == nil && len(e.describe("carol", "d").Instances) == 1
	})
	e.projected()
	e.bucketIsFold()
}
