package tests

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestOutbox_Resend has requests that nobody answers: they come again, with the
// same ids, until the state shows that they were heard.
func TestOutbox_Resend(t *testing.T) {
	t.Parallel()
	const retry = 300 * time.Millisecond
	e := newEpum(t, eventDriven, retryEvery(retry))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	eventually(t, "the launch is asked for four times", func() bool { l, _, _ := p.heard(); return len(l) >= 4 })
	launches, _, _ := p.heard()
	p.mu.Lock()
	sent := slices.Clone(p.sent)
	p.mu.Unlock()
	for n, l := range launches {
		if diff := cmp.Diff(launches[0], l); diff != "" {
			t.Errorf("launch %d differs: %s", n, diff)
		}
		if n > 0 && sent[n].Sub(sent[n-1]) < retry/2 { // as it is heard, one may be late and the next on time
			t.Errorf("sent again after %s", sent[n].Sub(sent[n-1]))
		}
	}
	id := launches[0].InstanceIDs[0]
	quiet := func(what string, count func() int) {
		t.Helper()
		before := count()
		stays(t, what+" is not asked for again", 3*retry, func() bool { return count() == before })
	}
	e.reportState("al", "web", id, events.Requested)
	quiet("the launch", func() int { l, _, _ := p.heard(); return len(l) })
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(0)})
	ends := func() int { _, ended, _ := p.heard(); return len(ended) }
	eventually(t, "the termination is asked for four times", func() bool { return ends() >= 4 })
	e.reportState("al", "web", id, events.Terminated)
	quiet("the termination", ends)
	if _, ended, _ := p.heard(); slices.ContainsFunc(ended, func(x string) bool { return x != id }) {
		t.Errorf("terminated %q", ended)
	}
	if n := len(e.logOf(events.TypeTerminateRequested)); n != 1 {
		t.Errorf("%d terminations in the log", n)
	}
}

// TestOutbox_Request has what is in a request and its headers.
func TestOutbox_Request(t *testing.T) {
	t.Parallel()
	e := newEpum(t, func(c *service.Config) {
		c.ServiceName = "epum"
		c.ProvisionerVars = map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`1`), "chef_credential": json.RawMessage(`"no"`), "node_id": json.RawMessage(`"no"`)}
	})
	p := e.provisioner()
	e.do("alice@example.com", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: events.Config{
		General:    []byte(`{"chef_credential":"chef"}`),
		EngineConf: []byte(`{"preserve_n":1,"force_site":"s.1","epuworker_type":"t","epuworker_allocation":"big","provisioner_vars":{"b":{"x":2},"c":"ü"}}`),
	}})
	subjects := make(chan *nats.Msg, 10)
	if _, err := e.nc.ChanSubscribe("epum.provisioner.>", subjects); err != nil {
		t.Fatal(err)
	}
	e.decide()
	id := p.provisions(1)[0]
	launches, _, headers := p.heard()
	l := launches[0]
	vars := map[string]string{}
	for k, v := range l.Vars {
		vars[k] = string(v)
	}
	want := map[string]string{
		"a": "1", "b": `{"x":2}`, "c": `"ü"`, "chef_credential": `"chef"`, "node_id": strconv.Quote(id), "heartbeat_dest": `"epum"`,
	}
	if diff := cmp.Diff(want, vars); diff != "" {
		t.Error(diff)
	}
	if l.Caller != "alice@example.com" || l.Site != "s.1" || l.Allocation != "big" || l.DeployableType != "t" || l.LaunchID == "" {
		t.Errorf("%+v", l)
	}
	if msg := <-subjects; msg.Subject != "epum.provisioner.s=2E1.provision" {
		t.Errorf("subject %s", msg.Subject)
	}
	elected, launch := e.logOf(events.TypeLeaderElected)[0], e.logOf(events.TypeLaunchRequested)[0]
	wantHeaders := nats.Header{
		"Epum-Epoch": {strconv.FormatUint(elected.seq, 10)}, "Epum-Time": {elected.time.UTC().Format(time.RFC3339Nano)},
		"Epum-Seq": {strconv.FormatUint(launch.seq, 10)},
	}
	if diff := cmp.Diff(wantHeaders, headers[0]); diff != "" {
		t.Error(diff)
	}
}

// TestOutbox_AfterElection has a new leader ask for what is open, and after
// every instance that ought to be alive.
func TestOutbox_AfterElection(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("a"))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(11)})
	e.decide()
	var asked []string
	for n, id := range p.provisions(11) {
		state := events.InstanceStates[n]
		if state > events.Requesting {
			e.reportState("al", "web", id, state)
		}
		if state >= events.Requested && state < events.Terminating {
			asked = append(asked, id)
		}
	}
	p.dumped(0)
	after := e.provisioner() // hears only what comes from here on
	e.process(named("b"))
	e.processes[0].Stop()
	got := after.dumped(len(asked))
	slices.Sort(got)
	slices.Sort(asked)
	if diff := cmp.Diff(asked, got); diff != "" {
		t.Error(diff)
	}
	after.provisions(1)
	after.terminations(1)
	epoch := strconv.FormatUint(e.leader().Epoch, 10)
	_, _, headers := after.heard()
	for _, h := range headers {
		if h.Get(events.HeaderEpoch) != epoch {
			t.Errorf("headers %v, want epoch %s", h, epoch)
		}
	}
}

// TestOutbox_Orphans has instances report that nobody wants.
func TestOutbox_Orphans(t *testing.T) {
	t.Parallel()
	e, p, ended := newLaunched(t)
	e.reportState("al", "web", ended, events.Failed)
	for range 3 {
		e.report("lost", map[string]any{"state": events.Running, "site": "s"})
		e.report(ended, map[string]any{"state": events.Running, "site": "s"})
		e.report("nowhere", map[string]any{"state": events.Running})
		e.report("gone", map[string]any{"state": events.Terminated, "site": "s"})
	}
	e.inboxEmpty()
	eventually(t, "the orphans are terminated", func() bool { _, got, _ := p.heard(); return len(got) >= 2 })
	got := p.terminations(2)
	slices.Sort(got)
	want := []string{ended, "lost"}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if i, _ := e.instance("al", "web", ended); i.State != events.Failed {
		t.Errorf("%+v", i)
	}
}

// inboxEmpty waits until all reports are dealt with.
func (e *epum) inboxEmpty() {
	e.t.Helper()
	eventually(e.t, "all reports are dealt with", func() bool {
		s, err := e.js.Stream(e.ctx(), events.DefaultPrefix.Stream(events.StreamInbox))
		if err != nil {
			return false
		}
		info, err := s.Info(e.ctx())
		return err == nil && info.State.Msgs == 0
	})
}
