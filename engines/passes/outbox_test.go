package passes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// vars makes the service's own vars of a JSON object; nil of nothing.
func vars(object string) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if object != "" {
		if err := json.Unmarshal([]byte(object), &m); err != nil {
			panic(err)
		}
	}
	return m
}

func TestAsks(t *testing.T) {
	for _, state := range events.InstanceStates {
		want := map[events.InstanceState]string{
			events.Requesting: events.OpProvision, events.Requested: events.OpDumpState, events.ErrorRetrying: events.OpDumpState,
			events.Pending: events.OpDumpState, events.Started: events.OpDumpState, events.Terminating: events.OpTerminateNodes,
		}[state]
		if got := asks(&events.Instance{State: state, Health: events.HealthUnknown}); got != want {
			t.Errorf("%s: asks for %q, want %q", state, got, want)
		}
		if state < events.Terminating {
			continue
		}
		if got := asks(&events.Instance{State: state, Health: events.HealthZombie}); got != events.OpTerminateNodes {
			t.Errorf("%s ZOMBIE: asks for %q", state, got)
		}
	}
}

func TestOutbox_Provision(t *testing.T) {
	b := newBench(t)
	b.term.ProvisionerVars = vars(`{"a":"service","b":"service","c":"service","node_id":"x"}`)
	b.fold(dom.Key(), events.DomainAdded{DefinitionID: "x", Config: events.Config{
		General:    json.RawMessage(`{"chef_credential":"chef <1>"}`),
		EngineConf: json.RawMessage(`{"preserve_n":1,"provisioner_vars":{"b":"domain","c":{"deep":[1.0]},"chef_credential":"x","heartbeat_dest":"x"}}`),
	}})
	o := newOutbox(b.term)
	key := b.fold(dom.InstanceKey("i1"), events.LaunchRequested{
		LaunchID: "l1", DeployableType: "w", Site: "ec2.east", Allocation: "small", ExtraVars: json.RawMessage(`{"c":"launch","d":null}`),
	})
	o.note(map[events.Key]uint64{key: 2})
	o.send(b.now, false)
	want := []message{{
		subject: "epum.provisioner.ec2=2Eeast.provision",
		headers: map[string][]string{"Epum-Epoch": {"7"}, "Epum-Time": {"2026-01-02T00:00:01Z"}, "Epum-Seq": {"2"}},
		body: `{"launch_id":"l1","instance_ids":["i1"],"deployable_type":"w","site":"ec2.east","allocation":"small",` +
			`"vars":{"a":"service","b":"domain","c":"launch","chef_credential":"chef \u003c1\u003e","d":null,"heartbeat_dest":"svc","node_id":"i1"},"caller":"o"}`,
	}}
	if diff := cmp.Diff(want, b.sent, cmp.AllowUnexported(message{})); diff != "" {
		t.Error(diff)
	}
}

// TestOutbox_Vars: what is absent, null or of a domain that is gone is no vars.
func TestOutbox_Vars(t *testing.T) {
	tests := []struct {
		name, service, engineConf, extra string
		want                             string // "": an error
	}{
		{"none", "", `{}`, "", `{"heartbeat_dest":"svc","node_id":"i1"}`},
		{"null in the config", `{"a":1}`, `{"provisioner_vars":null}`, "", `{"a":1,"heartbeat_dest":"svc","node_id":"i1"}`},
		{"a null of the service", `{"a":null}`, `{}`, `{"b":2}`, `{"a":null,"b":2,"heartbeat_dest":"svc","node_id":"i1"}`},
		{"null of the launch", `{"a":1}`, `{}`, "null", `{"a":1,"heartbeat_dest":"svc","node_id":"i1"}`},
		{"no such domain", `{"a":1}`, "", `{"b":2}`, `{"a":1,"b":2,"heartbeat_dest":"svc","node_id":"i1"}`},
		{"no object in the config", "", `{"provisioner_vars":[]}`, "", ""},
		{"no object of the launch", "", `{}`, "1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.term.ProvisionerVars = vars(tt.service)
			if tt.engineConf != "" {
				b.fold(dom.Key(), events.DomainAdded{Config: events.Config{EngineConf: json.RawMessage(tt.engineConf)}})
			}
			o := newOutbox(b.term)
			got, err := o.vars(&events.Instance{ID: "i1", Domain: dom, ExtraVars: json.RawMessage(tt.extra)}, o.domainVars(dom))
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %s, want an error", got)
				}
				return
			}
			if len(b.term.ProvisionerVars) != len(vars(tt.service)) {
				t.Errorf("the service's own vars are now %s", b.term.ProvisionerVars)
			}
			data, _ := json.Marshal(got)
			if err != nil || string(data) != tt.want {
				t.Errorf("got %s, %v; want %s", data, err, tt.want)
			}
		})
	}
}

