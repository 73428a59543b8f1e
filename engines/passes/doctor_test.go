package passes

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// ward is a bench with a doctor, whose appends are folded at once.
type ward struct {
	Log
	*bench
	changed   []string // health_changed events, as "instance HEALTH"
	refuse    bool     // the next append: its guards do not hold
	meanwhile func()   // happens once, while the next append is under way; nil: nothing
	appends   int
	spoken    time.Duration
}

func newWard(t testing.TB, health string) *ward {
	t.Helper()
	w := &ward{bench: newBench(t)}
	ids := 0
	w.term.Log, w.term.NewID = w, func() string { ids++; return fmt.Sprint("id-", ids) }
	w.fold(dom.Key(), events.DomainAdded{Config: events.Config{Health: json.RawMessage(health)}})
	w.term.elected, w.term.began = at(1), w.now
	w.term.outbox, w.term.doctor = newOutbox(w.term), newDoctor(w.term)
	w.term.changes = w.term.Replica.NewFeed(concernsInstances)
	return w
}

// AppendFenced implements Log.
func (w *ward) AppendFenced(_ context.Context, _ uint64, _ events.Draft, drafts []events.Draft) (uint64, error) {
	w.appends++
	if w.meanwhile != nil {
		meanwhile := w.meanwhile
		w.meanwhile = nil
		meanwhile()
	}
	if w.refuse {
		w.refuse = false
		return 0, &events.ConflictError{}
	}
	for _, d := range drafts {
		w.fold(d.Key, d.Event)
		if ev, ok := d.Event.(events.HealthChanged); ok {
			_, id, _ := d.Key.Parts()
			w.changed = append(w.changed, id+" "+string(ev.Health))
		}
	}
	return w.seq, nil
}

func (w *ward) running(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.launch(id, "a")
		w.fold(dom.InstanceKey(id), events.StateChanged{State: events.Running})
	}
}

