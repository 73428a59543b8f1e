package passes

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

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
				w.fold(dom.InstanceKey("i1"), events.StateChanged{State: events.Running, Fields: events.Fields{{Name: "a", Value: json.RawMessage("1")}}})
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