func TestOutbox_Retries(t *testing.T) {
	b := newBench(t)
	o := newOutbox(b.term)
	o.note(map[events.Key]uint64{b.launch("i1", "a"): 1, b.launch("i2", "a"): 2})
	o.send(b.now, true)
	b.want("first", "a.provision i1", "a.provision i2")
	o.send(b.now, true)
	b.want("not due yet")
	b.now = at(4)
	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i1"), events.HealthChanged{Health: events.HealthOK}): 3})
	o.send(b.now, true)
	b.want("still not due, as it asks for the same")
	if next := o.next(at(1000)); !next.Equal(at(5)) {
		t.Errorf("next at %s, want %s", next, at(5))
	}
	if next := o.next(at(3)); !next.Equal(at(3)) {
		t.Errorf("next at %s, want the latest, %s", next, at(3))
	}
	b.now = at(5)
	o.send(b.now, false)
	b.want("due, but driven from outside")
	b.fail = true
	o.send(b.now, true)
	b.fail = false
	b.want("the network took nothing")
	b.now = at(10)
	o.send(b.now, true)
	b.want("again", "a.provision i1", "a.provision i2")

	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i1"), events.StateChanged{State: events.Running}): 4})
	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i2"), events.TerminateRequested{}): 5})
	o.send(b.now, false)
	b.want("a new request goes at once", "a.terminate_nodes i2")
	b.now = at(15)
	o.send(b.now, true)
	b.want("only what is still asked for", "a.terminate_nodes i2")
	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i2"), events.StateChanged{State: events.Terminated}): 6})
	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i1"), events.Reaped{}): 7})
	o.note(map[events.Key]uint64{b.launch("i3", "a"): 8})
	o.note(map[events.Key]uint64{b.fold(dom.InstanceKey("i3"), events.Reaped{}): 9})
	b.now = at(100)
	o.send(b.now, true)
	b.want("nothing is pending")
	if len(o.pending) != 0 || len(o.due.slots) != 0 || len(o.fresh) != 0 {
		t.Errorf("%d pending, %d due, %d fresh", len(o.pending), len(o.due.slots), len(o.fresh))
	}
}

// TestOutbox_VoidBeforeSent: what has changed before it was ever sent is not sent.
func TestOutbox_VoidBeforeSent(t *testing.T) {
	b := newBench(t)
	o := newOutbox(b.term)
	o.note(map[events.Key]uint64{b.launch("i1", "a"): 1, b.launch("i2", "a"): 2, b.launch("i3", "a"): 3})
	o.note(map[events.Key]uint64{
		b.fold(dom.InstanceKey("i1"), events.TerminateRequested{}):                       4,
		b.fold(dom.InstanceKey("i2"), events.StateChanged{State: events.Failed}):         5,
		b.fold(dom.InstanceKey("i3"), events.HealthChanged{Health: events.HealthOK}):     6, // no other request
		b.fold(dom.InstanceKey("i4"), events.StateChanged{State: events.Running}):        7, // not known
		b.fold(dom.Key(), events.DomainAdded{Config: events.Config{}, DefinitionID: ""}): 8,
	})
	o.send(b.now, true)
	if seq := b.sent[0].headers[events.HeaderSeq]; len(b.sent) == 2 && b.sent[0].subject == "epum.provisioner.a.provision" && len(seq) != 1 || seq[0] != "6" {
		t.Errorf("asks for event %s, the last is 6", seq)
	}
	b.want("once", "a.provision i3", "a.terminate_nodes i1")
}

