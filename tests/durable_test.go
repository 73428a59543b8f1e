package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// leave leaves a command in the inbox.
func (e *epum) leave(caller string, cmd commands.Command, opts ...natsapi.Option) string {
	e.t.Helper()
	id, err := e.as(caller).DoAsync(e.ctx(), cmd, opts...)
	if err != nil {
		e.t.Fatalf("leave %s: %v", cmd.Op(), err)
	}
	return id
}

// leaveRaw leaves any message in the inbox, under any id ("": none).
func (e *epum) leaveRaw(token, op, body, id string) {
	e.t.Helper()
	msg := nats.NewMsg("epum.inbox." + token + "." + op)
	msg.Data = []byte(body)
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	if _, err := e.js.PublishMsg(e.ctx(), msg); err != nil {
		e.t.Fatal(err)
	}
}

// outcome waits for a command's outcome.
func (e *epum) outcome(caller, id string) natsapi.AsyncResult {
	e.t.Helper()
	r, err := e.as(caller).WaitResult(e.ctx(), id)
	if err != nil {
		e.t.Fatalf("outcome of %s of %s: %v", id, caller, err)
	}
	return r
}

// rawOutcome waits for a command's outcome and reads it as a reply.
func (e *epum) rawOutcome(token, id string) answer {
	e.t.Helper()
	var reply *nats.Msg
	eventually(e.t, "the outcome of "+id, func() bool {
		msg, err := e.nc.Request("$JS.API.DIRECT.GET.epum_results.epum.result."+token+"."+id, nil, patience)
		if err != nil {
			e.t.Fatal(err)
		}
		reply = msg
		return msg.Header.Get("Status") == ""
	})
	return e.readAnswer(reply)
}

