package tests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

func (e *epum) explain(owner, domain string) *explain.Explanation {
	e.t.Helper()
	told, err := e.as(owner).ExplainDomain(e.ctx(), domain, projections.Point{})
	if err != nil {
		e.t.Fatal(err)
	}
	return told
}

// says checks what an explanation says of now.
func (e *epum) says(owner, domain string, acting bool, parts ...string) {
	e.t.Helper()
	told := e.explain(owner, domain)
	for _, part := range parts {
		if !strings.Contains(told.Now, part) {
			e.t.Errorf("%s: it does not say %q: %s", domain, part, told.Now)
		}
	}
	if told.Acting != acting {
		e.t.Errorf("%s: acting is %v: %s", domain, told.Acting, told.Now)
	}
}

// TestExplain_Instance: the chain of an instance's life, from the command to its end,
// also once its record is gone.
func TestExplain_Instance(t *testing.T) {
	t.Parallel()
	e := newEpum(t, func(c *service.Config) { c.RecordReapingMaxAge = 0 })
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	added := e.do("al", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: monitored(1, `{"monitor_health":true}`)})
	e.decide()
	id := p.provisions(1)[0]
	e.reportState("al", "web", id, events.Pending)
	e.reportState("al", "web", id, events.Running)
	e.heartbeat(id, events.HealthProcessError, `,"error":"no more threads"`)
	e.healthOf(id, events.HealthProcessError)
	e.decide()
	second := p.provisions(2)[1]
	reconfigured := e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(0)})
	e.decide()
	e.reportState("al", "web", id, events.Terminated)
	eventually(t, "its record is gone", func() bool {
		e.pass("reap")
		_, there := e.instance("al", "web", id)
		return !there
	})
	told, err := e.as("al").ExplainInstance(e.ctx(), id, projections.Point{})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	seq := map[uint64]explain.Step{}
	for _, s := range told.Steps {
		kinds = append(kinds, s.Kind)
		seq[s.Seq] = s
	}
	want := []string{"command", "decision", "launch", "report", "report", "health", "decision", "termination", "report", "reaped"}
	if !slices.Equal(kinds, want) {
		t.Fatalf("steps %v, want %v", kinds, want)
	}
	s := told.Steps
	for n, follows := range map[int]uint64{1: s[0].Seq, 2: s[1].Seq, 3: s[2].Seq, 4: s[3].Seq, 5: s[4].Seq, 6: s[5].Seq, 7: s[6].Seq, 8: s[7].Seq, 9: s[8].Seq} {
		if s[n].Follows != follows || s[n].After < 0 {
			t.Errorf("step %d (%s) follows %d, want %d; after %g s", n, s[n].Kind, s[n].Follows, follows, s[n].After)
		}
		if after := s[n].Time.Sub(seq[follows].Time).Seconds(); after-s[n].After > 1e-6 || s[n].After-after > 1e-6 {
			t.Errorf("step %d comes after %g s, not %g", n, after, s[n].After)
		}
	}
	if s[0].Seq != added || s[0].Who != "al" || s[0].CommandID == "" || !strings.Contains(s[0].What, "engine_conf.preserve_n=1") {
		t.Errorf("the command: %+v", s[0])
	}
	if !strings.Contains(s[1].Why, "launch 1") || !strings.Contains(string(s[1].Saw), `"target":1`) || !strings.HasPrefix(s[1].Who, "leader/") {
		t.Errorf("the decision: %+v", s[1])
	}
	if s[5].What != "PROCESS_ERROR" || !strings.Contains(s[5].Why, "no more threads") {
		t.Errorf("the health: %+v", s[5])
	}
	if told.Acting || !strings.Contains(told.Now, "its record is gone") || told.DomainID != "web" {
		t.Errorf("now: %+v", told)
	}
	// The other one was launched in its place, and not wanted in the end.
	other, err := e.as("al").ExplainInstance(e.ctx(), second, projections.Point{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(other.Steps, func(s explain.Step) bool { return s.Kind == "launch" })
	if at < 0 || !strings.Contains(other.Steps[at].Why, "in place of "+id) {
		t.Errorf("the launch: %+v", other.Steps)
	}
	if !slices.ContainsFunc(other.Steps, func(s explain.Step) bool { return s.Kind == "command" && s.Seq == reconfigured }) {
		t.Errorf("the command that ended it is missing: %+v", other.Steps)
	}
	if !other.Acting || !strings.Contains(other.Now, "700-TERMINATING") {
		t.Errorf("now: %s", other.Now)
	}
	// As of before its end it says what was then.
	then, err := e.as("al").ExplainInstance(e.ctx(), id, projections.Point{Seq: s[4].Seq})
	if err != nil || len(then.Steps) != 5 || !strings.Contains(then.Now, "600-RUNNING") {
		t.Errorf("then: %+v, %v", then, err)
	}
	if _, err := e.as("bo").ExplainInstance(e.ctx(), id, projections.Point{}); !isNotFound(err) {
		t.Errorf("another caller: %v", err)
	}
}

// TestExplain_Domain: each reason for which a domain does nothing, or what it does.
func TestExplain_Domain(t *testing.T) {
	t.Parallel()
	fails := failing()
	e := newEpum(t, shortLease, withEngines(fails.as("fails", "")))
	p := e.provisioner()
	sensing := func(more map[string]any) events.Config {
		keys := map[string]any{
			"minimum_vms": 1, "maximum_vms": 3, "metric": "load", "sensor_type": "nats", "monitor_domain_sensors": []string{"load"},
			"scale_up_threshold": 5,
		}
		maps.Copy(keys, more)
		return engineConf("sensor", keys)
	}
	dry := preserve(2)
	dry.General = []byte(`{"dry_run":true}`)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDefinition{DefinitionID: "f", Definition: ofEngine("fails")})
	for name, config := range map[string]events.Config{
		"met": preserve(1), "none": preserve(0), "launching": preserve(2), "backoff": preserve(1), "dry": dry, "drains": preserve(1),
		"ill": monitored(4, `{"monitor_health":true}`), "unmeasured": sensing(nil), "cooldown": sensing(map[string]any{"cooldown_period": 3600}),
	} {
		e.do("al", commands.AddDomain{DomainID: name, DefinitionID: "d", Config: config})
	}
	e.do("al", commands.AddDomain{DomainID: "broken", DefinitionID: "f"})
	e.decide()
	p.provisions(11)
	run := func(domain string) (ids []string) {
		for _, i := range e.live("al", domain) {
			if i.State < events.Running {
				e.reportState("al", domain, i.InstanceID, events.Running)
			}
			ids = append(ids, i.InstanceID)
		}
		return ids
	}
	for _, domain := range []string{"met", "drains", "unmeasured", "cooldown"} {
		run(domain)
	}
	for _, id := range run("ill") {
		e.heartbeat(id, events.HealthMonitorError, "")
	}
	eventually(t, "all are ill", func() bool {
		return !slices.ContainsFunc(e.fold().Instances(events.DomainID{Owner: "al", Name: "ill"}), func(i *events.Instance) bool { return !i.Unhealthy() })
	})
	e.reportState("al", "backoff", e.live("al", "backoff")[0].InstanceID, events.Failed)
	e.do("al", commands.RemoveDomain{DomainID: "drains"})
	eventually(t, "the cool-down begins", func() bool {
		e.push("al", "cooldown", "-", "load", 9)
		e.decide()
		return len(e.live("al", "cooldown")) == 2
	})
	run("cooldown")
	e.decide()

	e.says("al", "met", false, "nothing is under way", "all 1 wanted instances are running")
	e.says("al", "none", false, "nothing is under way", "no instance is wanted")
	e.says("al", "launching", true, "waits for 2 launches to run (2 100-REQUESTING", "says: all 2 wanted instances are there, 0 of them running")
	e.says("al", "dry", false, "general.dry_run is true", "dry run, so nothing is done")
	e.says("al", "drains", true, "is removed and drains, with 1 instances left", "1 instances to terminate")
	e.says("al", "ill", true, "2 unhealthy instances are not replaced yet", "max_unhealthy_fraction")
	e.says("al", "unmeasured", false, "1 of 1 readings of load were missing (on_missing hold)", "no fresh load of the domain is known")
	e.says("al", "cooldown", false, "cool-down of the last scale action until")
	e.says("al", "broken", false, "no decision is on record", "its engine failed last at", errMock.Error())
	e.failsAgain("backoff")

	told := e.explain("al", "launching")
	if told.Steps[0].Kind != "command" || told.Steps[1].Kind != "decision" || told.Steps[2].Count != 2 || len(told.Steps[2].Instances) != 2 {
		t.Errorf("%+v", told.Steps)
	}
	// What was, is told without what is not on record.
	then, err := e.as("al").ExplainDomain(e.ctx(), "broken", projections.Point{Seq: told.AsOf.Seq})
	if err != nil || strings.Contains(then.Now, "engine failed") {
		t.Errorf("%+v, %v", then, err)
	}
	e.takeLeaseAway()
	e.noLeader()
	e.says("al", "met", false, "nobody leads")
}

