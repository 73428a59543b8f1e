package tests

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

const simplestEngine = "epu.decisionengine.impls.simplest.SimplestEngine"

// TestReference holds the tests of the reference's class EPUManagementBasicTests
// under their own names. What they dig for inside is driven over the wire, or
// in process where it has no handle there.
func TestReference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"test_engine_decide", testEngineDecide},
		{"test_domain_query", testDomainQuery},
		{"test_sensor_data", testSensorData},
		{"test_engine_reconfigure", testEngineReconfigure},
		{"test_basic_npreserving", testBasicNPreserving},
		{"test_basic_chef_domain", testBasicChefDomain},
		{"test_reconfigure_npreserving", testReconfigureNPreserving},
		{"test_decider_leader_disable", testDeciderLeaderDisable},
		{"test_instance_lookup", testInstanceLookup},
		{"test_decider_retries", testDeciderRetries},
		{"test_failing_engine_decide", testFailingEngineDecide},
		{"test_failing_engine_reconfigure", testFailingEngineReconfigure},
		{"test_remove_domain", testRemoveDomain},
		{"test_multiuser", testMultiuser},
		{"test_definitions", testDefinitions},
		{"test_config_validation", testConfigValidation},
		{"test_engine_config_doc", testEngineConfigDoc},
		{"test_reaper", testReaper},
		{"test_instance_update_conflict_1", func(t *testing.T) { testUpdateConflict(t, events.Pending, events.Started, 2) }},
		{"test_instance_update_conflict_2", func(t *testing.T) { testUpdateConflict(t, events.Started, events.Pending, 1) }},
	} {
		t.Run(test.name, func(t *testing.T) { t.Parallel(); test.run(t) })
	}
}

func testEngineDecide(t *testing.T) {
	m := &mock{}
	e := newEpum(t, withEngines(m.as("mock01", mockEngine01)))
	e.do("owner1",
		commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(mockEngine01)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(1)})
	e.decide()
	if diff := cmp.Diff(counts{Initialized: 1, Decided: 1}, m.counts("owner1", "testing123")); diff != "" {
		t.Fatal(diff)
	}
	if conf := m.conf("owner1", "testing123"); conf != `{"preserve_n":1}` {
		t.Fatalf("initialized with %s", conf)
	}
	e.decide()
	if diff := cmp.Diff(counts{Initialized: 1, Decided: 2}, m.counts("owner1", "testing123")); diff != "" {
		t.Fatal(diff)
	}
}

func testDomainQuery(t *testing.T) {
	e := newEpum(t, withEngines((&mock{}).as("mock01", mockEngine01)))
	list := func() []string {
		t.Helper()
		names, next, err := e.as("asterix").ListDomains(e.ctx(), "", 0)
		if err != nil || next != "" {
			t.Fatal(next, err)
		}
		return names
	}
	query := func(name, class string) int {
		t.Helper()
		doc := e.describe("asterix", name)
		want := map[string]string{
			"name": name, "general": `{"engine_class":"` + class + `"}`, "health": `{"monitor_health":false}`, "engine_conf": `{"preserve_n":1}`,
		}
		got := map[string]string{
			"name": doc.Name, "general": string(doc.Config.General), "health": string(doc.Config.Health), "engine_conf": string(doc.Config.EngineConf),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		return len(doc.Instances)
	}
	if diff := cmp.Diff([]string{}, list()); diff != "" {
		t.Fatal(diff)
	}
	e.do("asterix",
		commands.AddDefinition{DefinitionID: "onedomaindef", Definition: ofEngine(mockEngine01)},
		commands.AddDomain{DomainID: "onedomain", DefinitionID: "onedomaindef", Config: preserve(1)})
	if diff := cmp.Diff([]string{"onedomain"}, list()); diff != "" {
		t.Fatal(diff)
	}
	if n := query("onedomain", mockEngine01); n != 0 {
		t.Fatalf("%d instances before any decision", n)
	}
	e.do("asterix",
		commands.AddDefinition{DefinitionID: "twodomaindef", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "twodomain", DefinitionID: "twodomaindef", Config: preserve(1)})
	if diff := cmp.Diff([]string{"onedomain", "twodomain"}, list()); diff != "" {
		t.Fatal(diff)
	}
	e.decide()
	if n := query("twodomain", simplestEngine); n != 1 {
		t.Fatalf("%d instances after the decision, want 1", n)
	}
	i := e.describe("asterix", "twodomain").Instances[0]
	if i.InstanceID == "" || i.State != events.Requesting {
		t.Fatalf("instance %+v", i)
	}
}

func testEngineReconfigure(t *testing.T) {
	m := &mock{}
	e := newEpum(t, withEngines(m.as("mock01", mockEngine01)))
	e.do("emily",
		commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(mockEngine01)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(1)},
		commands.AddDomain{DomainID: "testing789", DefinitionID: "def123", Config: preserve(1)})
	check := func(first, second counts) {
		t.Helper()
		got := []counts{m.counts("emily", "testing123"), m.counts("emily", "testing789")}
		if diff := cmp.Diff([]counts{first, second}, got); diff != "" {
			t.Fatal(diff)
		}
	}
	e.decide()
	check(counts{1, 1, 0}, counts{1, 1, 0})
	e.do("emily", commands.ReconfigureDomain{DomainID: "testing123", Config: preserve(2)})
	check(counts{1, 1, 0}, counts{1, 1, 0})
	e.decide()
	check(counts{1, 2, 1}, counts{1, 2, 0})
	e.decide()
	check(counts{1, 3, 1}, counts{1, 3, 0})
}

