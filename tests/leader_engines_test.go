package tests

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// TestEngines_Isolation has engines that fail in every way; each hurts its own
// domain alone.
func TestEngines_Isolation(t *testing.T) {
	t.Parallel()
	slow := newHeld(1)
	panics := &mock{decide: func(*engines.View) (engines.Decision, error) { panic("as it is told") }}
	stranger := &mock{decide: func(*engines.View) (engines.Decision, error) {
		return engines.Decision{Reason: "r", State: events.EngineStable, Terminations: []string{"of-another-domain"}}, nil
	}}
	hoards := &mock{decide: func(*engines.View) (engines.Decision, error) {
		return engines.Decision{Reason: "r", Memory: section(map[string]any{"m": string(make([]byte, events.MaxMemoryBytes))})}, nil
	}}
	failing := failing()
	e := newEpum(t, withEngines(slow.as("slow", ""), panics.as("panics", ""), failing.as("fails", ""), stranger.as("stranger", ""), hoards.as("hoards", "")))
	p := e.provisioner()
	bad := []string{"slow", "panics", "fails", "stranger", "hoards"}
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	for n := range 10 {
		e.do("al", commands.AddDomain{DomainID: fmt.Sprintf("fine%d", n), DefinitionID: "d", Config: preserve(1)})
	}
	for _, name := range bad {
		e.do("al", commands.AddDefinition{DefinitionID: name, Definition: ofEngine(name)}, commands.AddDomain{DomainID: name, DefinitionID: name})
	}
	began := time.Now()
	r := e.decide()
	t.Logf("%+v in %s", r, time.Since(began))
	if r.Errors != len(bad) || r.Launched != 10 || time.Since(began) > 4*time.Second {
		t.Errorf("%+v in %s", r, time.Since(began))
	}
	p.provisions(10)
	e.do("al", commands.AddDomain{DomainID: "late", DefinitionID: "d", Config: preserve(1)})
	began = time.Now()
	if r := e.decide(); r.Errors != len(bad) || r.Launched != 1 || time.Since(began) > time.Second {
		t.Errorf("%+v in %s: a slow engine is waited for again", r, time.Since(began))
	}
	for name, m := range map[string]*mock{"slow": &slow.mock, "panics": panics, "fails": failing} {
		want := map[bool]int{true: 1, false: 2}[name == "slow"]
		if got := m.counts("al", name).Decided; got != want {
			t.Errorf("%s was called %d times, want %d", name, got, want)
		}
	}
	p.provisions(11) // nothing of what the slow one will say
	close(slow.release)
	eventually(t, "the slow engine's domain is decided on", func() bool { return e.decide().Launched == 1 })
	p.provisions(12)
	if n := len(e.logOf(events.TypeLeaderElected)); n != 1 {
		t.Errorf("%d elections", n)
	}
}

// TestEngines_ManyHang has more hanging engines than a lease lives: the leader
// goes on all the same.
func TestEngines_ManyHang(t *testing.T) {
	t.Parallel()
	const hanging = 5 // each costs the pass a second; the lease is one second
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	m := &mock{decide: func(*engines.View) (engines.Decision, error) { <-release; return engines.Decision{}, errMock }}
	e := newEpum(t, shortLease, withEngines(m.as("hangs", "")))
	e.do("al", commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("hangs")}, commands.AddDefinition{DefinitionID: "f"})
	for n := range hanging {
		e.do("al", commands.AddDomain{DomainID: fmt.Sprint(n), DefinitionID: "d"})
	}
	e.do("al", commands.AddDomain{DomainID: "fine", DefinitionID: "f", Config: preserve(1)})
	result, err := e.as("operator").RunPass(e.ctx(), "decide")
	if err != nil {
		t.Errorf("pass: %v", err)
	} else if result.Errors != hanging || result.Launched != 1 {
		t.Errorf("%+v", result)
	}
	if n := len(e.logOf(events.TypeLeaderElected)); n != 1 {
		t.Errorf("%d elections: hanging engines cost the leader its lease", n)
	}
}

