package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// busy makes a log with every kind of event that this version writes.
func busy(t *testing.T) *epum {
	e := newEpum(t, named("one"), func(c *service.Config) { c.RecordReapingMaxAge = 0 })
	p := e.provisioner()
	e.do("al",
		commands.AddDefinition{DefinitionID: "d"},
		commands.UpdateDefinition{DefinitionID: "d", Definition: events.Config{General: []byte(`{"chef_credential":"c"}`)}},
		commands.AddDefinition{DefinitionID: "gone"},
		commands.RemoveDefinition{DefinitionID: "gone"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3)},
		commands.AddDomain{DomainID: "db", DefinitionID: "d", Config: preserve(2)},
		commands.SubscribeDomain{DomainID: "web", SubscriberName: "s", SubscriberOp: "o"},
		commands.UnsubscribeDomain{DomainID: "web", SubscriberName: "s"})
	e.decide()
	ids := p.provisions(5)
	for _, id := range ids {
		e.report(id, map[string]any{"state": events.Running, "public_ip": "10.0.0.1"})
	}
	eventually(t, "all run", func() bool {
		return e.describe("al", "web").InstanceCounts[events.Running] == 3 && e.describe("al", "db").InstanceCounts[events.Running] == 2
	})
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(1)}, commands.RemoveDomain{DomainID: "db"})
	e.decide()
	for _, id := range p.terminations(4) {
		e.report(id, map[string]any{"state": events.Terminated})
	}
	eventually(t, "four are terminated", func() bool {
		return e.describe("al", "web").InstanceCounts[events.Terminated]+e.describe("al", "db").InstanceCounts[events.Terminated] == 4
	})
	e.decide()
	e.pass("reap")
	return e
}

// TestLog_Events checks every event of a busy log against design §5 and §6.
func TestLog_Events(t *testing.T) {
	t.Parallel()
	e := busy(t)
	log := e.log()
	kinds := map[string]int{}
	seen := map[string]logged{}
	for n, l := range log {
		kinds[l.typ()]++
		checkHeaders(t, l)
		if _, twice := seen[l.id()]; twice {
			t.Errorf("%d %s: ce-id %s is given twice", l.seq, l.key, l.id())
		}
		seen[l.id()] = l
		if l.seq != uint64(n+1) {
			t.Errorf("event %d is at sequence %d", n+1, l.seq)
		}
		if _, _, ok := l.key.Parts(); !ok || string(l.key.Kind()) != strings.Split(l.typ(), ".")[1] {
			t.Errorf("%d: %s on %s", l.seq, l.typ(), l.key)
		}
		if u, ok := l.decode().(events.Unknown); ok {
			t.Errorf("%d %s: %+v", l.seq, l.key, u)
		}
	}
	for _, typ := range []string{
		events.TypeDefinitionAdded, events.TypeDefinitionUpdated, events.TypeDefinitionRemoved, events.TypeDomainAdded,
		events.TypeDomainReconfigured, events.TypeDomainSubscribed, events.TypeDomainUnsubscribed, events.TypeDomainRemovalRequested,
		events.TypeDomainRemoved, events.TypeLaunchRequested, events.TypeStateChanged, events.TypeTerminateRequested, events.TypeReaped,
		events.TypeDecisionMade, events.TypeLeaderElected, events.TypePassCommitted,
	} {
		if kinds[typ] == 0 {
			t.Errorf("the busy log has no %s", typ)
		}
	}
	e.checkCausation(log, seen)
	e.checkAppends(log)
}

