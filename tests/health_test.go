package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// monitored is a config that keeps n instances and watches their health.
func monitored(n int, health string) events.Config {
	c := preserve(n)
	c.Health = json.RawMessage(health)
	return c
}

// newRunning is a process whose owner al has a domain web of n instances that run.
func newRunning(t *testing.T, n int, health string, change ...func(*service.Config)) (e *epum, p *provisioner, ids []string) {
	t.Helper()
	e = newEpum(t, change...)
	p = e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: monitored(n, health)})
	e.decide()
	eventually(t, "all are launched", func() bool { return len(e.describe("al", "web").Instances) == n })
	for _, i := range e.describe("al", "web").Instances {
		ids = append(ids, i.InstanceID)
		e.reportState("al", "web", i.InstanceID, events.Running)
	}
	return e, p, ids
}

// heartbeat sends a heartbeat as an agent does; more are further fields.
func (e *epum) heartbeat(id string, health events.Health, more string) {
	e.t.Helper()
	body := fmt.Sprintf(`{"node_id":%q,"state":%q%s}`, id, health, more)
	if err := e.nc.Publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), []byte(body)); err != nil {
		e.t.Fatal(err)
	}
}

// healthOf waits until an instance of al's domain web has a health.
func (e *epum) healthOf(id string, want events.Health) (i natsapi.InstanceDocument) {
	e.t.Helper()
	eventually(e.t, id+" is "+string(want), func() bool {
		i, _ = e.instance("al", "web", id)
		return i.Health == want
	})
	return i
}

// becomesIn runs doctor passes until an instance has a health.
func (e *epum) becomesIn(id string, want events.Health) {
	e.t.Helper()
	eventually(e.t, id+" becomes "+string(want), func() bool {
		e.pass("doctor")
		i, _ := e.instance("al", "web", id)
		return i.Health == want
	})
}

// asked counts the questions to the agent at an address.
func (e *epum) asked(address string) func() int {
	e.t.Helper()
	var mu sync.Mutex
	n := 0
	sub, err := e.nc.Subscribe(events.DefaultPrefix.OUAgent(address), func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if string(m.Data) == "{}" {
			n++
		}
	})
	if err == nil {
		err = e.nc.Flush()
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestHealth_Life: an instance is heard, falls silent, comes back, fails, is
// terminated and lives on (design §6, Doctor).
func TestHealth_Life(t *testing.T) {
	t.Parallel()
	e, p, ids := newRunning(t, 1, `{"monitor_health":true,"boot_timeout":60,"missing_timeout":0.3,"really_missing_timeout":0.2,"zombie_seconds":0.3}`)
	id := ids[0]
	byID, byAddress := e.asked(id), e.asked("agent/7")
	if r := e.pass("doctor"); r.Pass != "doctor" || r.Changed != 0 {
		t.Errorf("%+v", r)
	}
	e.heartbeat(id, events.HealthOK, `,"caller":"agent/7"`)
	e.healthOf(id, events.HealthOK)
	e.becomesIn(id, events.HealthOutOfContact)
	e.becomesIn(id, events.HealthMissing)
	eventually(t, "the agent is asked at the address of its last heartbeat", func() bool { return byAddress() == 1 })
	if byID() != 0 {
		t.Error("the agent was asked at the instance's id, too")
	}
	e.heartbeat(id, events.HealthOK, "")
	e.healthOf(id, events.HealthOK)
	e.heartbeat(id, events.HealthProcessError, `,"error":"no disk","failed_processes":[{"name":"web"}],"error_time":1767322800`)
	i := e.healthOf(id, events.HealthProcessError)
	if len(i.Errors) != 2 || string(i.Errors[0]) != `"no disk"` || string(i.Errors[1]) != `{"name":"web"}` ||
		i.ErrorTime == nil || i.ErrorTime.Unix() != 1767322800 {
		t.Errorf("%s at %s", i.Errors, i.ErrorTime)
	}
	if r := e.decide(); r.Launched != 1 || r.Terminated != 1 {
		t.Errorf("%+v", r)
	}
	e.reportState("al", "web", id, events.Terminated)
	if i, _ = e.instance("al", "web", id); i.Health != events.HealthUnknown || len(i.Errors) != 2 {
		t.Errorf("terminated: %s with %s", i.Health, i.Errors)
	}
	// What is terminated and lives is asked to end until it is silent.
	before := len(p.terminations(1))
	ends := time.Now().Add(patience)
	for i.Health != events.HealthZombie && time.Now().Before(ends) {
		e.heartbeat(id, events.HealthOK, "")
		e.pass("doctor")
		i, _ = e.instance("al", "web", id)
	}
	e.healthOf(id, events.HealthZombie)
	eventually(t, "a zombie is asked to end", func() bool {
		_, terminated, _ := p.heard()
		return len(terminated) > before
	})
	e.becomesIn(id, events.HealthUnknown)
	want := []events.Health{
		events.HealthOK, events.HealthOutOfContact, events.HealthMissing, events.HealthOK, events.HealthProcessError, events.HealthZombie, events.HealthUnknown,
	}
	if got := e.healths(id); !slices.Equal(got, want) {
		t.Errorf("on record are %s, want %s", got, want)
	}
	e.projected()
	e.bucketIsFold()
}

// healths gives the changes of an instance's health that are on record.
func (e *epum) healths(id string) (list []events.Health) {
	e.t.Helper()
	for _, l := range e.logOf(events.TypeHealthChanged) {
		if _, of, _ := l.key.Parts(); of == id {
			ev, _ := l.decode().(events.HealthChanged)
			list = append(list, ev.Health)
		}
	}
	return list
}

// TestHealth_NotMonitored: without monitor_health a heartbeat changes nothing,
// and nobody is missed.
func TestHealth_NotMonitored(t *testing.T) {
	t.Parallel()
	e, _, ids := newRunning(t, 1, `{"boot_timeout":0.001,"missing_timeout":0.001}`)
	e.heartbeat(ids[0], events.HealthMonitorError, "")
	e.pass("doctor")
	time.Sleep(time.Second) // it counts where the domain comes to be monitored soon after
	e.pass("doctor")
	if got := e.healths(ids[0]); len(got) > 0 {
		t.Errorf("not monitored, and on record are %s", got)
	}
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{Health: json.RawMessage(`{"monitor_health":true,"boot_timeout":60,"missing_timeout":60}`)}})
	e.heartbeat(ids[0], events.HealthOK, "")
	e.healthOf(ids[0], events.HealthOK)
	// New time-outs hold at once.
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{Health: json.RawMessage(`{"missing_timeout":0.05}`)}})
	e.becomesIn(ids[0], events.HealthOutOfContact)
	if got := e.healths(ids[0]); len(got) != 2 {
		t.Errorf("on record are %s", got)
	}
}

