package tests

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// TestLeader_HandOver stops leaders cleanly; another one takes over at once.
func TestLeader_HandOver(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("p0"))
	e.leader()
	for n := 1; n <= 3; n++ {
		e.process(named(fmt.Sprintf("p%d", n)))
		e.do("al", commands.AddDefinition{DefinitionID: fmt.Sprint(n)})
		stopped := time.Now()
		e.processes[n-1].Stop()
		eventually(t, "another one leads", func() bool { return len(e.logOf(events.TypeLeaderElected)) == n+1 })
		took := e.logOf(events.TypeLeaderElected)[n].time.Sub(stopped)
		t.Logf("handed over %s after the stop began", took)
		if took > time.Second {
			t.Errorf("took %s", took)
		}
		if l := e.leader(); l.Process != fmt.Sprintf("p%d", n) {
			t.Errorf("%+v leads", l)
		}
	}
}

// TestLeader_Alone has three processes; only the one that leads acts, for
// several lives of a lease.
func TestLeader_Alone(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("a"), eventDriven, shortLease)
	e.leader()
	e.process(named("b"), eventDriven)
	e.process(named("c"), eventDriven)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	n := 1
	stays(t, "one leader", 3500*time.Millisecond, func() bool {
		n++
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(n % 20)})
		return e.leader().Process == "a"
	})
	epoch := e.leader().Epoch
	for _, l := range e.log() {
		if l.epoch() != 0 && l.epoch() != epoch {
			t.Fatalf("%d %s is of epoch %d", l.seq, l.typ(), l.epoch())
		}
	}
	if elections := len(e.logOf(events.TypeLeaderElected)); elections != 1 {
		t.Fatalf("%d elections", elections)
	}
}

// held is an engine that, when it is told to, waits in decide until the test
// lets it go on, and then wants n instances.
type held struct {
	mock
	entered, release chan struct{}
	once             sync.Once
}

func newHeld(n int) *held {
	h := &held{entered: make(chan struct{}), release: make(chan struct{})}
	h.decide = func(v *engines.View) (engines.Decision, error) {
		h.once.Do(func() { close(h.entered); <-h.release })
		return launching(v, n), nil
	}
	return h
}

// launching wants n instances, as the simplest engine does.
func launching(v *engines.View, n int) engines.Decision {
	d := engines.Decision{Reason: "the test wants it", State: events.EnginePending, Target: n}
	for range n - len(v.Instances) {
		d.Launches = append(d.Launches, engines.Launch{Site: "s", DeployableType: "t", Allocation: "a"})
	}
	return d
}

func always(n int) *mock {
	return &mock{decide: func(v *engines.View) (engines.Decision, error) { return launching(v, n), nil }}
}

// TestLeader_Fence has an election in the middle of a pass: nothing that the
// deposed leader has decided gets into the log.
func TestLeader_Fence(t *testing.T) {
	t.Parallel()
	h := newHeld(3)
	e := newEpum(t, shortLease, withEngines(h.as("held", "")))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("held")},
		commands.AddDomain{DomainID: "web", DefinitionID: "d"})
	old := e.leader().Epoch
	done := make(chan error, 1)
	ctx := e.ctx()
	go func() {
		_, err := e.as("operator").RunPass(ctx, "decide")
		done <- err
	}()
	await(t, "the engine is asked", h.entered)
	other := e.takeLeaseAway()
	elected := e.appendByHand(events.LeaderKey, events.TypeLeaderElected, `{"process":"stranger"}`)
	close(h.release)
	if err := <-done; err == nil {
		t.Error("the deposed leader's pass went well")
	}
	e.noLeader()
	for _, l := range e.log() {
		if l.seq > elected || l.epoch() == old && l.typ() != events.TypeLeaderElected {
			t.Errorf("%d %s of epoch %d behind the election at %d", l.seq, l.typ(), l.epoch(), elected)
		}
	}
	p.provisions(0)
	other.release()
	if l := e.leader(); l.Epoch <= elected {
		t.Errorf("%+v leads after %d", l, elected)
	}
	e.decide()
	p.provisions(3)
}