// failsAgain has a domain's launches fail until the back-off is long enough to be told.
func (e *epum) failsAgain(domain string) {
	e.t.Helper()
	for n := range 8 {
		if told := e.explain("al", domain); strings.Contains(told.Now, "wait for attempt") {
			if !strings.Contains(told.Now, "launches at site ec2-east wait for attempt ") || !strings.Contains(told.Now, "since launches failed there") || told.Acting {
				e.t.Errorf("%d: %+v", n, told)
			}
			return
		}
		eventually(e.t, "another attempt", func() bool { e.decide(); return len(e.live("al", domain)) > 0 })
		e.reportState("al", domain, e.live("al", domain)[0].InstanceID, events.Failed)
	}
	e.t.Errorf("no back-off is told of: %s", e.explain("al", domain).Now)
}

// TestExplain_Gone: a domain that is gone is explained to its end; steps that are alike
// are told as one.
func TestExplain_Gone(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(30)})
	e.decide()
	ids := p.provisions(30)
	e.do("al", commands.RemoveDomain{DomainID: "web"})
	e.decide()
	for _, id := range ids {
		e.report(id, map[string]any{"state": events.Terminated})
	}
	eventually(t, "all are gone", func() bool {
		return e.describe("al", "web").InstanceCounts[events.Terminated] == 30
	})
	e.decide()
	told := e.explain("al", "web")
	var steps []string
	for _, s := range told.Steps {
		steps = append(steps, fmt.Sprint(s.Kind, " ", max(s.Count, 1)))
	}
	want := []string{"command 1", "decision 1", "launch 30", "command 1", "decision 1", "termination 30", "report 30", "reaped 30", "removed 1"}
	if !slices.Equal(steps, want) {
		t.Errorf("%v, want %v", steps, want)
	}
	if told.Acting || !strings.Contains(told.Now, "the domain is gone since") {
		t.Errorf("now: %s", told.Now)
	}
	if _, err := e.as("bo").ExplainDomain(e.ctx(), "web", projections.Point{}); !isNotFound(err) {
		t.Errorf("another caller: %v", err)
	}
}