// TestHealth_Election: after an election nobody is declared missing before the
// full time-out has passed since.
func TestHealth_Election(t *testing.T) {
	t.Parallel()
	e, _, ids := newRunning(t, 2, `{"monitor_health":true,"missing_timeout":1,"really_missing_timeout":0.1}`, shortLease)
	for _, id := range ids {
		e.heartbeat(id, events.HealthOK, "")
		e.healthOf(id, events.HealthOK)
	}
	e.stopAll()
	time.Sleep(1100 * time.Millisecond) // longer than missing_timeout
	e.process()
	e.leader()
	e.becomesIn(ids[0], events.HealthOutOfContact)
	elections := e.logOf(events.TypeLeaderElected)
	elected := elections[len(elections)-1].time
	lost := e.logOf(events.TypeHealthChanged)[2]
	if after := lost.time.Sub(elected); after < time.Second {
		t.Errorf("out of contact %s after the election, missing_timeout is 1 s", after)
	}
	if got := e.healths(ids[1]); len(got) != 2 {
		t.Errorf("on record are %s", got)
	}
}

// TestHealth_FlipFlop: an agent that changes its mind without end costs no append for
// each heartbeat, and its last word counts.
func TestHealth_FlipFlop(t *testing.T) {
	t.Parallel()
	e, _, ids := newRunning(t, 1, `{"monitor_health":true}`)
	const rounds = 2000
	for range rounds {
		e.heartbeat(ids[0], events.HealthMonitorError, "")
		e.heartbeat(ids[0], events.HealthProcessError, "")
	}
	e.heartbeat(ids[0], events.HealthOK, "")
	e.healthOf(ids[0], events.HealthOK)
	if n := len(e.healths(ids[0])); n > rounds {
		t.Errorf("%d changes of health are on record for %d heartbeats", n, 2*rounds+1)
	}
	if r := e.decide(); r.Terminated != 0 {
		t.Errorf("%+v, though it is well", r)
	}
}

// TestHealth_LateTermination: what stays TERMINATING is counted, said, and asked
// for ever less often.
func TestHealth_LateTermination(t *testing.T) {
	t.Parallel()
	log := newRecorder()
	e, p, ids := newRunning(t, 1, `{}`, eventDriven, retryEvery(50*time.Millisecond), logTo(log), func(c *service.Config) {
		c.TerminateDeadline = 200 * time.Millisecond
	})
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(0)})
	eventually(t, "it is late", func() bool {
		s, err := e.as("al").Status(e.ctx())
		return err == nil && s.LateTerminations == 1
	})
	eventually(t, "it is asked again when late", func() bool {
		_, terminated, _ := p.heard()
		return len(terminated) > 6 && log.said("termination is late")
	})
	e.reportState("al", "web", ids[0], events.Terminated)
	if s, err := e.as("al").Status(e.ctx()); err != nil || s.LateTerminations != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
