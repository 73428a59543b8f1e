package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// TestReads_AfterWrites writes and at once reads, again and again, in a service
// of two processes on one queue group, so that mostly another process answers
// than the one that wrote.
func TestReads_AfterWrites(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("a"), shortLease)
	e.process(named("b"))
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	loop := func(rounds int) {
		t.Helper()
		for n := range rounds {
			name := fmt.Sprintf("web%d", n%7)
			add := fmt.Sprintf(`{"domain_id":%q,"definition_id":"d","config":{"engine_conf":{"preserve_n":%d}}}`, name, n)
			if e.ask("al", "add_domain", add).code == 409 {
				e.ok("al", "reconfigure_domain", fmt.Sprintf(`{"domain_id":%q,"config":{"engine_conf":{"preserve_n":%d}}}`, name, n))
			}
			doc := e.describe("al", name)
			if want := fmt.Sprintf(`{"preserve_n":%d}`, n); string(doc.Config.EngineConf) != want {
				t.Fatalf("round %d: %s as of %d", n, doc.Config.EngineConf, doc.AsOf.Seq)
			}
			if names, _, err := e.as("al").ListDomains(e.ctx(), "", 0); err != nil || !slices.Contains(names, name) {
				t.Fatalf("round %d: list %q, %v", n, names, err)
			}
		}
	}
	loop(60)
	// With no leader nobody projects: the replicas answer.
	e.takeLeaseAway()
	e.noLeader()
	e.do("al", commands.AddDefinition{DefinitionID: "late"}) // now the bucket is old for good
	loop(60)
	if seq := e.checkpoint()["seq"].(float64); seq >= float64(len(e.log())) {
		t.Errorf("somebody projected up to %v", seq)
	}
}

// TestReads_BothSources has the bucket and the replica answer with the same
// document.
func TestReads_BothSources(t *testing.T) {
	t.Parallel()
	e := newEpum(t, shortLease)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3), SubscriberName: "s", SubscriberOp: "o"})
	e.decide()
	ids := p.provisions(3)
	e.report(ids[0], map[string]any{"state": events.Running, "public_ip": "10.0.0.1", "odd": map[string]any{"é": []int{1}}, "extravars": map[string]any{"a": 1}})
	e.reportState("al", "web", ids[1], events.Failed)
	e.decide()
	e.projected()
	fromBucket := e.describe("al", "web")
	e.takeLeaseAway()
	e.noLeader()
	e.do("bo", commands.AddDefinition{DefinitionID: "other"})
	fromReplica := e.describe("al", "web")
	if fromBucket.AsOf == fromReplica.AsOf {
		t.Fatal("the replica was not asked")
	}
	fromReplica.AsOf = fromBucket.AsOf
	if diff := cmp.Diff(fromBucket, fromReplica); diff != "" {
		t.Error(diff)
	}
}

// TestReads_ManyInstances describes a domain that one multi-get cannot give.
func TestReads_ManyInstances(t *testing.T) {
	t.Parallel()
	const many = 1500
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(many)})
	if result := e.decide(); result.Launched != many || result.Seq < many {
		t.Fatalf("%+v", result)
	}
	var ids []string
	pages := 0
	for after := ""; ; pages++ {
		doc, err := e.as("al").DescribeDomain(e.ctx(), "web", after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if doc.InstanceCounts[events.Requesting] != many || len(doc.Instances) > 1000 {
			t.Fatalf("page %d: %d instances, counts %v", pages, len(doc.Instances), doc.InstanceCounts)
		}
		for _, i := range doc.Instances {
			ids = append(ids, i.InstanceID)
		}
		if doc.Next == "" {
			break
		}
		after = doc.Next
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != many || len(ids) != many || pages == 0 {
		t.Errorf("%d instances in %d pages, sorted %v", len(ids), pages+1, slices.IsSorted(ids))
	}
	// A page that asks for more than fits a message ends early and says so.
	doc, err := e.as("al").DescribeDomain(e.ctx(), "web", "", 10_000)
	if err != nil || len(doc.Instances) < many && doc.Next == "" {
		t.Errorf("%d instances, next %q: %v", len(doc.Instances), doc.Next, err)
	}
}

// TestReads_BucketDeleted deletes the bucket under a running service.
func TestReads_BucketDeleted(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	e.projected()
	before := e.describe("al", "web")
	if err := e.js.DeleteKeyValue(e.ctx(), "epum_state"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		now := e.describe("al", "web")
		now.AsOf = before.AsOf
		if diff := cmp.Diff(before, now); diff != "" {
			t.Fatal(diff)
		}
		if names, _, err := e.as("al").ListDomains(e.ctx(), "", 0); err != nil || len(names) != 1 {
			t.Fatalf("%q, %v", names, err)
		}
	}
	e.projected()
	e.bucketIsFold()
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(9)})
	e.projected()
	e.bucketIsFold()
	if got := string(e.describe("al", "web").Config.EngineConf); got != `{"preserve_n":9}` {
		t.Errorf("engine_conf %s", got)
	}
}