func checkHeaders(t *testing.T, l logged) {
	t.Helper()
	for _, name := range []string{
		events.HeaderSpecVersion, events.HeaderID, events.HeaderSource, events.HeaderType, events.HeaderCETime, events.HeaderActor,
	} {
		if len(l.header[name]) != 1 || l.header[name][0] == "" {
			t.Errorf("%d %s: header %s is %q", l.seq, l.typ(), name, l.header[name])
		}
	}
	if l.header.Get(events.HeaderSpecVersion) != "1.0" || l.header.Get(events.HeaderSource) != "/epum/one" {
		t.Errorf("%d: %v", l.seq, l.header)
	}
	if at, err := time.Parse(time.RFC3339, l.header.Get(events.HeaderCETime)); err != nil || at.Location() != time.UTC {
		t.Errorf("%d: ce-time %q", l.seq, l.header.Get(events.HeaderCETime))
	}
	if l.header.Get("Nats-Msg-Id") != "" {
		t.Errorf("%d: an event with a Nats-Msg-Id", l.seq)
	}
	if !json.Valid(l.body) {
		t.Errorf("%d: body %s", l.seq, l.body)
	}
	actor := l.header.Get(events.HeaderActor)
	leads := strings.HasPrefix(actor, "leader/")
	if leads != (l.epoch() > 0) && l.typ() != events.TypeLeaderElected {
		t.Errorf("%d %s: actor %s, epoch %d", l.seq, l.typ(), actor, l.epoch())
	}
	want := "al"
	switch l.key.Kind() {
	case events.KindLeader, events.KindPass, events.KindDecision:
		want = "leader/one"
	case events.KindInstance:
		_, want, _ = l.key.Parts()
		if l.typ() != events.TypeStateChanged {
			want = "leader/one"
		}
	case events.KindDomain:
		if l.typ() == events.TypeDomainRemoved {
			want = "leader/one"
		}
	case events.KindDefinition:
	}
	if actor != want {
		t.Errorf("%d %s: actor %q, want %q", l.seq, l.typ(), actor, want)
	}
}

// checkCausation follows every causation id: a command's is the caller's, an
// action's is a decision that names it, before it in the log.
func (e *epum) checkCausation(log []logged, seen map[string]logged) {
	e.t.Helper()
	for _, l := range log {
		cause := l.header.Get(events.HeaderCausation)
		switch l.typ() {
		case events.TypeLaunchRequested, events.TypeTerminateRequested:
			decision, ok := seen[cause]
			made, isDecision := decision.decode().(events.DecisionMade)
			domain, instance, _ := l.key.Parts()
			if !ok || !isDecision || decision.seq >= l.seq || decision.key != domain.DecisionKey() {
				e.t.Errorf("%d %s is caused by %q: %+v", l.seq, l.typ(), cause, decision)
				continue
			}
			named := made.Launches
			if l.typ() == events.TypeTerminateRequested {
				named = made.Terminations
			}
			if !strings.Contains(strings.Join(named, " "), instance) {
				e.t.Errorf("%d: the decision %d does not name %s: %q", l.seq, decision.seq, instance, named)
			}
		case events.TypeDefinitionAdded, events.TypeDefinitionUpdated, events.TypeDefinitionRemoved, events.TypeDomainAdded,
			events.TypeDomainReconfigured, events.TypeDomainSubscribed, events.TypeDomainUnsubscribed, events.TypeDomainRemovalRequested:
			if !strings.HasPrefix(cause, "al/") {
				e.t.Errorf("%d %s: causation %q", l.seq, l.typ(), cause)
			}
		default:
			if cause != "" {
				e.t.Errorf("%d %s: causation %q", l.seq, l.typ(), cause)
			}
		}
		if made, ok := l.decode().(events.DecisionMade); ok {
			if made.Reason == "" || made.InputSeq >= l.seq || made.Now.IsZero() || made.EngineState == "" || made.Saw == nil {
				e.t.Errorf("%d: decision %+v", l.seq, made)
			}
		}
	}
}

// checkAppends splits the leader's events into its appends: each starts with
// the pass, and counts what follows.
func (e *epum) checkAppends(log []logged) {
	e.t.Helper()
	var pass events.PassCommitted
	var at uint64
	launched, terminated := 0, 0
	check := func() {
		e.t.Helper()
		if at > 0 && (pass.Launched != launched || pass.Terminated != terminated) {
			e.t.Errorf("the pass at %d says %+v; it launched %d and terminated %d", at, pass, launched, terminated)
		}
		launched, terminated = 0, 0
	}
	inBatch := false
	for _, l := range log {
		if l.epoch() == 0 {
			inBatch = false // a batch stands together
			continue
		}
		if p, ok := l.decode().(events.PassCommitted); ok {
			check()
			pass, at, inBatch = p, l.seq, true
			continue
		}
		if !inBatch {
			e.t.Errorf("%d %s: an event of a leader outside of a batch", l.seq, l.typ())
		}
		switch l.typ() {
		case events.TypeLaunchRequested:
			launched++
		case events.TypeTerminateRequested:
			terminated++
		}
	}
	check()
	if at == 0 {
		e.t.Error("no pass in the log")
	}
}