func testBasicNPreserving(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "definition1"},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "definition1", Config: preserve(2)})
	e.decide()
	p.provisions(2)
}

func testBasicChefDomain(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	config := preserve(2)
	config.General = section(map[string]any{"chef_credential": "chef1"})
	e.do("owner1", commands.AddDefinition{DefinitionID: "definition1"},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "definition1", Config: config})
	e.decide()
	p.provisions(2)
	launches, _, _ := p.heard()
	for _, l := range launches {
		if got := string(l.Vars["chef_credential"]); got != `"chef1"` {
			t.Errorf("launch %s has chef_credential %s", l.LaunchID, got)
		}
	}
}

func testReconfigureNPreserving(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("opwner1", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(2)})
	for _, step := range []struct{ wanted, provisions, terminations int }{{2, 2, 0}, {4, 4, 0}, {0, 4, 4}} {
		if step.wanted != 2 {
			e.do("opwner1", commands.ReconfigureDomain{DomainID: "testing123", Config: preserve(step.wanted)})
		}
		e.decide()
		p.provisions(step.provisions)
		p.terminations(step.terminations)
	}
}

func testDeciderLeaderDisable(t *testing.T) {
	e := newEpum(t, shortLease)
	p := e.provisioner()
	e.do("opwner1", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(2)})
	e.decide()
	p.provisions(2)
	e.do("opwner1", commands.ReconfigureDomain{DomainID: "testing123", Config: preserve(1)})
	e.decide()
	p.provisions(2)
	p.terminations(1)

	other := e.takeLeaseAway()
	e.noLeader()
	e.do("opwner1", commands.ReconfigureDomain{DomainID: "testing123", Config: preserve(4)})
	ctx, cancel := context.WithTimeout(e.ctx(), time.Second)
	defer cancel()
	if result, err := e.as("operator").RunPass(ctx, "decide"); err == nil {
		t.Fatalf("a pass ran with no leader: %+v", result)
	}
	p.provisions(2)
	p.terminations(1)

	other.release()
	e.decide()
	// A new term asks again for what is open, with the same ids; the reference
	// goes on as if nothing had been.
	launches, terminated, _ := p.heard()
	ids := map[string]bool{}
	for _, l := range launches {
		ids[l.InstanceIDs[0]] = true
	}
	slices.Sort(terminated)
	if len(ids) != 5 || len(slices.Compact(terminated)) != 1 {
		t.Fatalf("%d instances asked for and %q terminated, want 5 and one", len(ids), terminated)
	}
}