// busyDomain is a service with one domain of four instances in several states.
func busyDomain(t *testing.T, change ...func(*service.Config)) *epum {
	t.Helper()
	e := newEpum(t, change...)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(4)})
	e.decide()
	for n, id := range p.provisions(4) {
		if n > 0 {
			e.reportState("al", "web", id, events.InstanceStates[2*n])
		}
	}
	e.decide()
	return e
}

// bucketIsFold compares the bucket with the fold of the log, key by key.
func (e *epum) bucketIsFold() {
	e.t.Helper()
	if diff := e.bucketDiff(); diff != "" {
		e.t.Errorf("the bucket is not the fold (-fold +bucket):\n%s", diff)
	}
}

// bucketDiff says where the bucket is not the fold of the log; "": nowhere.
func (e *epum) bucketDiff() string {
	e.t.Helper()
	want := map[events.Key]string{}
	for key, doc := range e.fold().Documents() {
		want[key] = string(doc.AppendJSON(nil))
	}
	return cmp.Diff(want, e.documents())
}

// TestReads_BucketIsFold compares the bucket with the log after all kinds of
// events, and again after another process has taken over.
func TestReads_BucketIsFold(t *testing.T) {
	t.Parallel()
	e := busy(t)
	e.projected()
	e.bucketIsFold()
	e.process(named("two"))
	e.processes[0].Stop()
	eventually(t, "the second one leads", func() bool { return e.leader().Process == "two" })
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(3)})
	e.decide()
	e.projected()
	e.bucketIsFold()
}

// tamper changes a field of a document of the bucket behind everybody's back;
// restore puts it right again.
func (e *epum) tamper(key events.Key, field string, value any) (restore func()) {
	e.t.Helper()
	entry, err := e.state().Get(e.ctx(), string(key))
	if err != nil {
		e.t.Fatal(err)
	}
	doc := map[string]any{}
	if err := json.Unmarshal(entry.Value(), &doc); err != nil {
		e.t.Fatal(err)
	}
	doc[field] = value
	put := func(data []byte) {
		if _, err := e.state().Put(e.ctx(), string(key), data); err != nil {
			e.t.Fatal(err)
		}
	}
	put(section(doc))
	return func() { put(entry.Value()) }
}

// TestReads_RestartFromBucket restarts all processes: they take the bucket and
// the events after its checkpoint. That the bucket was taken shows in a document
// that only the bucket has so.
func TestReads_RestartFromBucket(t *testing.T) {
	t.Parallel()
	e := busyDomain(t, shortLease)
	e.do("al", commands.AddDomain{DomainID: "db", DefinitionID: "d", Config: preserve(0)})
	e.projected()
	before := e.describe("al", "web")
	other := e.takeLeaseAway()
	e.noLeader()
	// The tail: what nobody has projected.
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(5)}, commands.AddDefinition{DefinitionID: "late"})
	e.stopAll()
	db := events.DomainID{Owner: "al", Name: "db"}
	restore := e.tamper(db.Key(), "definition_id", "from-the-bucket")
	heard := newRecorder()
	e.process(logTo(heard))
	if heard.said("reading the log from its beginning") {
		t.Error("the bucket was not used")
	}
	if got := e.describe("al", "db").DefinitionID; got != "from-the-bucket" {
		t.Errorf("definition_id %q is not the bucket's", got)
	}
	restore()
	after := e.describe("al", "web")
	if string(after.Config.EngineConf) != `{"preserve_n":5}` {
		t.Errorf("the tail is missing: %s", after.Config.EngineConf)
	}
	if diff := cmp.Diff(before.Instances, after.Instances); diff != "" {
		t.Error(diff)
	}
	other.release()
	e.leader()
	if got := e.decide(); got.Launched != 1 {
		t.Errorf("%+v, want one launch", got)
	}
	e.projected()
	e.bucketIsFold()
}

