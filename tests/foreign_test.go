package tests

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// ackTo has the server put a message that is no event on a subject: its ack of a
// report goes wherever whoever reports says.
func (e *epum) ackTo(subjects ...string) {
	e.t.Helper()
	for _, subject := range subjects {
		body := []byte(`{"node_id":"nobody","state":"900-FAILED"}`)
		if err := e.nc.PublishRequest(e.prefix.Node("nobody", events.OpInstanceInfo), subject, body); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := e.nc.FlushTimeout(patience); err != nil {
		e.t.Fatal(err)
	}
}

// foreign does so on keys of the log and waits until it has them.
func (e *epum) foreign(keys ...events.Key) {
	e.t.Helper()
	count := func() (n int) {
		for _, l := range e.log() {
			if l.typ() == "" {
				n++
			}
		}
		return n
	}
	before := count()
	for _, key := range keys {
		e.ackTo(e.prefix.Event(key))
	}
	eventually(e.t, "the log has what is no event", func() bool { return count() == before+len(keys) })
}

// TestForeign has messages that are no events on every kind of subject of the log:
// everything goes on, and whoever folds it gets the same.
func TestForeign(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("one"))
	p := e.provisioner()
	web, late := events.DomainID{Owner: "al", Name: "web"}, events.DomainID{Owner: "al", Name: "late"}
	first := e.leader()
	e.foreign(
		events.DefinitionKey("d"), web.Key(), web.DecisionKey(), web.InstanceKey("i"), events.PassKey,
		events.CheckpointKey, "instance", "domain.al", "domain.al.web.more", "definition.a=2fb", "other", "leader.x", "pass.x", "domain.%.*", "instance.a.b.>",
	)
	// What is guarded by there being nothing is guarded by that.
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(2)})
	e.decide()
	ids := p.provisions(2)
	e.reportState("al", "web", ids[0], events.Running)

	e.foreign(
		events.DefinitionKey("d"), web.Key(), web.DecisionKey(), web.InstanceKey(ids[0]), web.InstanceKey(ids[1]), web.InstanceKey("i"), events.PassKey,
		late.Key(), late.DecisionKey(), events.DefinitionKey("late"),
	)
	if now := e.leader(); now.Epoch != first.Epoch {
		t.Errorf("%+v lost the lead to a message on another subject: %+v", first, now)
	}
	e.reportState("al", "web", ids[1], events.Running)
	e.reportState("al", "web", ids[0], events.Failed)
	e.do(
		"al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(3)}, commands.SubscribeDomain{DomainID: "web", SubscriberName: "s", SubscriberOp: "op"},
		commands.UpdateDefinition{DefinitionID: "d", Definition: preserve(1)}, commands.AddDefinition{DefinitionID: "late"}, commands.AddDomain{DomainID: "late", DefinitionID: "d"},
	)
	e.decide()
	p.provisions(5)
	if doc := e.describe("al", "web"); len(doc.Instances) != 4 || len(doc.Subscribers) != 1 {
		t.Errorf("%+v", doc)
	}
	e.refused("al", commands.AddDomain{DomainID: "web", DefinitionID: "d"}, commands.ErrWriteConflict)
	e.projected()
	e.bucketIsFold()

	// A name that has gone, and comes again.
	e.do("al", commands.RemoveDefinition{DefinitionID: "late"})
	e.foreign(events.DefinitionKey("late"), events.DefinitionKey("late"))
	e.do("al", commands.AddDefinition{DefinitionID: "late"})

	// The fence: its term is over, and the next one begins at once.
	for n := range 3 {
		before := e.leader()
		e.foreign(events.LeaderKey)
		within(t, 3*time.Second, "another term", func() bool { return e.leader().Epoch > before.Epoch })
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(4 + n)})
		e.decide()
		if got := len(e.describe("al", "web").Instances); got != 5+n {
			t.Errorf("%d instances, want %d", got, 5+n)
		}
	}
	e.projected()
	e.bucketIsFold()

	// Who begins with the bucket, and who begins with nothing.
	want := e.describe("al", "web").Seq
	e.foreign(web.Key(), "other", web.DecisionKey(), events.LeaderKey, events.PassKey)
	e.process(named("two"))
	e.processes[0].Stop()
	within(t, patience, "the second one leads", func() bool { return e.leader().Process == "two" })
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(9)})
	e.decide()
	e.projected()
	e.bucketIsFold()
	if doc := e.describe("al", "web"); doc.Seq <= want || len(doc.Instances) != 10 {
		t.Errorf("%+v", doc)
	}
	e.stopAll()
	if err := e.js.DeleteKeyValue(e.ctx(), e.prefix.Stream(events.BucketState)); err != nil {
		t.Fatal(err)
	}
	e.process(named("three"))
	e.decide()
	e.projected()
	e.bucketIsFold()
}