// TestLeader_ReplacedInPass has a leader in the middle of a pass when another
// one is elected and does that pass's work: nothing is launched twice.
func TestLeader_ReplacedInPass(t *testing.T) {
	t.Parallel()
	const wanted = 5
	h := newHeld(wanted)
	e := newEpum(t, named("a"), shortLease, withEngines(h.as("held", "")))
	p := e.provisioner()
	e.leader()
	e.process(named("b"), withEngines(always(wanted).as("held", "")))
	e.do("al", commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("held")},
		commands.AddDomain{DomainID: "web", DefinitionID: "d"})
	ctx, cancel := context.WithCancel(e.ctx())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.as("operator").RunPass(ctx, "decide")
	}()
	await(t, "the engine is asked", h.entered)
	e.takeLeaseAway().release()
	eventually(t, "b leads", func() bool { return len(e.logOf(events.TypeLeaderElected)) == 2 })
	epoch := e.logOf(events.TypeLeaderElected)[1].seq
	eventually(t, "b has launched", func() bool {
		e.decide()
		return len(e.logOf(events.TypeLaunchRequested)) > 0
	})
	close(h.release)
	await(t, "the deposed leader's pass ends", done)
	for range 3 {
		e.decide()
	}
	launches := e.logOf(events.TypeLaunchRequested)
	if len(launches) != wanted {
		t.Errorf("%d launches, want %d", len(launches), wanted)
	}
	for _, l := range launches {
		if l.epoch() != epoch {
			t.Errorf("a launch of epoch %d, want %d", l.epoch(), epoch)
		}
	}
	if l := e.leader(); l.Process != "b" {
		t.Errorf("%+v leads", l)
	}
	p.provisions(wanted)
}

// TestLeader_ReplacedOften passes the lead to and fro while domains grow: in the
// end each has exactly what it wants, and nothing was launched beyond that.
func TestLeader_ReplacedOften(t *testing.T) {
	t.Parallel()
	const domains, wanted = 10, 8
	e := newEpum(t, named("a"), eventDriven, shortLease)
	e.process(named("b"), eventDriven)
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	for n := range domains {
		e.do("al", commands.AddDomain{DomainID: fmt.Sprint(n), DefinitionID: "d", Config: preserve(1)})
	}
	for n := range wanted {
		for d := range domains {
			e.do("al", commands.ReconfigureDomain{DomainID: fmt.Sprint(d), Config: preserve(n + 1)})
		}
		if n%2 == 1 {
			e.takeLeaseAway().release()
		}
	}
	eventually(t, "all are there", func() bool {
		return len(e.logOf(events.TypeLaunchRequested)) >= domains*wanted
	})
	eventually(t, "one more pass goes through", func() bool { // a term that just ends answers 503
		_, err := e.as("operator").RunPass(e.ctx(), "decide")
		return err == nil
	})
	if launches := len(e.logOf(events.TypeLaunchRequested)); launches != domains*wanted {
		t.Errorf("%d launches, want %d", launches, domains*wanted)
	}
	if elections := len(e.logOf(events.TypeLeaderElected)); elections < 4 {
		t.Errorf("only %d elections", elections)
	}
	last := uint64(0)
	for _, l := range e.log() {
		if l.typ() == events.TypeLeaderElected {
			last = l.seq
		} else if l.epoch() != 0 && l.epoch() != last {
			t.Errorf("%d %s of epoch %d in epoch %d", l.seq, l.typ(), l.epoch(), last)
		}
	}
}

// TestLeader_ManyInstances has a domain that takes several batches.
func TestLeader_ManyInstances(t *testing.T) {
	t.Parallel()
	const many = 2500
	e := newEpum(t)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(many)})
	if r := e.decide(); r.Launched != many || r.Changed != 3 {
		t.Errorf("%+v", r)
	}
	distinct := func(ids []string) int {
		set := map[string]bool{}
		for _, id := range ids {
			set[id] = true
		}
		return len(set)
	}
	if n := distinct(p.provisions(many)); n != many {
		t.Errorf("%d instances were asked for", n)
	}
	if r := e.decide(); r.Launched != 0 {
		t.Errorf("%+v", r)
	}
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(1)})
	if r := e.decide(); r.Terminated != many-1 {
		t.Errorf("%+v", r)
	}
	if n := distinct(p.terminations(many - 1)); n != many-1 {
		t.Errorf("%d instances were terminated", n)
	}
	if n := len(e.logOf(events.TypeLaunchRequested)); n != many {
		t.Errorf("%d launches in the log", n)
	}
}
