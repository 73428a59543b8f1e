package tests

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func testMultiuser(t *testing.T) {
	e := newEpum(t, withEngines((&mock{}).as("mock01", mockEngine01)))
	e.do("permitted", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(mockEngine01)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(1)})
	for caller, want := range map[string]int{"disallowed": 0, "permitted": 1} {
		names, _, err := e.as(caller).ListDomains(e.ctx(), "", 0)
		if err != nil || len(names) != want {
			t.Errorf("%s lists %q, %v", caller, names, err)
		}
	}
	e.describe("permitted", "testing123")
	if _, err := e.as("disallowed").DescribeDomain(e.ctx(), "testing123", "", 0); !isNotFound(err) {
		t.Errorf("a stranger describes the domain: %v", err)
	}
	for _, cmd := range []commands.Command{
		commands.ReconfigureDomain{DomainID: "testing123"},
		commands.RemoveDomain{DomainID: "testing123"},
		commands.SubscribeDomain{DomainID: "testing123", SubscriberName: "a", SubscriberOp: "b"},
		commands.UnsubscribeDomain{DomainID: "testing123", SubscriberName: "a"},
	} {
		e.refused("disallowed", cmd, commands.ErrNotFound)
	}
	e.do("permitted", commands.ReconfigureDomain{DomainID: "testing123"}, commands.RemoveDomain{DomainID: "testing123"})
}

func testDefinitions(t *testing.T) {
	e := newEpum(t, withEngines((&mock{}).as("mock01", mockEngine01), failing().as("mock02", mockEngine02)))
	one, two := ofEngine(mockEngine01), ofEngine(mockEngine02)
	e.do("x", commands.AddDefinition{DefinitionID: "definition1", Definition: one})
	e.refused("x", commands.AddDefinition{DefinitionID: "definition1", Definition: two}, commands.ErrWriteConflict)
	e.do("y", commands.AddDefinition{DefinitionID: "definition2", Definition: two})
	check := func(name string, want events.Config) {
		t.Helper()
		got, err := e.as("z").DescribeDefinition(e.ctx(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(natsapi.DefinitionDocument{Name: name, Definition: want, Documentation: "A mock of the tests."}, *got); diff != "" {
			t.Fatal(diff)
		}
	}
	check("definition1", one)
	check("definition2", two)
	names, _, err := e.as("z").ListDefinitions(e.ctx(), "", 0)
	if diff := cmp.Diff([]string{"definition1", "definition2"}, names); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	e.do("y", commands.RemoveDefinition{DefinitionID: "definition1"})
	if _, err := e.as("x").DescribeDefinition(e.ctx(), "definition1"); !isNotFound(err) {
		t.Fatalf("a removed definition: %v", err)
	}
	e.refused("x", commands.RemoveDefinition{DefinitionID: "definition1"}, commands.ErrNotFound)
	e.do("x", commands.UpdateDefinition{DefinitionID: "definition2", Definition: one})
	check("definition2", one)
}

func testConfigValidation(t *testing.T) {
	e := newEpum(t)
	e.do("asterix", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(simplestEngine)})
	wrong := events.Config{EngineConf: section(map[string]any{})}
	e.refused("asterix", commands.AddDomain{DomainID: "domain", DefinitionID: "def123", Config: wrong}, commands.ErrBadRequest)
	e.do("asterix", commands.AddDomain{DomainID: "domain", DefinitionID: "def123", Config: preserve(1)})
}

func testEngineConfigDoc(t *testing.T) {
	e := newEpum(t)
	e.do("x", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(simplestEngine)})
	doc, err := e.as("x").DescribeDefinition(e.ctx(), "def123")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"preserve_n", "force_site", "epuworker_type", "epuworker_allocation", "provisioner_vars"} {
		if !contains(doc.Documentation, word) {
			t.Errorf("the documentation does not have %s:\n%s", word, doc.Documentation)
		}
	}
}