// TestReads_BucketGarbage has documents overwritten by what is none: reads stay right,
// also of the process that starts with them, and the leader puts right ones back.
func TestReads_BucketGarbage(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	e.projected()
	want := e.describe("al", "web")
	kv, err := e.js.KeyValue(e.ctx(), e.prefix.Stream(events.BucketState))
	if err != nil {
		t.Fatal(err)
	}
	web := events.DomainID{Owner: "al", Name: "web"}
	for _, key := range []events.Key{web.Key(), events.CheckpointKey} {
		if _, err := kv.Put(e.ctx(), string(key), []byte("garbage")); err != nil {
			t.Fatal(err)
		}
		got := e.describe("al", "web")
		got.AsOf = want.AsOf
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s is garbage: %s", key, diff)
		}
	}
	e.stopAll()
	e.process()
	got := e.describe("al", "web")
	got.AsOf = want.AsOf
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("started with garbage: %s", diff)
	}
	e.leader()
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(6)})
	e.projected()
	e.bucketIsFold()
}

// TestReads_BucketUnusable starts with a bucket of another fold version, and
// with one that was cut off in the middle of a change.
func TestReads_BucketUnusable(t *testing.T) {
	t.Parallel()
	e := busyDomain(t, shortLease)
	e.projected()
	want := e.describe("al", "web")
	web := events.DomainID{Owner: "al", Name: "web"}
	other := e.takeLeaseAway() // so that nobody writes the bucket anew yet
	e.noLeader()
	for _, c := range []struct {
		what, field string
		value       any
	}{
		{"of another fold version", "fold_version", events.FoldVersion + 1},
		{"of another log", "stream_created", "2020-01-01T00:00:00Z"},
		{"of a log that was restored and went another way", "event_id", "other"},
		{"of a log that was restored to an earlier state", "seq", 1_000_000},
	} {
		t.Run(c.what, func(t *testing.T) {
			e.stopAll()
			defer e.tamper(events.CheckpointKey, c.field, c.value)()
			defer e.tamper(web.Key(), "definition_id", "tampered")()
			heard := newRecorder()
			e.process(logTo(heard))
			if !heard.said("reading the log from its beginning") {
				t.Error("the replica started from the bucket")
			}
			got := e.describe("al", "web")
			got.AsOf = want.AsOf
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the bucket was read: %s", diff)
			}
		})
	}
	e.stopAll()
	e.tamper(events.CheckpointKey, "fold_version", events.FoldVersion+1)
	e.process()
	other.release()
	e.leader()
	e.projected()
	e.bucketIsFold()
}

// TestReads_LogRecreated deletes the log under a running process. It must find
// out, say so loudly, and start anew from what there is.
func TestReads_LogRecreated(t *testing.T) {
	t.Parallel()
	heard := newRecorder()
	e := busyDomain(t, logTo(heard))
	e.projected()
	if err := e.js.DeleteStream(e.ctx(), "epum_events"); err != nil {
		t.Fatal(err)
	}
	// Somebody opens the cell anew, as the next start of a process does.
	if _, err := jetstream.Open(e.ctx(), e.nc, jetstream.Config{Process: "x", LeaseTTL: e.lease, Logger: logger()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process says that the log is another one", func() bool { return heard.said("the log is not the one") })
	eventually(t, "the domain has gone", func() bool {
		a := e.ask("al", "describe_domain", `{"domain_id":"web"}`)
		return a.code == 404
	})
	var doc *natsapi.DomainDocument
	e.do("al", commands.AddDefinition{DefinitionID: "new"}, commands.AddDomain{DomainID: "web", DefinitionID: "new", Config: preserve(1)})
	if doc = e.describe("al", "web"); doc.DefinitionID != "new" || len(doc.Instances) != 0 {
		t.Errorf("%+v", doc)
	}
	e.leader()
	if got := e.decide(); got.Launched != 1 || got.Domains != 1 {
		t.Errorf("%+v", got)
	}
	e.projected()
	e.bucketIsFold()
}