func testInstanceLookup(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "definition1", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "domain1", DefinitionID: "definition1", Config: preserve(1)})
	e.decide()
	first := p.provisions(1)[0]
	e.do("owner1", commands.AddDomain{DomainID: "domain2", DefinitionID: "definition1", Config: preserve(1)})
	e.decide()
	second := p.provisions(2)[1]
	// A report names the instance alone; it has to find its domain.
	e.reportState("owner1", "domain1", first, events.Started)
	e.reportState("owner1", "domain2", second, events.Running)
	for _, want := range []struct {
		domain, id string
		state      events.InstanceState
	}{{"domain1", first, events.Started}, {"domain2", second, events.Running}} {
		doc := e.describe("owner1", want.domain)
		if len(doc.Instances) != 1 || doc.Instances[0].InstanceID != want.id || doc.Instances[0].State != want.state {
			t.Errorf("%s: %+v", want.domain, doc.Instances)
		}
	}
}

func testDeciderRetries(t *testing.T) {
	e := newEpum(t, retryEvery(1500*time.Millisecond))
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "definition1", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "domain1", DefinitionID: "definition1", Config: preserve(2)})
	e.decide()
	ids := p.provisions(2)
	e.decide()
	p.provisions(2) // no retry at once
	e.reportState("owner1", "domain1", ids[0], events.Requested)
	eventually(t, "a launch is asked for again", func() bool {
		e.decide()
		launches, _, _ := p.heard()
		return len(launches) > 2
	})
	if again := p.provisions(3); again[2] != ids[1] {
		t.Fatalf("asked again for %s, want %s", again[2], ids[1])
	}

	e.do("owner1", commands.ReconfigureDomain{DomainID: "domain1", Config: preserve(0)})
	e.decide()
	ended := p.terminations(2)
	e.decide()
	p.terminations(2)
	e.reportState("owner1", "domain1", ended[0], events.Terminated)
	eventually(t, "a termination is asked for again", func() bool {
		e.decide()
		_, terminated, _ := p.heard()
		return len(terminated) > 2
	})
	if again := p.terminations(3); again[2] != ended[1] {
		t.Fatalf("asked again to terminate %s, want %s", again[2], ended[1])
	}
	p.provisions(3)
}

func testFailingEngineDecide(t *testing.T) {
	m := failing()
	e := newEpum(t, withEngines(m.as("mock02", mockEngine02)))
	e.do("joeowner", commands.AddDefinition{DefinitionID: "fail_definition", Definition: ofEngine(mockEngine02)},
		commands.AddDomain{DomainID: "fail_domain", DefinitionID: "fail_definition", Config: preserve(1)})
	if result := e.decide(); result.Errors != 1 {
		t.Fatalf("pass %+v, want one error", result)
	}
	if c := m.counts("joeowner", "fail_domain"); c.Decided != 1 {
		t.Fatalf("%+v", c)
	}
}

func testFailingEngineReconfigure(t *testing.T) {
	m := failing()
	e := newEpum(t, withEngines(m.as("mock02", mockEngine02)))
	e.do("owner", commands.AddDefinition{DefinitionID: "fail_definition", Definition: ofEngine(mockEngine02)},
		commands.AddDomain{DomainID: "fail_domain", DefinitionID: "fail_definition", Config: preserve(1)})
	e.decide()
	if diff := cmp.Diff(counts{1, 1, 0}, m.counts("owner", "fail_domain")); diff != "" {
		t.Fatal(diff)
	}
	e.do("owner", commands.ReconfigureDomain{DomainID: "fail_domain", Config: preserve(2)})
	e.decide()
	if diff := cmp.Diff(counts{1, 2, 1}, m.counts("owner", "fail_domain")); diff != "" {
		t.Fatal(diff)
	}
}

func testRemoveDomain(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "def123", Definition: ofEngine(simplestEngine)},
		commands.AddDomain{DomainID: "testing123", DefinitionID: "def123", Config: preserve(2)})
	e.decide()
	launched := p.provisions(2)
	e.do("owner1", commands.RemoveDomain{DomainID: "testing123"})
	e.decide()
	ended := p.terminations(2)
	slices.Sort(launched)
	slices.Sort(ended)
	if diff := cmp.Diff(launched, ended); diff != "" {
		t.Fatal(diff)
	}
}