// TestDurable_WhileDown leaves commands while no process is up: they are carried
// out once one is, in their order, and once.
func TestDurable_WhileDown(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.leader()
	e.stopAll()
	al := []string{
		e.leave("al", commands.AddDefinition{DefinitionID: "d"}),
		e.leave("al", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)}, natsapi.WithCommandID("add web")),
		e.leave("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(2)}),
		e.leave("al", commands.RemoveDefinition{DefinitionID: "d"}),
		e.leave("al", commands.AddDomain{DomainID: "shop", DefinitionID: "d", Config: preserve(1)}),
	}
	again := e.leave("al", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)}, natsapi.WithCommandID("add web"))
	if again != "add web" {
		t.Errorf("left as %q", again)
	}
	if _, err := e.as("al").Result(e.ctx(), al[0]); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("an outcome before anybody is up: %v", err)
	}
	e.process()
	last := uint64(0)
	for n, id := range al {
		r := e.outcome("al", id)
		if n == 4 {
			if r.Err == nil || r.Err.Code != 400 || r.Err.Field != "definition_id" {
				t.Errorf("the definition was gone by then: %+v", r)
			}
			continue
		}
		if r.Err != nil || r.Seq <= last || time.Since(r.Time) > patience {
			t.Errorf("%d: %+v, the one before is at %d", n, r, last)
		}
		last = r.Seq
	}
	e.inboxEmpty()
	if n := len(e.logOf(events.TypeDomainAdded)); n != 1 {
		t.Errorf("added %d times", n)
	}
	if doc := e.describe("al", "web"); string(doc.Config.EngineConf) != `{"preserve_n":2}` {
		t.Errorf("%s", doc.Config.EngineConf)
	}
	// The request with the same id is the same command.
	if a := e.askID("al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":1}}}`, "add web"); a.seq != e.outcome("al", "add web").Seq {
		t.Errorf("asked again: %+v", a)
	}
}

// TestDurable_Outcomes has each outcome in the form of a reply, and no outcome of
// another caller's command with the same id.
func TestDurable_Outcomes(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(0)})
	for n, tt := range []struct {
		token, op, body string
		code            int
		field           string
	}{
		{"al", "remove_domain", `{"domain_id":"web"}`, 200, ""},
		{"bo", "remove_domain", `{"domain_id":"web"}`, 404, ""},
		{"al", "remove_domain", `{"domain_id":"web","caller":"bo"}`, 403, ""},
		{"al", "remove_domain", `{"domain_id":"web","x":1}`, 400, "x"},
		{"al", "remove_domain", `{"domain_id":`, 400, ""},
		{"al", "add_domain_definition", `{"definition_id":"d","definition":{}}`, 409, ""},
		{"al", "remove_domain", `{"x":"` + strings.Repeat("x", commands.MaxBytes) + `"}`, 413, ""},
		{"al", "describe_domain", `{"domain_id":"web"}`, 400, ""},
		{"al", "dance", ``, 400, ""},
		{"al=40b", "add_domain_definition", `{"definition_id":"e","definition":{}}`, 200, ""},
		{"-", "add_domain_definition", `{"definition_id":"f","definition":{},"caller":"nobody"}`, 200, ""},
	} {
		id := fmt.Sprint("c", n)
		e.leaveRaw(tt.token, tt.op, tt.body, id)
		a := e.rawOutcome(tt.token, id)
		if a.code != tt.code || a.typ != errorTypes[tt.code] || tt.field != "" && a.field != tt.field || tt.code == 200 && a.seq == 0 {
			t.Errorf("%s of %s: %+v, want %d", tt.op, tt.token, a, tt.code)
		}
	}
	if a := e.rawOutcome("al", "c7"); !contains(a.message, "add_domain, remove_domain") {
		t.Errorf("a read does not say what can be left: %s", a.message)
	}
	if _, err := e.as("bo").Result(e.ctx(), "c0"); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("another's outcome: %v", err)
	}
	r, err := e.as("").Result(e.ctx(), "c10")
	if err != nil || r.Err != nil {
		t.Errorf("of the default user: %+v, %v", r, err)
	}
}

// TestDurable_Dead leaves what can have no outcome.
func TestDurable_Dead(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	const add = `{"definition_id":"d","definition":{}}`
	e.leaveRaw("al", "add_domain_definition", add, "")
	e.leaveRaw("al", "add_domain_definition", add, "a\x01b")
	e.leaveRaw("al", "add_domain_definition", add, strings.Repeat("x", 300))
	e.leaveRaw("a=6C", "add_domain_definition", add, "c1")
	twice := nats.NewMsg("epum.inbox.al.add_domain_definition")
	twice.Header[nats.MsgIdHdr] = []string{"c2", "c3"}
	if _, err := e.js.PublishMsg(e.ctx(), twice); err != nil {
		t.Fatal(err)
	}
	id := e.leave("al", commands.AddDefinition{DefinitionID: "e"})
	if r := e.outcome("al", id); r.Err != nil {
		t.Errorf("what comes after goes on: %+v", r)
	}
	e.inboxEmpty()
	dead := jetstream.NewDead(e.nc, events.DefaultPrefix)
	letters, more, err := dead.List(e.ctx(), 0)
	if err != nil || more != 0 || len(letters) != 5 {
		t.Fatalf("%+v, %d, %v", letters, more, err)
	}
	for _, l := range letters {
		if !contains(l.Reason, "publish it again") {
			t.Errorf("%s does not say what to do: %s", l.Subject, l.Reason)
		}
	}
	// With an id of its own the one without is a command like any other.
	n := slices.IndexFunc(letters, func(l jetstream.DeadLetter) bool { return contains(l.Reason, "has no id") })
	again, err := dead.Retry(e.ctx(), letters[n].Seq)
	if err != nil {
		t.Fatal(err)
	}
	if r := e.outcome("al", again); r.Err != nil || r.Seq == 0 {
		t.Errorf("retried: %+v", r)
	}
	if n := len(e.logOf(events.TypeDefinitionAdded)); n != 2 {
		t.Errorf("%d definitions", n)
	}
}

// TestDurable_OrderOverLeaders leaves 200 commands of two callers while the lead
// changes hands again and again: each is carried out once and in its turn.
func TestDurable_OrderOverLeaders(t *testing.T) {
	t.Parallel()
	e := newEpum(t, shortLease, named("p1"))
	e.process(named("p2"))
	e.leader()
	callers := []string{"al", "bo"}
	for _, c := range callers {
		e.do(c, commands.AddDefinition{DefinitionID: "d-" + c}, commands.AddDomain{DomainID: "web", DefinitionID: "d-" + c, Config: preserve(0)})
	}
	const each = 100
	left := make(chan struct{})
	go func() {
		defer close(left)
		for n := range each {
			for _, c := range callers {
				if _, err := e.as(c).DoAsync(e.ctx(), commands.ReconfigureDomain{DomainID: "web", Config: preserve(n + 1)}, natsapi.WithCommandID(fmt.Sprint(c, n))); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(10 * time.Millisecond) // spreads them over the changes
		}
	}()
	for range 3 {
		s := e.takeLeaseAway()
		e.noLeader()
		s.release()
		e.leader()
	}
	await(t, "all are left", left)
	for _, c := range callers {
		e.outcome(c, fmt.Sprint(c, each-1))
	}
	e.inboxEmpty()
	got := map[string][]string{}
	want := map[string][]string{}
	for _, l := range e.logOf(events.TypeDomainReconfigured) {
		got[l.header.Get(events.HeaderActor)] = append(got[l.header.Get(events.HeaderActor)], l.header.Get(events.HeaderCausation))
	}
	for _, c := range callers {
		for n := range each {
			want[c] = append(want[c], fmt.Sprintf("%s/%s%d", c, c, n))
			r := e.outcome(c, fmt.Sprint(c, n))
			if r.Err != nil {
				t.Errorf("%s %d: %+v", c, n, r)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDurable_Killed kills the process with -9 while it carries commands out: each
// is carried out once, in its turn, whatever the process had got to.
func TestDurable_Killed(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	e := connect(t, url)
	m := newMachine(t)
	m.serve("--nats.url", url, "--external_decide")
	e.leader()
	const all = 150
	ids := []string{e.leave("al", commands.AddDefinition{DefinitionID: "d"})}
	for n := range all {
		ids = append(ids, e.leave("al", commands.UpdateDefinition{DefinitionID: "d", Definition: preserve(n)}))
		if n%50 == 25 {
			m.kill()
		}
		if n%50 == 49 {
			m.serve("--nats.url", url, "--external_decide")
		}
	}
	var want, got []string
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(context.Background(), 3*patience) // after a death each in hand waits for the server
		r, err := e.as("al").WaitResult(ctx, id)
		cancel()
		if err != nil || r.Err != nil {
			t.Fatalf("%s: %+v, %v", id, r, err)
		}
		want = append(want, fmt.Sprintf("al/%s at %d", id, r.Seq))
	}
	e.inboxEmpty()
	for _, l := range e.log() {
		if l.key == events.DefinitionKey("d") {
			got = append(got, fmt.Sprintf("%s at %d", l.header.Get(events.HeaderCausation), l.seq))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