// TestLog_Stream has the stream as design §5 wants it.
func TestLog_Stream(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	info, err := e.eventStream().Info(e.ctx())
	if err != nil {
		t.Fatal(err)
	}
	c := info.Config
	if c.Storage != natsjs.FileStorage || c.MaxMsgs != -1 || c.MaxBytes != -1 || c.MaxAge != 0 || c.MaxMsgsPerSubject != -1 ||
		!c.AllowAtomicPublish || !c.AllowDirect || !c.DenyDelete || c.AllowRollup || c.AllowMsgSchedules {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]string{"epum.event.>"}, c.Subjects); diff != "" {
		t.Error(diff)
	}
}

// TestLog_UnknownEvent has an event of a later version in the log: the process
// keeps reading, counts it, and keeps its hands off.
func TestLog_UnknownEvent(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)},
		commands.AddDomain{DomainID: "db", DefinitionID: "d", Config: preserve(1)})
	e.leader()
	e.projected()
	before := e.checkpoint()["seq"]
	config := e.describe("al", "web").Config
	web := events.DomainID{Owner: "al", Name: "web"}
	seq := e.appendByHand(web.Key(), "epum.domain.painted.v1", `{"color":"red"}`)
	doc := e.describe("al", "web")
	if doc.Seq != seq || doc.AsOf.Seq < seq {
		t.Errorf("seq %d as of %d, want %d", doc.Seq, doc.AsOf.Seq, seq)
	}
	if diff := cmp.Diff(config, doc.Config); diff != "" {
		t.Error(diff)
	}
	for op, request := range map[string]string{
		"reconfigure_domain": `{"domain_id":"web","config":{}}`,
		"remove_domain":      `{"domain_id":"web"}`,
		"subscribe_domain":   `{"domain_id":"web","subscriber_name":"s","subscriber_op":"o"}`,
		"unsubscribe_domain": `{"domain_id":"web","subscriber_name":"s"}`,
		"add_domain":         `{"domain_id":"web","definition_id":"d","config":{}}`,
	} {
		e.wants(503, "", "al", op, request)
	}
	// Others go on, and reads show it, with nobody to project.
	e.noLeader()
	for n := range 3 {
		name := fmt.Sprintf("d%d", n)
		e.ok("al", "add_domain_definition", fmt.Sprintf(`{"definition_id":%q,"definition":{}}`, name))
		e.wants(200, "", "al", "describe_domain_definition", fmt.Sprintf(`{"definition_id":%q}`, name))
	}
	e.ok("al", "reconfigure_domain", `{"domain_id":"db","config":{"engine_conf":{"preserve_n":2}}}`)
	if got := string(e.describe("al", "db").Config.EngineConf); got != `{"preserve_n":2}` {
		t.Errorf("engine_conf %s", got)
	}
	if after := e.checkpoint()["seq"]; after != before {
		t.Errorf("the bucket went from %v to %v", before, after)
	}
	if elections := e.logOf(events.TypeLeaderElected); len(elections) != 1 {
		t.Errorf("%d elections", len(elections))
	}
	// A process that starts now is no wiser.
	e.stopAll()
	e.process(named("two"))
	e.wants(503, "", "al", "reconfigure_domain", `{"domain_id":"web","config":{}}`)
	if got := e.describe("al", "web").Seq; got != seq {
		t.Errorf("after a restart seq %d, want %d", got, seq)
	}
	if elections := e.logOf(events.TypeLeaderElected); len(elections) != 1 {
		t.Errorf("%d elections after a restart", len(elections))
	}
}