// TestEngines_RefusedReconfigure has a config that passes validation and that
// the engine then refuses: recorded once, and the old one stays in force.
func TestEngines_RefusedReconfigure(t *testing.T) {
	t.Parallel()
	m := &mock{reconfigure: func(conf json.RawMessage) error {
		if contains(string(conf), "bad") {
			return errMock
		}
		return nil
	}}
	e := newEpum(t, withEngines(m.as("picky", "")))
	e.do("al", commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("picky")}, commands.AddDomain{DomainID: "web", DefinitionID: "d"})
	e.decide()
	good := e.describe("al", "web").Seq
	bad := e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{EngineConf: []byte(`{"mode":"bad"}`)}})
	for range 3 {
		if r := e.decide(); r.Errors != 0 {
			t.Errorf("%+v", r)
		}
	}
	last := func(want int) events.DecisionMade {
		t.Helper()
		made := e.logOf(events.TypeDecisionMade)
		if len(made) != want {
			t.Fatalf("%d decisions are recorded, want %d", len(made), want)
		}
		d, _ := made[want-1].decode().(events.DecisionMade)
		return d
	}
	if d := last(2); d.RefusedSeq != bad || d.ConfigSeq != good || !contains(d.Reason, "refused") {
		t.Errorf("%+v", d)
	}
	if c := m.counts("al", "web"); c.Reconfigured != 1 || c.Decided != 4 {
		t.Errorf("%+v", c)
	}
	taken := e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{EngineConf: []byte(`{"mode":"fine"}`)}})
	e.decide()
	e.decide()
	if d := last(3); d.RefusedSeq != 0 || d.ConfigSeq != taken || contains(d.Reason, "refused") {
		t.Errorf("%+v", d)
	}
	e.reproduces("al", "web", m.as("picky", ""))
}

// TestEngines_ChangeAfterRefusal changes the engine after the one before has
// refused its config: nothing is refused any more.
func TestEngines_ChangeAfterRefusal(t *testing.T) {
	t.Parallel()
	first, second := failing(), &mock{}
	first.decide = nil
	e := newEpum(t, withEngines(first.as("first", ""), second.as("second", "")))
	e.do("al", commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("first")}, commands.AddDomain{DomainID: "web", DefinitionID: "d"})
	e.decide()
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{EngineConf: []byte(`{"a":1}`)}})
	e.decide()
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{General: []byte(`{"engine_class":"second"}`)}})
	e.decide()
	made := e.logOf(events.TypeDecisionMade)
	d, _ := made[len(made)-1].decode().(events.DecisionMade)
	if d.RefusedSeq != 0 || contains(d.Reason, "refused") {
		t.Errorf("%+v", d)
	}
	if second.counts("al", "web").Decided != 1 {
		t.Errorf("the second engine was not asked: %+v", second.counts("al", "web"))
	}
	e.reproduces("al", "web", first.as("first", ""), second.as("second", ""))
}

// TestEngines_RefusedChange changes to an engine that refuses to start with the
// config: the old engine goes on with the old one.
func TestEngines_RefusedChange(t *testing.T) {
	t.Parallel()
	refuses := &mock{initialize: func(json.RawMessage) error { return errMock }}
	e := newEpum(t, withEngines(refuses.as("refuses", "")))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	e.decide()
	id := p.provisions(1)[0]
	bad := e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{General: []byte(`{"engine_class":"refuses"}`)}})
	e.decide()
	e.reportState("al", "web", id, events.Running)
	e.reportState("al", "web", id, events.Failed)
	if r := e.decide(); r.Launched != 1 || r.Errors != 0 {
		t.Errorf("%+v, want the old engine to go on", r)
	}
	refusals := 0
	for _, l := range e.logOf(events.TypeDecisionMade) {
		if d, _ := l.decode().(events.DecisionMade); d.RefusedSeq == bad {
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("the refusal is not recorded")
	}
	e.reproduces("al", "web", refuses.as("refuses", ""))
}
