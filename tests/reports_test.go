package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// TestReports_Rules sends one report after the other about one instance and
// looks what became of it (design §4).
func TestReports_Rules(t *testing.T) {
	t.Parallel()
	e, _, id := newLaunched(t)
	first, _ := e.instance("al", "web", id)
	type fields = map[string]any
	for _, step := range []struct {
		what   string
		report fields
		events int // that it makes
		state  events.InstanceState
		fields map[string]string
	}{
		{"a first one", fields{"state": "200-REQUESTED", "update_counter": 1, "public_ip": nil}, 1, events.Requested, map[string]string{"update_counter": "1", "public_ip": "null"}},
		{"the same again", fields{"state": "200-REQUESTED", "update_counter": 1}, 0, events.Requested, nil},
		{"no counter where there is one", fields{"state": "200-REQUESTED", "hostname": "h"}, 0, events.Requested, nil},
		{"a higher counter", fields{"state": "200-REQUESTED", "update_counter": 2, "hostname": "h"}, 1, events.Requested, map[string]string{"hostname": `"h"`}},
		{"a lower counter", fields{"state": "200-REQUESTED", "update_counter": 1, "hostname": "x"}, 0, events.Requested, map[string]string{"hostname": `"h"`}},
		{"a lower state", fields{"state": "100-REQUESTING", "update_counter": 9}, 0, events.Requested, nil},
		{"fields that keep their first value", fields{
			"state": "600-RUNNING", "launch_id": "x", "site": "x", "allocation": "x", "deployable_type": "x", "extravars": fields{"x": 1}, "health": "OK",
			"errors": []int{1}, "seq": 7, "owner": "bo", "instance_id": "x", "public_ip": "10.0.0.1", "update_counter": 3,
		}, 1, events.Running, map[string]string{"public_ip": `"10.0.0.1"`}},
		{"a jump", fields{"state": "900-FAILED", "error": "no disk"}, 1, events.Failed, map[string]string{"error": `"no disk"`, "hostname": `"h"`}},
		{"back to life", fields{"state": "600-RUNNING"}, 0, events.Failed, nil},
	} {
		before := len(e.logOf(events.TypeStateChanged))
		e.report(id, step.report)
		e.inboxEmpty()
		if got := len(e.logOf(events.TypeStateChanged)) - before; got != step.events {
			t.Errorf("%s: %d events, want %d", step.what, got, step.events)
		}
		i, _ := e.instance("al", "web", id)
		if i.State != step.state {
			t.Errorf("%s: state %s, want %s", step.what, i.State, step.state)
		}
		for name, want := range step.fields {
			if got := string(i.Fields[name]); got != want {
				t.Errorf("%s: %s is %s, want %s", step.what, name, got, want)
			}
		}
		if i.LaunchID != first.LaunchID || i.Site != first.Site || i.Allocation != first.Allocation || i.DeployableType != first.DeployableType ||
			string(i.ExtraVars) != string(first.ExtraVars) || i.Health != events.HealthUnknown || len(i.Errors) != 0 {
			t.Errorf("%s: %+v, it was %+v", step.what, i, first)
		}
	}
}

// TestReports_Dead sends what cannot be processed: it is kept with the reason,
// and what comes after it goes on.
func TestReports_Dead(t *testing.T) {
	t.Parallel()
	e, _, id := newLaunched(t)
	bad := []string{
		``, `[]`, `{"node_id":"` + id + `"`, `{"state":"600-RUNNING"}`, `{"node_id":"other","state":"600-RUNNING"}`, `{"node_id":"` + id + `","state":"RUNNING"}`,
		`{"node_id":"` + id + `"}`, `{"node_id":"` + id + `","state":"600-RUNNING","state":"900-FAILED"}`, "{\"node_id\":\"" + id + "\",\"state\":\"600-RUNNING\",\"x\":\"\xff\"}",
		`{"node_id":"` + id + `","state":"600-RUNNING","x":"` + strings.Repeat("x", 64<<10) + `"}`,
		`{"node_id":"` + id + `","state":"600-RUNNING","x":` + strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998) + `}`,
	}
	subject := events.DefaultPrefix.Node(id, events.OpInstanceInfo)
	for _, body := range bad {
		if _, err := e.js.Publish(e.ctx(), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	e.reportState("al", "web", id, events.Requested)
	dead, err := e.js.Stream(e.ctx(), events.DefaultPrefix.Stream(events.StreamDead))
	if err != nil {
		t.Fatal(err)
	}
	info, err := dead.Info(e.ctx())
	if err != nil || info.State.Msgs != uint64(len(bad)) {
		t.Fatalf("%d dead reports, want %d: %v", info.State.Msgs, len(bad), err)
	}
	var kept []string
	for seq := range uint64(len(bad)) {
		msg, err := dead.GetMsg(e.ctx(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Subject != events.DefaultPrefix.Dead(subject) || msg.Header.Get(jetstream.HeaderDeadReason) == "" || msg.Header.Get(jetstream.HeaderDeadSubject) != subject {
			t.Errorf("%s: headers %v", msg.Subject, msg.Header)
		}
		kept = append(kept, string(msg.Data))
	}
	if diff := cmp.Diff(bad, kept); diff != "" {
		t.Error(diff)
	}
	if n := len(e.logOf(events.TypeStateChanged)); n != 1 {
		t.Errorf("%d reports were taken", n)
	}
}

// TestReports_Durable reports while no process is up: taken when one is.
func TestReports_Durable(t *testing.T) {
	t.Parallel()
	e, _, id := newLaunched(t)
	e.stopAll()
	e.report(id, map[string]any{"state": events.Started, "public_ip": "10.0.0.1"})
	e.report(id, map[string]any{"state": events.Running})
	e.process()
	e.inboxEmpty()
	i, _ := e.instance("al", "web", id)
	if i.State != events.Running || string(i.Fields["public_ip"]) != `"10.0.0.1"` {
		t.Errorf("%+v", i)
	}
}

// TestReports_NoAnswer has an instance that stays between REQUESTED and RUNNING
// for longer than boot_timeout: the leader asks what became of it.
func TestReports_NoAnswer(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven)
	p := e.provisioner()
	config := preserve(2)
	config.Health = json.RawMessage(`{"boot_timeout":0.5}`)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: config})
	ids := p.provisions(2)
	e.reportState("al", "web", ids[1], events.Running)
	e.reportState("al", "web", ids[0], events.Pending)
	i, _ := e.instance("al", "web", ids[0])
	eventually(t, "it is asked after", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.dumps) > 0
	})
	if early := time.Since(i.StateTime); early < 500*time.Millisecond {
		t.Errorf("asked after %s", early)
	}
	if got := p.dumped(1); got[0] != ids[0] {
		t.Errorf("asked after %q, want %s", got, ids[0])
	}
}
