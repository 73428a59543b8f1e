package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestBackOff fails launches before they ran: they are tried again after 1, 2
// and 4 s. One that ran and failed is replaced at once, and starts it anew.
func TestBackOff(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)},
		commands.AddDomain{DomainID: "fine", DefinitionID: "d", Config: preserve(1)})
	web := events.DomainID{Owner: "al", Name: "web"}
	latest := func(launches int) string {
		t.Helper()
		var ids []string
		eventually(t, "the next launch", func() bool {
			ids = nil
			all, _, _ := p.heard()
			for _, l := range all {
				if id := l.InstanceIDs[0]; !strings.Contains(strings.Join(ids, " "), id) {
					if _, ok := e.instance("al", "web", id); ok {
						ids = append(ids, id)
					}
				}
			}
			return len(ids) >= launches
		})
		return ids[launches-1]
	}
	wants := []struct {
		before  time.Duration // from the failure before this launch to it
		attempt int
		fails   events.InstanceState
		ran     bool
	}{
		{0, 0, events.Failed, false},
		{1 * time.Second, 1, events.Rejected, false},
		{2 * time.Second, 2, events.Failed, false},
		{4 * time.Second, 3, events.Failed, true},
		{0, 0, events.Failed, false},
		{1 * time.Second, 1, "", true},
	}
	for n, w := range wants {
		id := latest(n + 1)
		if w.ran {
			e.reportState("al", "web", id, events.Running)
		}
		if w.fails != "" {
			e.reportState("al", "web", id, w.fails)
		}
	}
	var failed time.Time
	n := 0
	for _, l := range e.log() {
		if domain, _, _ := l.key.Parts(); domain != web {
			continue
		}
		if ev, ok := l.decode().(events.StateChanged); ok && ev.State >= events.Failed {
			failed = l.time
		}
		ev, ok := l.decode().(events.LaunchRequested)
		if !ok {
			continue
		}
		w := wants[n]
		if ev.Attempt != w.attempt {
			t.Errorf("launch %d is attempt %d, want %d", n, ev.Attempt, w.attempt)
		}
		if n > 0 {
			waited := l.time.Sub(failed)
			t.Logf("launch %d came %s after the failure", n, waited)
			if waited < w.before || waited > w.before+time.Second {
				t.Errorf("launch %d came %s after the failure, want %s", n, waited, w.before)
			}
		}
		n++
	}
	if n != len(wants) {
		t.Errorf("%d launches, want %d", n, len(wants))
	}
	held := 0
	for _, l := range e.logOf(events.TypeDecisionMade) {
		if d, _ := l.decode().(events.DecisionMade); strings.Contains(d.Reason, "wait for attempt") {
			held++
		}
	}
	if held == 0 {
		t.Error("no decision says that it waits")
	}
	if fine := e.describe("al", "fine"); len(fine.Instances) != 1 {
		t.Errorf("the other domain: %+v", fine.Instances)
	}
}

// TestRemoval_EventDriven removes a domain with instances: it drains, vanishes
// once they are gone, and its name may be used again.
func TestRemoval_EventDriven(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven)
	p := e.provisioner()
	add := commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3)}
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, add)
	web := events.DomainID{Owner: "al", Name: "web"}
	for life := 1; life <= 3; life++ {
		ids := p.provisions(3 * life)[3*(life-1):]
		e.reportState("al", "web", ids[0], events.Running)
		e.reportState("al", "web", ids[1], events.Failed)
		e.do("al", commands.RemoveDomain{DomainID: "web"})
		for _, id := range p.terminations(2 * life)[2*(life-1):] {
			e.reportStateOrGone("al", "web", id, events.Terminated)
		}
		eventually(t, "the domain vanishes", func() bool {
			return e.ask("al", "describe_domain", `{"domain_id":"web"}`).code == 404
		})
		e.projected()
		e.bucketIsFold()
		docs := e.documents()
		if _, ok := docs[web.DecisionKey()]; !ok || len(docs) != 3 { // definition, leader, decision
			t.Errorf("life %d leaves %v", life, docs)
		}
		e.do("al", add)
	}
	p.provisions(12)
	if n := len(e.logOf(events.TypeReaped)); n != 9 {
		t.Errorf("%d records reaped, want 9", n)
	}
	if doc := e.describe("al", "web"); doc.Removed || len(doc.Instances) != 3 {
		t.Errorf("%+v", doc)
	}
}