// TestOutbox_NewTerm: a new leader asks for all that is open, and after all that
// ought to be alive.
func TestOutbox_NewTerm(t *testing.T) {
	b := newBench(t)
	b.fold(dom.Key(), events.DomainAdded{Config: events.Config{Health: json.RawMessage(`{"boot_timeout":30}`)}})
	for n, state := range events.InstanceStates {
		id := fmt.Sprintf("i%02d", n)
		b.launch(id, "a")
		b.fold(dom.InstanceKey(id), events.StateChanged{State: state})
	}
	b.launch("zombie", "b")
	b.fold(dom.InstanceKey("zombie"), events.StateChanged{State: events.Terminated})
	b.fold(dom.InstanceKey("zombie"), events.HealthChanged{Health: events.HealthZombie})
	other := events.DomainID{Owner: "o2", Name: "d"}
	b.fold(other.InstanceKey("theirs"), events.LaunchRequested{Site: "a"})
	b.fold(other.InstanceKey("theirs"), events.TerminateRequested{})

	o := newOutbox(b.term)
	alive := "a.dump_state i01 i02 i03 i04 i05 i06"
	b.want("after the election", alive)
	o.send(b.now, true)
	b.want("what is open", "a.provision i00", "a.terminate_nodes i07", "a.terminate_nodes theirs", "b.terminate_nodes zombie")
	b.now = at(29)
	o.send(b.now, true)
	b.subjects() // re-sent
	b.now = at(30)
	o.send(b.now, true)
	if got := b.subjects(); !slices.Contains(got, "a.dump_state i01 i02 i03 i04") {
		t.Errorf("after the boot time-out: %q lacks those that do not run yet", got)
	}
	b.now = at(89)
	o.send(b.now, true)
	if got := b.subjects(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "dump_state") }) {
		t.Errorf("asked again within a minute: %q", got)
	}
	b.now = at(90)
	o.send(b.now, true)
	if got := b.subjects(); !slices.Contains(got, "a.dump_state i01 i02 i03 i04") {
		t.Errorf("after a further minute: %q", got)
	}
}

// TestOutbox_ManyInOneMessage: up to 1,000 ids a message, owners apart.
func TestOutbox_ManyInOneMessage(t *testing.T) {
	b := newBench(t)
	o := newOutbox(b.term)
	var asked []*request
	for n := range 2500 {
		i := &events.Instance{ID: fmt.Sprint(n), Site: "a", Domain: dom, State: events.Terminating, Seq: uint64(2500 - n)}
		asked = append(asked, &request{instance: i, op: events.OpTerminateNodes})
	}
	asked = append(asked, &request{instance: &events.Instance{ID: "x", Site: "a", Domain: events.DomainID{Owner: "p"}}, op: events.OpTerminateNodes})
	o.post(asked)
	sizes := map[string][]string{}
	for _, m := range b.sent {
		var body events.TerminateRequest
		if err := json.Unmarshal([]byte(m.body), &body); err != nil {
			t.Fatal(err)
		}
		sizes[body.Caller] = append(sizes[body.Caller], fmt.Sprint(len(body.Nodes), " up to ", m.headers[events.HeaderSeq][0]))
	}
	want := map[string][]string{"o": {"1000 up to 2500", "1000 up to 1500", "500 up to 500"}, "p": {"1 up to 0"}}
	if diff := cmp.Diff(want, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestOutbox_Orphans(t *testing.T) {
	b := newBench(t)
	o := newOutbox(b.term)
	i1 := orphan{nodeID: "i1", site: "a"}
	o.terminateOrphans([]orphan{i1, i1, {nodeID: "i2"}, {nodeID: "i3", site: "b"}, {nodeID: "i4", site: "a"}}) // i2 has no site: a warning
	o.terminateOrphans([]orphan{i1})
	b.want("once, and together", "a.terminate_nodes i1 i4", "b.terminate_nodes i3")
	b.now = at(59)
	o.terminateOrphans([]orphan{i1})
	b.want("not within a minute")
	b.now = at(60)
	o.terminateOrphans([]orphan{i1})
	b.want("after a minute", "a.terminate_nodes i1")
	if len(o.orphans) != 1 {
		t.Errorf("%d orphans are remembered, want 1", len(o.orphans))
	}
}

// TestOutbox_OrphanFlood: each orphan costs the same however many there are, and
// only so many are remembered.
func TestOutbox_OrphanFlood(t *testing.T) {
	b := newBench(t)
	o := newOutbox(b.term)
	take := func(from, n int) {
		for k := from; k < from+n; k++ {
			o.terminateOrphans([]orphan{{nodeID: fmt.Sprint(k), site: "a"}})
		}
	}
	began := time.Now()
	take(0, mostOrphans+1000)
	if took := time.Since(began); took > 10*time.Second { // 10,000 times as long where each walks all
		t.Errorf("took %s", took)
	}
	if len(o.orphans) != mostOrphans || len(b.sent) != mostOrphans {
		t.Errorf("%d are remembered, %d are asked for", len(o.orphans), len(b.sent))
	}
	b.now = at(60)
	take(0, 1)
	if len(o.orphans) != 1 || len(o.asked.slots) != 1 {
		t.Errorf("%d are remembered after a minute", len(o.orphans))
	}
	b.sent = nil
	var many []orphan
	for k := range 2500 {
		many = append(many, orphan{nodeID: fmt.Sprint("m", k), site: "a"})
	}
	o.terminateOrphans(many)
	if len(b.sent) != 3 {
		t.Errorf("%d messages for 2,500 ids", len(b.sent))
	}
}