func testReaper(t *testing.T) {
	const age = 2 * time.Second
	e := newEpum(t, func(c *service.Config) { c.RecordReapingMaxAge = age })
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "d", Config: preserve(7)})
	e.decide()
	ids := p.provisions(7)
	ended := []events.InstanceState{events.Terminated, events.Rejected, events.Failed}
	e.reportState("owner1", "testing123", ids[0], events.Running)
	for n, state := range ended {
		e.reportState("owner1", "testing123", ids[1+n], state)
	}
	last, _ := e.instance("owner1", "testing123", ids[3])
	early := 0 // passes that came too early, and so must do nothing
	eventually(t, "half the age has gone by", func() bool {
		early += e.pass("reap").Changed
		return time.Since(last.StateTime) > age/2
	})
	if early != 0 {
		t.Fatalf("%d records reaped before their age", early)
	}
	for n, state := range ended {
		e.reportState("owner1", "testing123", ids[4+n], state)
	}
	reaped := 0
	eventually(t, "the old records are reaped", func() bool {
		reaped += e.pass("reap").Changed
		return reaped >= 3
	})
	var left []string
	for _, i := range e.describe("owner1", "testing123").Instances {
		left = append(left, i.InstanceID)
	}
	want := append([]string{ids[0]}, ids[4:]...)
	slices.Sort(want)
	if diff := cmp.Diff(want, left); diff != "" {
		t.Fatal(diff)
	}
	// The documents go from the bucket, the history stays.
	e.projected()
	documents, owner := e.documents(), events.DomainID{Owner: "owner1", Name: "testing123"}
	for n, id := range ids {
		if _, kept := documents[owner.InstanceKey(id)]; kept != slices.Contains(want, id) {
			t.Errorf("instance %d: it is %v that the bucket has it", n, kept)
		}
	}
	if n := len(e.logOf(events.TypeLaunchRequested)); n != len(ids) {
		t.Errorf("the log has %d of %d launches left", n, len(ids))
	}
	// Each went at its age: no earlier, and with the first pass after that.
	state := map[events.Key]time.Time{}
	for _, l := range e.log() {
		switch l.typ() {
		case events.TypeStateChanged:
			state[l.key] = l.time
		case events.TypeReaped:
			if old := l.time.Sub(state[l.key]); old < age || old > age+time.Second {
				t.Errorf("%s reaped at an age of %s", l.key, old)
			}
		}
	}
}

// testUpdateConflict has two writers race on one instance: just before ours
// appends what it has decided, the service takes the sneaky report.
func testUpdateConflict(t *testing.T, sneaky, ours events.InstanceState, changes int) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "definition1"},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "definition1", Config: preserve(1)})
	e.decide()
	id := p.provisions(1)[0]

	replica, log := e.writer("rival")
	sneaked := false
	reporter := &commands.Reporter{
		Log:     &sneakyLog{Log: log, before: func() { sneaked = true; e.reportState("owner1", "testing123", id, sneaky) }},
		Replica: replica, NewID: uuid.NewString, Logger: logger(),
	}
	if err := reporter.Handle(e.ctx(), id, []byte(`{"node_id":"`+id+`","state":"`+string(ours)+`"}`)); err != nil {
		t.Fatal(err)
	}
	if !sneaked {
		t.Fatal("the other report did not come in between")
	}
	i, _ := e.instance("owner1", "testing123", id)
	if i.State != events.Started {
		t.Fatalf("state %s, want the later of both", i.State)
	}
	if got := len(e.logOf(events.TypeStateChanged)); got != changes {
		t.Fatalf("%d reports in the log, want %d", got, changes)
	}
}

// sneakyLog calls before ahead of its first append.
type sneakyLog struct {
	commands.Log
	once   sync.Once
	before func()
}

func (l *sneakyLog) Append(ctx context.Context, d events.Draft) (uint64, error) {
	l.once.Do(l.before)
	return l.Log.Append(ctx, d)
}

// writer is the part of a process that writes: a replica that follows the log,
// and the log.
func (e *epum) writer(process string) (*projections.Replica, *jetstream.Log) {
	e.t.Helper()
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: e.url, Name: process, Logger: logger()})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(nc.Close)
	cell, err := jetstream.Open(e.ctx(), nc, jetstream.Config{Process: process, LeaseTTL: e.lease, Logger: logger()})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(cell.Close)
	replica := projections.NewReplica(cell.Log(), cell.State(), cell.Purged(), logger())
	ctx, cancel := context.WithCancel(context.Background())
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = replica.Run(ctx, func() { close(started) })
	}()
	e.t.Cleanup(func() { cancel(); <-done })
	<-started
	return replica, cell.Log()
}
