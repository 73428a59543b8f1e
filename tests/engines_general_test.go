package tests

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestEngines_TerminationPolicy has two of five go, by each policy.
func TestEngines_TerminationPolicy(t *testing.T) {
	t.Parallel()
	const silent, starting = 1, 2 // all others run
	for policy, want := range map[string][]int{"": {2, 4}, "newest": {3, 4}, "oldest": {0, 1}, "unhealthy-first": {silent, starting}} {
		t.Run("policy "+policy, func(t *testing.T) {
			t.Parallel()
			e := newEpum(t)
			p := e.provisioner()
			config := monitored(5, `{"monitor_health":true,"boot_timeout":600,"missing_timeout":0.2,"really_missing_timeout":600}`)
			if policy != "" {
				config.General = section(map[string]any{"termination_policy": policy})
			}
			e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: config})
			e.decide()
			var ids, victims []string
			for n, i := range e.live("al", "web") {
				ids = append(ids, i.InstanceID)
				if n != starting {
					e.reportState("al", "web", i.InstanceID, events.Running)
				}
			}
			e.heartbeat(ids[silent], events.HealthOK, "")
			e.healthOf(ids[silent], events.HealthOK)
			e.becomesIn(ids[silent], events.HealthOutOfContact)
			e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(3)})
			if r := e.decide(); r.Terminated != 2 || r.Launched != 0 {
				t.Errorf("%+v", r)
			}
			for _, n := range want {
				victims = append(victims, ids[n])
			}
			got := p.terminations(2)
			slices.Sort(got)
			if diff := cmp.Diff(victims, got); diff != "" {
				t.Error(diff)
			}
			e.reproduces("al", "web")
		})
	}
}

// TestEngines_DryRun: what would be done is on record, and nothing is done.
func TestEngines_DryRun(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	dry := func(is bool, n int) events.Config {
		c := preserve(n)
		c.General = section(map[string]any{"dry_run": is})
		return c
	}
	tried := func() (launches, terminations int) {
		t.Helper()
		d := e.lastDecision("al", "web")
		var saw struct {
			DryRun struct {
				Launches     []any `json:"launches"`
				Terminations []any `json:"terminations"`
			} `json:"dry_run"`
		}
		if err := json.Unmarshal(d.Saw, &saw); err != nil {
			t.Fatal(err)
		}
		if !contains(d.Reason, "dry run") || len(d.Launches)+len(d.Terminations) > 0 {
			t.Errorf("%+v", d)
		}
		return len(saw.DryRun.Launches), len(saw.DryRun.Terminations)
	}
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: dry(true, 2)})
	for range 3 {
		if r := e.decide(); r.Launched != 0 {
			t.Errorf("%+v", r)
		}
	}
	if l, n := tried(); l != 2 || n != 0 {
		t.Errorf("%d launches and %d terminations are on record", l, n)
	}
	if n := len(e.decisions("al", "web")); n != 1 {
		t.Errorf("%d records of the same", n)
	}
	p.provisions(0)
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: dry(false, 2)})
	e.comesTo("al", "web", 2)
	p.provisions(2)
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: dry(true, 1)})
	dead := e.dead("al", "web")
	e.decide()
	if l, n := tried(); l != 0 || n != 1 {
		t.Errorf("%d launches and %d terminations are on record", l, n)
	}
	if i, _ := e.instance("al", "web", dead); i.State != events.RunningFailed {
		t.Errorf("the dead one is %s", i.State)
	}
	p.provisions(2)
	p.terminations(0)
	// Whoever removes a domain means it.
	e.do("al", commands.RemoveDomain{DomainID: "web"})
	if r := e.decide(); r.Terminated != 2 {
		t.Errorf("%+v", r)
	}
	p.terminations(2)
	e.reproduces("al", "web")
}
