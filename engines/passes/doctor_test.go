package passes

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
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

// say has i1 say something that waits to be treated, a millisecond after what it said
// before.
func (w *ward) say(state string) {
	w.spoken += time.Millisecond
	said := events.Heartbeat{Health: events.Health(state), Address: "agent-i1"}
	w.term.doctor.hear(heartbeat{id: "i1", said: said, at: w.term.now(time.Time{}).Add(w.spoken)}, false)
}

// settle treats what waits, and gives how many appends that takes.
func (w *ward) settle() (appends int) {
	w.t.Helper()
	before := w.appends
	for len(w.term.doctor.ready) > 0 {
		<-w.term.doctor.ready
		if err := w.term.treat(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.appends - before
}

// TestDoctor_Order: of what one agent says in a row the last counts.
func TestDoctor_Order(t *testing.T) {
	for _, tt := range []struct {
		said string
		want []string
	}{
		{"OK PROCESS_ERROR OK", []string{"i1 OK"}},
		{"OK PROCESS_ERROR", []string{"i1 PROCESS_ERROR"}},
		{"| PROCESS_ERROR OK", nil}, // it was OK before
		{"| PROCESS_ERROR MONITOR_ERROR", []string{"i1 MONITOR_ERROR"}},
	} {
		w := newWard(t, watched)
		w.running("i1")
		for state := range strings.FieldsSeq(tt.said) {
			if state != "|" {
				w.say(state)
				continue
			}
			w.say("OK")
			w.settle()
			w.changed = nil
		}
		w.settle()
		w.said(tt.said, tt.want)
	}
}

// TestDoctor_Overtaken: what an agent says while its last word is being committed,
// or after that was refused, is what counts.
func TestDoctor_Overtaken(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		w := newWard(t, watched)
		w.running("i1")
		w.say("OK")
		w.settle()
		w.changed = nil
		w.say("PROCESS_ERROR")
		w.meanwhile = func() {
			if refuse { // the instance moves on, so the guard holds no more
				w.fold(dom.InstanceKey("i1"), events.StateChanged{State: events.Running, Fields: map[string]json.RawMessage{"a": json.RawMessage("1")}})
				w.refuse = true
			}
			w.say("OK")
		}
		w.settle()
		want := []string{"i1 PROCESS_ERROR", "i1 OK"}
		if refuse {
			want = nil
		}
		w.said(fmt.Sprintf("refused %v", refuse), want)
	}
}

// TestDoctor_FlipFlop: an agent that changes its mind without end costs no more than
// one append at a time.
func TestDoctor_FlipFlop(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1")
	for range 1000 {
		w.say("MONITOR_ERROR")
		w.say("PROCESS_ERROR")
	}
	if n := w.settle(); n != 1 {
		t.Errorf("%d appends", n)
	}
	w.said("the last word", []string{"i1 PROCESS_ERROR"})
}

// TestDoctor_HeardInTime: nobody is missed whose heartbeat waits, to be committed or
// for its instance to be folded.
func TestDoctor_HeardInTime(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1")
	w.pass(70, []string{"i1 OUT_OF_CONTACT"}, "epum.ouagent.i1.dump_state")
	w.now = at(76)
	w.say("OK")
	w.pass(77, []string{"i1 OK"})

	early := heartbeat{id: "i2", said: events.Heartbeat{Health: events.HealthOK}, at: w.term.now(time.Time{})}
	w.term.doctor.hear(early, false)
	w.running("i2")
	w.now = at(97)
	w.say("OK")
	w.pass(97, nil)
	w.pass(98, []string{"i2 OUT_OF_CONTACT"}, "epum.ouagent.i2.dump_state") // boot_timeout is 60, missing_timeout 20
	w.term.doctor.hear(early, true)
	if n := len(w.term.doctor.early); n != 0 {
		t.Errorf("%d wait for a second look", n)
	}
}

// TestDoctor_TreatsFirst: a doctor pass and a decide pass see what was said before.
func TestDoctor_TreatsFirst(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1")
	w.say("PROCESS_ERROR")
	if _, err := w.term.decide(t.Context(), map[events.DomainID]bool{}); err != nil {
		t.Fatal(err)
	}
	w.said("before a decide pass", []string{"i1 PROCESS_ERROR"})
	w.say("OK")
	w.pass(10, []string{"i1 OK"})
}

// TestDoctor_Reaped: whoever is heard while its record goes leaves nothing behind,
// be it monitored or not.
func TestDoctor_Reaped(t *testing.T) {
	for _, health := range []string{watched, `{}`} {
		w := newWard(t, health)
		d := w.term.doctor
		for n := range 200 {
			id := fmt.Sprint("i", n)
			w.running(id)
			w.term.note()
			heard := make(chan struct{})
			d.mu.Lock() // a heartbeat comes while the doctor notes what has changed
			go func() {
				defer close(heard)
				d.hear(heartbeat{id: id, said: events.Heartbeat{Health: events.HealthOK}, at: at(1)}, true)
			}()
			runtime.Gosched()
			w.fold(dom.InstanceKey(id), events.Reaped{})
			w.term.Replica.View(func(s *events.State) { d.noteInstance(s, dom, id) })
			d.mu.Unlock()
			<-heard
		}
		if n := len(d.vitals); n != 0 {
			t.Errorf("%s: %d vitals are left", health, n)
		}
	}
}

// TestDoctor_SecondLook: a heartbeat that came before its domain was monitored
// counts once that is folded, but not against what the agent has said since.
func TestDoctor_SecondLook(t *testing.T) {
	w := newWard(t, `{}`)
	w.running("i1", "i2")
	w.heartbeat("i1", "PROCESS_ERROR")
	w.heartbeat("i2", "PROCESS_ERROR")
	early := w.term.doctor.early
	w.fold(dom.Key(), events.DomainReconfigured{Config: events.Config{Health: json.RawMessage(watched)}})
	w.now = w.now.Add(time.Millisecond)
	w.heartbeat("i1", "OK")
	for _, id := range []string{"i1", "i2"} {
		w.term.doctor.hear(early[id], true)
	}
	if err := w.term.treat(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.said("what counts", []string{"i1 OK", "i2 PROCESS_ERROR"})
}

// TestDoctor_Dropped: nonsense changes nothing.
func TestDoctor_Dropped(t *testing.T) {
	w := newWard(t, watched)
	w.running("i1")
	w.heartbeat("nobody", "OK")
	w.heartbeat("i1", "MISSING")
	w.term.Heartbeat("i1", []byte("nonsense"))
	w.said("nothing", nil)
	w.term.note()
	if n := len(w.term.doctor.vitals); n != 1 {
		t.Errorf("%d vitals, want that of i1", n)
	}
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
	t := &Term{Leader: NewLeader(Config{Clock: func() time.Time { return began }}), elected: began, began: began}
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

// BenchmarkHeartbeat takes 200,000 heartbeats that change nothing: decode and apply.
func BenchmarkHeartbeat(b *testing.B) {
	const instances, heartbeats = 1000, 200_000
	w := newWard(b, watched)
	var ids []string
	var bodies [][]byte
	for n := range instances {
		id := fmt.Sprintf("01a20569-d60e-739f-833b-%012d", n)
		ids = append(ids, id)
		bodies = append(bodies, fmt.Appendf(nil, `{"node_id":%q,"state":"OK","caller":"epum-agent-local","timestamp":"2026-01-02T03:04:05Z"}`, id))
	}
	w.running(ids...)
	for _, id := range ids {
		w.heartbeat(id, "OK")
	}
	w.changed = nil
	for b.Loop() {
		for n := range heartbeats {
			w.term.Heartbeat(ids[n%instances], bodies[n%instances])
		}
	}
	b.ReportMetric(float64(b.N)*heartbeats/b.Elapsed().Seconds(), "heartbeats/s")
	b.ReportMetric(0, "ns/op")
	if len(w.term.doctor.news) != 0 {
		b.Fatal("a heartbeat was news")
	}
}
