package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// notified is a notification as the stream has it.
type notified struct{ subject, id, body string }

func (e *epum) notifyStream() natsjs.Stream {
	e.t.Helper()
	s, err := e.js.Stream(e.ctx(), events.DefaultPrefix.Stream(events.StreamNotify))
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// notifications gives all notifications, straight from the stream.
func (e *epum) notifications() []notified {
	e.t.Helper()
	stream := e.notifyStream()
	var all []notified
	for seq := range stream.CachedInfo().State.LastSeq {
		m, err := stream.GetMsg(e.ctx(), seq+1)
		if err != nil {
			e.t.Fatal(err)
		}
		all = append(all, notified{m.Subject, m.Header.Get("Nats-Msg-Id"), string(m.Data)})
	}
	return all
}

// told waits until so many notifications are there and gives them.
func (e *epum) told(n int) []notified {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%d notifications", n), func() bool { return e.notifyStream().CachedInfo().State.Msgs >= uint64(n) })
	all := e.notifications()
	if len(all) != n {
		e.t.Fatalf("%d notifications, want %d: %v", len(all), n, all)
	}
	return all
}

// newSubscribed is newLaunched with a subscriber: s, whose op is op.
func newSubscribed(t testing.TB) (e *epum, p *provisioner, id string) {
	t.Helper()
	e, p, id = newLaunched(t)
	e.do("al", subscribe("s", "op"))
	return e, p, id
}

func subscribe(name, op string) commands.Command {
	return commands.SubscribeDomain{DomainID: "web", SubscriberName: name, SubscriberOp: op}
}

// note is what a subscriber is told of an instance of al's domain web.
func note(id, state, hostname string) string {
	return fmt.Sprintf(`{"node_id":%q,"state":%q,"owner":"al","domain_id":"web","properties":{"hostname":%s}}`, id, state, hostname)
}

// reportEvent reports, waits until the log has it, and gives the event's id.
func (e *epum) reportEvent(id string, fields map[string]any) string {
	e.t.Helper()
	before := len(e.logOf(events.TypeStateChanged))
	e.report(id, fields)
	var all []logged
	eventually(e.t, fmt.Sprintf("report %v is in the log", fields), func() bool {
		all = e.logOf(events.TypeStateChanged)
		return len(all) > before
	})
	return all[before].id()
}

// TestNotify_Rules: who is told what of which report (design §4).
func TestNotify_Rules(t *testing.T) {
	t.Parallel()
	type fields = map[string]any
	e, _, id := newSubscribed(t)
	var want []notified
	tells := func(event, name, op, state, hostname string) {
		want = append(want, notified{"epum.notify." + name + "." + op, event + "/" + name, note(id, state, hostname)})
	}
	for _, below := range []events.InstanceState{events.Requested, events.ErrorRetrying, events.Pending, events.Started} {
		e.reportEvent(id, fields{"state": below})
	}
	tells(e.reportEvent(id, fields{"state": "600-RUNNING", "update_counter": 1}), "s", "op", "600-RUNNING", "null")
	tells(e.reportEvent(id, fields{"state": "600-RUNNING", "update_counter": 2, "public_ip": "10.0.0.1"}), "s", "op", "600-RUNNING", `"10.0.0.1"`)
	e.report(id, fields{"state": "600-RUNNING", "update_counter": 1}) // refused
	e.report(id, fields{"state": "500-STARTED", "update_counter": 9}) // refused
	e.do("al", subscribe("b.c", "x"))
	event := e.reportEvent(id, fields{"state": "600-RUNNING", "update_counter": 3})
	tells(event, "s", "op", "600-RUNNING", `"10.0.0.1"`)
	tells(event, "b=2Ec", "x", "600-RUNNING", `"10.0.0.1"`)
	e.do("al", subscribe("s", "replaced"), commands.UnsubscribeDomain{DomainID: "web", SubscriberName: "b.c"})
	tells(e.reportEvent(id, fields{"state": "650-RUNNING_FAILED"}), "s", "replaced", "900-FAILED", `"10.0.0.1"`)

	// The domain goes: nothing of the leader's own TERMINATING, and the last one
	// still comes though the domain and its record vanish at once.
	e.do("al", commands.RemoveDomain{DomainID: "web"})
	e.decide()
	tells(e.reportEvent(id, fields{"state": "800-TERMINATED", "public_ip": "10.0.0.2"}), "s", "replaced", "900-FAILED", `"10.0.0.2"`)
	e.decide()
	e.refused("al", subscribe("s", "op"), commands.ErrNotFound)
	if diff := cmp.Diff(want, e.told(len(want)), cmp.AllowUnexported(notified{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(e.logOf(events.TypeTerminateRequested)); n != 1 {
		t.Errorf("%d terminations were asked for, want 1", n)
	}
}

// TestNotify_Unsubscribed: nobody is told who does not want to be.
func TestNotify_Unsubscribed(t *testing.T) {
	t.Parallel()
	e, _, id := newSubscribed(t)
	e.do("al", commands.UnsubscribeDomain{DomainID: "web", SubscriberName: "s"})
	e.reportEvent(id, map[string]any{"state": "600-RUNNING"})
	e.do("al", subscribe("s", "late"))
	e.reportEvent(id, map[string]any{"state": "900-FAILED"})
	if got := e.told(1); got[0].body != note(id, "900-FAILED", "null") {
		t.Errorf("%+v", got)
	}
}

// TestNotify_Away: a subscriber that was away reads what it missed, with a durable
// consumer of its own or from the stream's beginning.
func TestNotify_Away(t *testing.T) {
	t.Parallel()
	e, _, id := newSubscribed(t)
	durable, err := e.notifyStream().CreateConsumer(e.ctx(), natsjs.ConsumerConfig{
		Durable: "s", FilterSubject: "epum.notify.s.>", AckPolicy: natsjs.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.do("al", subscribe("other", "op"))
	want := []string{note(id, "600-RUNNING", "null"), note(id, "900-FAILED", "null")}
	e.reportEvent(id, map[string]any{"state": "600-RUNNING"})
	e.reportEvent(id, map[string]any{"state": "900-FAILED"})
	e.told(4)
	e.stopAll() // the stream needs no process of epum
	late, err := e.notifyStream().OrderedConsumer(e.ctx(), natsjs.OrderedConsumerConfig{FilterSubjects: []string{"epum.notify.s.op"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, consumer := range []natsjs.Consumer{durable, late} {
		var got []string
		for range want {
			m, err := consumer.Next(natsjs.FetchMaxWait(patience))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Data()))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if age := e.notifyStream().CachedInfo().Config.MaxAge; age != 24*time.Hour {
		t.Errorf("kept for %s", age)
	}
}

// expected gives the ids of the notifications to s that the log asks for, in its
// order.
func (e *epum) expected() []string {
	e.t.Helper()
	var ids []string
	for _, l := range e.logOf(events.TypeStateChanged) {
		if ev, ok := l.decode().(events.StateChanged); ok && ev.State >= events.Running {
			ids = append(ids, l.id()+"/s")
		}
	}
	return ids
}

// checkIDs waits until each notification that the log asks for is there, and
// fails where one is there twice: within two minutes the id prevents that.
func (e *epum) checkIDs(reports int) []string {
	e.t.Helper()
	e.inboxEmpty()
	want := e.expected()
	if len(want) != reports {
		e.t.Fatalf("%d reports were accepted, want %d", len(want), reports)
	}
	var got []string
	for _, n := range e.told(reports) {
		got = append(got, n.id)
	}
	inOrder := slices.Clone(got)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		e.t.Errorf("(-want +got):\n%s", diff)
	}
	return inOrder
}

// TestNotify_Order: reports of many instances are told in the log's order.
func TestNotify_Order(t *testing.T) {
	t.Parallel()
	const many, each = 20, 3
	e := newEpum(t)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(many), SubscriberName: "s", SubscriberOp: "op"})
	e.decide()
	for _, state := range []events.InstanceState{events.Running, events.RunningFailed, events.Failed} {
		for _, id := range p.provisions(many) {
			e.report(id, map[string]any{"state": state})
		}
		e.inboxEmpty()
	}
	if diff := cmp.Diff(e.expected(), e.checkIDs(many*each)); diff != "" {
		t.Errorf("order (-log +told):\n%s", diff)
	}
}

// TestNotify_Cheap: with no subscriber the queue empties all the same, and nothing
// is stored.
func TestNotify_Cheap(t *testing.T) {
	t.Parallel()
	e, _, id := newLaunched(t)
	for n := range 5 {
		e.report(id, map[string]any{"state": "600-RUNNING", "update_counter": n + 1})
	}
	e.inboxEmpty()
	eventually(t, "all events are dealt with", func() bool {
		c, err := e.eventStream().Consumer(e.ctx(), "notify")
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
	})
	e.told(0)
}
