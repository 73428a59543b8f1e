package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestHealth_MassKill: when all of a domain is unhealthy, half of it at most is
// replaced at a time, the rest waits, and the record says so.
func TestHealth_MassKill(t *testing.T) {
	t.Parallel()
	e, p, ids := newRunning(t, 6, `{"monitor_health":true}`, eventDriven)
	for _, id := range ids {
		e.heartbeat(id, events.HealthMonitorError, `,"error":"the monitor's own fault"`)
	}
	launched := p.provisions(9)
	stays(t, "no more are replaced", 300*time.Millisecond, func() bool { return len(p.launches) == 9 })
	document := e.describe("al", "web")
	if n := document.InstanceCounts[events.Terminating]; n != 3 {
		t.Errorf("%d instances terminate, want half of 6", n)
	}
	decision := e.fold().Decision(events.DomainID{Owner: "al", Name: "web"})
	if !strings.Contains(decision.Reason, "3 unhealthy wait") || !strings.Contains(decision.Reason, "max_unhealthy_fraction 0.5") {
		t.Errorf("the reason is %q", decision.Reason)
	}
	// Each replacement that runs lets the next one go.
	e.reportState("al", "web", launched[6], events.Running)
	p.provisions(10)
	// A replacement that fails keeps its place; its next try is in a back-off.
	e.reportState("al", "web", launched[7], events.Failed)
	stays(t, "a failure lets none go", 500*time.Millisecond, func() bool {
		_, terminated, _ := p.heard()
		slices.Sort(terminated)
		return len(slices.Compact(terminated)) == 4
	})
	replaces := map[string]int{}
	for _, l := range e.logOf(events.TypeLaunchRequested) {
		ev, _ := l.decode().(events.LaunchRequested)
		if ev.Replaces != "" && ev.Attempt == 0 { // else it is tried again
			replaces[ev.Replaces]++
		}
	}
	if len(replaces) != 4 {
		t.Errorf("replaced are %v", replaces)
	}
	for id, n := range replaces {
		if n != 1 || !slices.Contains(ids, id) {
			t.Errorf("%s is replaced %d times", id, n)
		}
	}
}

// TestHealth_MassKillInBackOff: when all of a domain is unhealthy and no launch comes
// through, what may not be replaced yet stays, and the record says so.
func TestHealth_MassKillInBackOff(t *testing.T) {
	t.Parallel()
	e, p, ids := newRunning(t, 10, `{"monitor_health":true}`, eventDriven)
	for _, id := range ids {
		e.heartbeat(id, events.HealthMonitorError, "")
	}
	failed := map[string]bool{}
	eventually(t, "the launches are tried again twice", func() bool {
		launches, _, _ := p.heard()
		for _, l := range launches {
			if id := l.InstanceIDs[0]; !slices.Contains(ids, id) && !failed[id] {
				failed[id] = true
				e.report(id, map[string]any{"state": events.Failed})
			}
		}
		return len(failed) >= 3*5
	})
	if n := len(e.logOf(events.TypeTerminateRequested)); n != 5 {
		t.Errorf("%d of 10 were terminated though no replacement ever ran, want half", n)
	}
	decision := e.fold().Decision(events.DomainID{Owner: "al", Name: "web"})
	if !strings.Contains(decision.Reason, "5 unhealthy wait, since at most 5 of 10") {
		t.Errorf("the reason is %q", decision.Reason)
	}
}