// TestForeign_Unknown has an event of a type that this version does not know on an
// aggregate: that is no foreign message, and nobody may lead past it (design §2, 6).
func TestForeign_Unknown(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	e.appendByHand(events.DomainID{Owner: "al", Name: "web"}.Key(), "epum.domain.frozen.v1", `{}`)
	if a := e.ask("al", "reconfigure_domain", `{"domain_id":"web","config":{}}`); a.code != 503 {
		t.Errorf("%+v", a)
	}
	e.foreign(events.LeaderKey) // ends the term
	eventually(t, "nobody leads", func() bool {
		s, err := e.as("operator").Status(e.ctx())
		return err == nil && s.Leader == nil
	})
}

// TestForeign_Documents has messages that are no documents on the keys of some: reads
// stay right, those of other domains stay with the bucket, and without any event or
// election the leader puts the documents back.
func TestForeign_Documents(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	web := events.DomainID{Owner: "al", Name: "web"}
	e.do(
		"al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)},
		commands.AddDomain{DomainID: "other", DefinitionID: "d", Config: preserve(1)},
	)
	e.decide()
	p.provisions(2)
	e.projected()
	id := e.describe("al", "web").Instances[0].InstanceID
	term, place := e.leader(), "$KV."+e.prefix.Stream(events.BucketState)+"."
	revision := func(key events.Key) uint64 {
		entry, err := e.state().Get(e.ctx(), string(key))
		if err != nil {
			t.Fatal(err)
		}
		return entry.Revision()
	}
	before := map[events.Key]uint64{}
	for _, key := range []events.Key{
		web.Key(), web.DecisionKey(), web.InstanceKey(id), events.DefinitionKey("d"), events.LeaderKey, web.InstanceKey("ghost"),
	} {
		if key != web.InstanceKey("ghost") {
			before[key] = revision(key)
		}
		e.ackTo(place + string(key))
		if doc := e.describe("al", "web"); doc.EngineState == "" || len(doc.Config.EngineConf) == 0 {
			t.Errorf("with an ack in the place of %s: %+v", key, doc)
		}
	}
	e.ackTo(place+"nothing.known", place+"instance.al")
	e.describe("al", "other")
	within(t, 5*time.Second, "the documents are back", func() bool {
		for key, was := range before {
			if revision(key) == was {
				return false
			}
		}
		docs := e.documents()
		delete(docs, "nothing.known")
		delete(docs, "instance.al")
		want := map[events.Key]string{}
		for key, doc := range e.fold().Documents() {
			want[key] = string(doc.AppendJSON(nil))
		}
		return cmp.Equal(want, docs)
	})
	// A copy in the checkpoint's place has two of what the server says of a message.
	if _, err := e.js.CreateStream(e.ctx(), natsjs.StreamConfig{Name: "own", Subjects: []string{"own"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	copied := &nats.Msg{Subject: "own", Header: nats.Header{"Nats-Sequence": {"1"}, "Nats-Last-Sequence": {"7"}}}
	if _, err := e.js.PublishMsg(e.ctx(), copied); err != nil {
		t.Fatal(err)
	}
	was := revision(events.CheckpointKey)
	if err := e.nc.PublishRequest("$JS.API.DIRECT.GET.own", place+string(events.CheckpointKey), []byte(`{"last_by_subj":"own"}`)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the checkpoint is back", func() bool { return revision(events.CheckpointKey) > was+1 })
	e.projected()
	if now := e.leader(); now != term {
		t.Errorf("another term: %+v", now)
	}
	rec := newRecorder()
	e.process(named("two"), func(c *service.Config) { c.Logger = slog.New(rec) })
	if rec.said("no usable state bucket") {
		t.Error("a process starts from the log, since the bucket has keys that are nobody's")
	}
}

// TestForeign_API has the server's acks sent to requests of JetStream that destroy:
// it takes none of them for one.
func TestForeign_API(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	seq := e.do("al", commands.AddDefinition{DefinitionID: "d"})
	for _, stream := range []string{events.StreamEvents, events.StreamDead, events.StreamInbox} {
		name := e.prefix.Stream(stream)
		e.ackTo("$JS.API.STREAM.PURGE."+name, "$JS.API.STREAM.DELETE."+name, "$JS.API.STREAM.UPDATE."+name, "$JS.API.STREAM.MSG.DELETE."+name,
			"$JS.API.STREAM.PURGE.KV_"+e.prefix.Stream(events.BucketState))
	}
	e.inboxEmpty()
	if all := e.log(); len(all) == 0 || all[0].seq != 1 || all[len(all)-1].seq < seq {
		t.Errorf("of the log up to %d are left %+v", seq, all)
	}
	e.do("al", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	e.decide()
	e.projected()
	e.bucketIsFold()
}