func (w *ward) heartbeat(id, state string) {
	w.t.Helper()
	w.term.Heartbeat(id, fmt.Appendf(nil, `{"node_id":%q,"state":%q,"caller":"agent-%s"}`, id, state, id))
	if err := w.term.treat(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// pass runs a doctor pass at a second and checks what it changes and whom it asks.
func (w *ward) pass(second int, changed []string, asked ...string) {
	w.t.Helper()
	w.now, w.changed, w.sent = at(second), nil, nil
	if _, err := w.term.examine(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.said(fmt.Sprint("at ", second), changed)
	var subjects []string
	for _, m := range w.sent {
		if m.body == "{}" {
			subjects = append(subjects, m.subject)
		}
	}
	if diff := cmp.Diff(asked, subjects); diff != "" {
		w.t.Errorf("at %d asked: %s", second, diff)
	}
}

func (w *ward) said(what string, changed []string) {
	w.t.Helper()
	if diff := cmp.Diff(changed, w.changed); diff != "" {
		w.t.Errorf("%s: %s", what, diff)
	}
	w.changed = nil
}

const watched = `{"monitor_health":true,"boot_timeout":60,"missing_timeout":20,"really_missing_timeout":5,"zombie_seconds":10}`

// TestDoctor_Life takes an instance through all that can become of its health.
func TestDoctor_Life(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1") // at 3 s, of the log's time
	w.pass(60, nil)
	w.pass(70, []string{"i1 OUT_OF_CONTACT"}, "epum.ouagent.i1.dump_state")
	w.heartbeat("i1", "OK")
	w.said("it was there after all", []string{"i1 OK"})
	w.heartbeat("i1", "OK")
	w.said("no news", nil)
	w.pass(89, nil)
	w.heartbeat("i1", "PROCESS_ERROR")
	w.said("an error", []string{"i1 PROCESS_ERROR"})
	w.heartbeat("i1", "PROCESS_ERROR")
	w.said("the same error", nil)
	w.pass(109, nil)
	w.pass(110, []string{"i1 OUT_OF_CONTACT"}, "epum.ouagent.agent-i1.dump_state")
	w.pass(115, nil)
	w.pass(116, []string{"i1 MISSING"})
	w.pass(500, nil)
	w.heartbeat("i1", "OK")
	w.said("back", []string{"i1 OK"})

	w.fold(dom.InstanceKey("i1"), events.StateChanged{State: events.Terminated})
	w.now = at(500)
	w.heartbeat("i1", "OK") // its state_time is that of the log, about 12 s
	w.said("lives on", nil)
	w.pass(501, []string{"i1 ZOMBIE"})
	w.heartbeat("i1", "OK")
	w.pass(505, nil)
	w.pass(512, []string{"i1 UNKNOWN"})
	w.fold(dom.InstanceKey("i1"), events.Reaped{})
	w.pass(513, nil)
	if n := len(w.term.doctor.vitals); n != 0 {
		t.Errorf("%d vitals are left", n)
	}
}

// TestDoctor_Reconfigure: new time-outs hold at once, for those that run already.
func TestDoctor_Reconfigure(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1", "i2")
	w.heartbeat("i1", "OK")
	w.said("first", []string{"i1 OK"})
	w.pass(5, nil)
	reconfigure := func(health string) {
		w.fold(dom.Key(), events.DomainReconfigured{Config: events.Config{Health: json.RawMessage(health)}})
	}
	reconfigure(`{"missing_timeout":1.5}`)
	w.pass(7, []string{"i1 OUT_OF_CONTACT"}, "epum.ouagent.agent-i1.dump_state")
	w.term.note() // the next look at i1 is planned
	reconfigure(`{"monitor_health":false}`)
	w.pass(100, nil)
	w.heartbeat("i1", "OK")
	w.heartbeat("i2", "OK")
	w.said("nobody watches", nil)
	reconfigure(`{"monitor_health":true,"missing_timeout":30}`)
	w.pass(101, nil) // i2 has been heard, though nobody watched
	w.heartbeat("i2", "OK")
	w.said("is watched again", []string{"i2 OK"})
	w.pass(131, []string{"i1 MISSING"}) // it was out of contact, and last heard at 100
}

// TestDoctor_Refused: an instance that moves on meanwhile is looked at again, and
// its heartbeat is not lost.
func TestDoctor_Refused(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1")
	w.refuse = true
	w.heartbeat("i1", "OK")
	w.said("sent again, as the guard holds by the fold", []string{"i1 OK"})
	w.refuse = true
	w.pass(100, []string{"i1 OUT_OF_CONTACT"}, "epum.ouagent.agent-i1.dump_state")
}

// TestDoctor_NewTerm: a new leader has heard nobody, and gives everybody the whole
// time-out.
func TestDoctor_NewTerm(t *testing.T) {
	w := newWard(t, watched)
	w.running("ok", "lost", "missing", "zombie")
	for id, health := range map[string]events.Health{"ok": events.HealthOK, "lost": events.HealthOutOfContact, "missing": events.HealthMissing} {
		w.fold(dom.InstanceKey(id), events.HealthChanged{Health: health})
	}
	w.fold(dom.InstanceKey("zombie"), events.StateChanged{State: events.Terminated})
	w.fold(dom.InstanceKey("zombie"), events.HealthChanged{Health: events.HealthZombie})
	w.now, w.sent = at(1000), nil
	w.term.elected, w.term.began = at(1000), w.now
	w.term.doctor = newDoctor(w.term)
	if len(w.sent) != 1 || w.sent[0].subject != "epum.ouagent.lost.dump_state" {
		t.Errorf("asked %+v, want the one that was out of contact", w.sent)
	}
	w.pass(1001, []string{"zombie UNKNOWN"})
	w.pass(1005, nil)
	w.pass(1006, []string{"lost MISSING"})
	w.pass(1020, nil)
	w.pass(1021, []string{"ok OUT_OF_CONTACT"}, "epum.ouagent.ok.dump_state")
}

// BenchmarkDoctor_Pass looks at 100,000 healthy instances: when none is due, and
// when all are due at once, as they are some time after an election.
func BenchmarkDoctor_Pass(b *testing.B) {
	const instances = 100_000
	t := newTerm(NewLeader(Config{Clock: func() time.Time { return began }}))
	t.elected, t.began = began, began
	d := &doctor{term: t, vitals: map[string]*vital{}, due: newCalendar[*vital](began)}
	watching := *t.health.of(nil)
	watching.MonitorHealth = true
	for n := range instances {
		i := &events.Instance{ID: fmt.Sprint(n), State: events.Running, Health: events.HealthOK, StateTime: began}
		v := d.see(i, &watching)
		v.heard = began
	}
	for _, pass := range []struct {
		name string
		due  bool
	}{{"none_due", false}, {"all_due", true}} {
		b.Run(pass.name, func(b *testing.B) {
			now := began
			for b.Loop() {
				want := 0
				if pass.due {
					b.StopTimer()
					now, want = now.Add(watching.MissingTimeout), instances
					for _, v := range d.vitals {
						v.heard = now
					}
					b.StartTimer()
				}
				if findings, looked := d.look(now); looked != want || len(findings) != 0 {
					b.Fatalf("looked at %d, found %d", looked, len(findings))
				}
			}
		})
	}
}