// TestHealth_MassKillOfMany: a domain that takes more actions than a record holds is
// no different.
func TestHealth_MassKillOfMany(t *testing.T) {
	t.Parallel()
	const n = 1200
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: monitored(n, `{"monitor_health":true}`)})
	e.decide()
	web := events.DomainID{Owner: "al", Name: "web"}
	wait := func(what string, holds func(*events.Instance) bool) []string {
		var ids []string
		eventually(t, what, func() bool {
			ids = nil
			for _, i := range e.fold().Instances(web) {
				if holds(i) {
					ids = append(ids, i.ID)
				}
			}
			return len(ids) == n
		})
		return ids
	}
	ids := wait("all are launched", (*events.Instance).Valid)
	for _, id := range ids {
		e.report(id, map[string]any{"state": events.Running})
	}
	wait("all run", func(i *events.Instance) bool { return i.State == events.Running })
	for _, id := range ids {
		e.heartbeat(id, events.HealthMonitorError, "")
	}
	wait("all are ill", (*events.Instance).Unhealthy)
	if r := e.decide(); r.Terminated != n/2 || r.Launched != n/2 {
		t.Errorf("%d terminated, %d launched, want half of %d", r.Terminated, r.Launched, n)
	}
	if r := e.decide(); r.Terminated != 0 || r.Launched != 0 {
		t.Errorf("%d terminated, %d launched, want none before a replacement runs", r.Terminated, r.Launched)
	}
}

// TestHealth_RunningFailed: what the provisioner itself says has failed is terminated
// and replaced at once, however much of the domain it is.
func TestHealth_RunningFailed(t *testing.T) {
	t.Parallel()
	e, _, ids := newRunning(t, 4, `{"monitor_health":true}`)
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{General: json.RawMessage(`{"max_unhealthy_fraction":0}`)}})
	e.heartbeat(ids[0], events.HealthProcessError, "")
	e.healthOf(ids[0], events.HealthProcessError)
	for _, id := range ids[1:] {
		e.reportState("al", "web", id, events.RunningFailed)
	}
	if r := e.decide(); r.Terminated != 4 || r.Launched != 4 {
		t.Errorf("%+v, want the three that failed and one that is ill", r)
	}
}

// TestHealth_Shrink: what is unhealthy and not wanted any more is terminated though
// no launch comes with it, also in a back-off.
func TestHealth_Shrink(t *testing.T) {
	t.Parallel()
	e, _, ids := newRunning(t, 4, `{"monitor_health":true}`)
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(5)})
	e.decide()
	for _, i := range e.describe("al", "web").Instances {
		if !slices.Contains(ids, i.InstanceID) {
			e.reportState("al", "web", i.InstanceID, events.Failed)
		}
	}
	for _, id := range ids {
		e.heartbeat(id, events.HealthMonitorError, "")
		e.healthOf(id, events.HealthMonitorError)
	}
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(0)})
	if r := e.decide(); r.Terminated != 4 || r.Launched != 0 {
		t.Errorf("%+v, want all terminated", r)
	}
}

// TestHealth_NoHotLoop: where every replacement is as ill as what it replaces, they
// come ever more slowly.
func TestHealth_NoHotLoop(t *testing.T) {
	t.Parallel()
	e, p, ids := newRunning(t, 1, `{"monitor_health":true}`, eventDriven)
	e.heartbeat(ids[0], events.HealthProcessError, "")
	for n := 2; n <= 4; n++ {
		launched := p.provisions(n)
		e.reportState("al", "web", launched[n-1], events.Running)
		e.heartbeat(launched[n-1], events.HealthProcessError, "")
	}
	p.provisions(5)
	var at []time.Time
	for _, l := range e.logOf(events.TypeLaunchRequested) {
		at = append(at, l.time)
	}
	if third, fourth := at[3].Sub(at[2]), at[4].Sub(at[3]); third < time.Second || fourth < 2*time.Second {
		t.Errorf("replaced again after %s and %s, want at least 1 s and 2 s", third, fourth)
	}
}

// TestHealth_FractionRefused: a fraction that is none names its field.
func TestHealth_FractionRefused(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	for _, general := range []string{`{"max_unhealthy_fraction":1.1}`, `{"max_unhealthy_fraction":-0.1}`, `{"max_unhealthy_fraction":"half"}`} {
		e.wants(400, "definition.general.max_unhealthy_fraction", "al", "add_domain_definition",
			fmt.Sprintf(`{"definition_id":"d","definition":{"general":%s}}`, general))
	}
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{"general":{"max_unhealthy_fraction":0.25}}}`)
}
