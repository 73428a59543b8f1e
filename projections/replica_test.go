package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// asker is a log whose end is what the test answers.
type asker struct {
	*memLog
	answers chan projections.Position
}

func newAsker(t *testing.T) (*asker, *projections.Replica) {
	a := &asker{memLog: newLog(), answers: make(chan projections.Position)}
	r := follow(t, a.memLog, &memBucket{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends = 0
	a.end = func(ctx context.Context, _ int) (projections.Position, error) {
		select {
		case p := <-a.answers:
			return p, nil
		case <-ctx.Done():
			return projections.Position{}, projections.ErrNoQuorum
		}
	}
	return a, r
}

// ask puts n questions and gives the answers, as they come in.
func ask(ctx context.Context, r *projections.Replica, n int) *answers {
	got := &answers{}
	for range n {
		go func() {
			seq, err := r.End(ctx)
			got.mu.Lock()
			defer got.mu.Unlock()
			got.list = append(got.list, fmt.Sprint(seq, " ", err))
		}()
	}
	synctest.Wait()
	return got
}

type answers struct {
	mu   sync.Mutex
	list []string
}

func (a *answers) want(t *testing.T, n int, answer string) {
	t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var want []string
	for range n {
		want = append(want, answer)
	}
	if diff := cmp.Diff(want, a.list); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestReplica_EndIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newAsker(t)
		first := ask(t.Context(), r, 1)
		// These came in while the first question was under way, so its answer may
		// be too old for them: they share the next.
		others := ask(t.Context(), r, 10)
		if a.questions() != 1 {
			t.Errorf("%d questions at once", a.questions())
		}
		a.answers <- projections.Position{Seq: 5}
		first.want(t, 1, "5 <nil>")
		others.want(t, 0, "")
		late := ask(t.Context(), r, 3)
		if a.questions() != 2 {
			t.Errorf("%d questions, want a second for the ten", a.questions())
		}
		a.answers <- projections.Position{Seq: 7}
		others.want(t, 10, "7 <nil>")
		late.want(t, 0, "")
		a.answers <- projections.Position{Seq: 8}
		late.want(t, 3, "8 <nil>")

		ask(t.Context(), r, 1).want(t, 0, "")
		if a.questions() != 4 {
			t.Errorf("%d questions, want a new one after a rest", a.questions())
		}
		a.answers <- projections.Position{Seq: 9}
	})
}

// TestReplica_EndOfACallerThatLeft: who asked first and went away takes nobody's
// answer along.
func TestReplica_EndOfACallerThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newAsker(t)
		ctx, cancel := context.WithCancel(t.Context())
		left := ask(ctx, r, 1)
		leftToo := ask(ctx, r, 1)
		stays := ask(t.Context(), r, 1)
		cancel()
		noQuorum := "0 " + projections.ErrNoQuorum.Error() + ": context canceled"
		left.want(t, 1, noQuorum)
		leftToo.want(t, 1, noQuorum)
		a.answers <- projections.Position{Seq: 5}
		stays.want(t, 0, "")
		a.answers <- projections.Position{Seq: 6}
		stays.want(t, 1, "6 <nil>")
	})
}

func TestReplica_EndTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := newAsker(t)
		first := ask(t.Context(), r, 1)
		next := ask(t.Context(), r, 1)
		time.Sleep(3 * time.Second) // of the bubble's clock
		first.want(t, 1, "0 "+projections.ErrNoQuorum.Error())
		a.answers <- projections.Position{Seq: 6}
		next.want(t, 1, "6 <nil>") // each question has its own answer
	})
}

func TestReplica_Barrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		r := follow(t, log, &memBucket{})
		log.add(events.PassKey, events.PassCommitted{})
		if seq, err := r.Barrier(t.Context()); seq != 1 || err != nil || r.Applied() != 1 {
			t.Errorf("barrier at %d, %v; applied %d", seq, err, r.Applied())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.WaitFor(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for what never comes: %v", err)
		}
		log.end = func(context.Context, int) (projections.Position, error) {
			return projections.Position{}, projections.ErrNoQuorum
		}
		if _, err := r.Barrier(t.Context()); !errors.Is(err, projections.ErrNoQuorum) {
			t.Errorf("barrier without a quorum: %v", err)
		}
	})
}

// TestReplica_StaleTail: a tail that has gone silent is opened anew, at the next
// event, once somebody waits for more than a second.
func TestReplica_StaleTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(events.PassKey, events.PassCommitted{})
		r := follow(t, log, &memBucket{})
		log.setDeaf(true)
		synctest.Wait() // the open tail is dead now
		log.setDeaf(false)
		log.add(events.PassKey, events.PassCommitted{})
		began := time.Now()
		if err := r.WaitFor(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if diff := cmp.Diff([]projections.TailStart{{From: 1}, {From: 2}}, log.tails()); diff != "" {
			t.Errorf("tails: %s", diff)
		}
	})
}

func by(causation string, second int) func(*events.Envelope) {
	return func(e *events.Envelope) { e.CausationID, e.Time = causation, at(second) }
}

func TestReplica_Repeat(t *testing.T) {
	log := newLog()
	r := follow(t, log, &memBucket{})
	fold := func(causation string, second int, more ...func(*events.Envelope)) {
		t.Helper()
		log.add(events.PassKey, events.PassCommitted{}, append(more, by(causation, second))...)
		if _, err := r.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, ids map[string]uint64) {
		t.Helper()
		for _, id := range []string{"a/1", "a/2", "b/1", "b/9", "decision", ""} {
			seq, ok := r.Repeat(id)
			if seq != ids[id] || ok != (ids[id] > 0) {
				t.Errorf("%s: %q at %d, %v; want %d", what, id, seq, ok, ids[id])
			}
		}
	}
	want("nothing", nil)
	fold("a/1", 10)
	fold("", 11)
	fold("a/2", 20)
	fold("a/1", 30) // the first one counts
	fold("decision", 40, func(e *events.Envelope) { e.Epoch = 1 })
	want("all", map[string]uint64{"a/1": 1, "a/2": 3})
	fold("b/1", 130)
	want("two minutes to the second", map[string]uint64{"a/1": 1, "a/2": 3, "b/1": 6})
	fold("b/9", 131)
	want("the first is too old", map[string]uint64{"a/2": 3, "b/1": 6, "b/9": 7})
	fold("a/2", 145) // too old itself, so this is the first one
	want("an id used again", map[string]uint64{"a/2": 8, "b/1": 6, "b/9": 7})
	fold("a/1", 265)
	want("much later", map[string]uint64{"a/1": 9, "a/2": 8})
}

// TestReplica_RepeatOfMany: forgetting does not mix up what is kept.
func TestReplica_RepeatOfMany(t *testing.T) {
	log := newLog()
	for n := range 5000 {
		log.add(events.PassKey, events.PassCommitted{}, by(fmt.Sprint("a/", n), n/10))
	}
	r := follow(t, log, &memBucket{})
	for n := range 5000 {
		seq, ok := r.Repeat(fmt.Sprint("a/", n))
		if known := n/10 >= 499-120; ok != known || known && seq != uint64(n+1) {
			t.Fatalf("id %d: %d, %v", n, seq, ok)
		}
	}
}

func TestFeed(t *testing.T) {
	log := newLog()
	r := follow(t, log, &memBucket{})
	all := r.NewFeed(nil)
	some := r.NewFeed(func(e events.Envelope) bool { return e.Key.Kind() == events.KindDomain })
	fold := func(key events.Key) {
		t.Helper()
		log.add(key, events.DomainAdded{})
		if _, err := r.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(f *projections.Feed) bool {
		select {
		case <-f.Ready():
			return true
		default:
			return false
		}
	}
	if ready(all) || all.Len() != 0 || len(all.Take()) != 0 {
		t.Error("a new feed has something")
	}
	x, y := events.DomainID{Owner: "o", Name: "x"}.Key(), events.DomainID{Owner: "o", Name: "y"}.Key()
	fold(events.PassKey)
	if !ready(all) || ready(all) || ready(some) {
		t.Error("ready is not once, and only for whom it concerns")
	}
	fold(x)
	fold(y)
	fold(x)
	if !ready(some) || some.Len() != 2 || all.Len() != 3 {
		t.Errorf("%d and %d keys", some.Len(), all.Len())
	}
	if diff := cmp.Diff(map[events.Key]uint64{x: 4, y: 3}, some.Take()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[events.Key]uint64{x: 4, y: 3, events.PassKey: 1}, all.Take()); diff != "" {
		t.Error(diff)
	}
	if some.Len() != 0 || len(some.Take()) != 0 || some.Broken() {
		t.Error("taken, and there still")
	}
	some.Close()
	fold(y)
	if some.Len() != 0 || all.Len() != 1 {
		t.Errorf("after Close: %d and %d keys", some.Len(), all.Len())
	}
}

// TestReplica_OtherLog: a log that was made anew is folded from its start, and
// feeds are told.
func TestReplica_OtherLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(events.DefinitionKey("old"), events.DefinitionAdded{})
		log.add(events.DefinitionKey("old"), events.DefinitionUpdated{})
		r := follow(t, log, &memBucket{})
		feed := r.NewFeed(nil)
		defer feed.Close()

		log.mu.Lock()
		log.entries = []entry{{
			events.Envelope{Key: events.DefinitionKey("new"), Seq: 1, Time: at(1), ID: "another"},
			events.DefinitionAdded{},
		}}
		log.deaf = true
		log.wake()
		log.mu.Unlock()
		synctest.Wait()
		log.setDeaf(false)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_ = r.WaitFor(ctx, 3) // makes it look at its tail; the event never comes
		r.View(func(s *events.State) {
			if s.Seq != 1 || s.Definition("old") != nil || s.Definition("new") == nil {
				t.Errorf("at %d with the old definition %v and the new %v", s.Seq, s.Definition("old"), s.Definition("new"))
			}
		})
		if !feed.Broken() {
			t.Error("the feed was not told")
		}
	})
}

func TestReplica_StartFromBucket(t *testing.T) {
	fill := func() *memLog {
		log := newLog()
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		log.add(dom.Key(), events.DomainAdded{DefinitionID: "x"}, by("o/1", 50))
		log.add(dom.InstanceKey("i"), events.LaunchRequested{}, by("", 200))
		log.add(dom.InstanceKey("i"), events.StateChanged{State: events.Running}, by("n/2", 210))
		return log
	}
	tests := []struct {
		name   string
		change func(*projections.Checkpoint)
		start  projections.TailStart
	}{
		{"at the checkpoint", nil, projections.TailStart{From: 4, Since: at(80)}},
		{"between two states", func(c *projections.Checkpoint) { c.To, c.ToEventID = 4, "id4" }, projections.TailStart{From: 4, Since: at(80)}},
		{"of another fold", func(c *projections.Checkpoint) { c.FoldVersion++ }, projections.TailStart{From: 1}},
		{"of another log", func(c *projections.Checkpoint) { c.Created = at(-1) }, projections.TailStart{From: 1}},
		{"of another event", func(c *projections.Checkpoint) { c.EventID = "other" }, projections.TailStart{From: 1}},
		{"on to another event", func(c *projections.Checkpoint) { c.To, c.ToEventID = 4, "other" }, projections.TailStart{From: 1}},
		{"beyond the log", func(c *projections.Checkpoint) { c.Seq = 5 }, projections.TailStart{From: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log, bucket := fill(), &memBucket{}
			if tt.change == nil {
				tt.change = func(*projections.Checkpoint) {}
			}
			bucket.set(log.fold(3), tt.change)
			r := follow(t, log, bucket)
			if diff := cmp.Diff([]projections.TailStart{tt.start}, log.tails()); diff != "" {
				t.Errorf("tails: %s", diff)
			}
			r.View(func(s *events.State) {
				for k, d := range log.fold(4).Documents() {
					got := s.Document(k)
					if got == nil || string(got.AppendJSON(nil)) != string(d.AppendJSON(nil)) {
						t.Errorf("%s is %v", k, got)
					}
				}
			})
			if seq, ok := r.Repeat("n/2"); seq != 4 || !ok {
				t.Errorf("a command id of the last two minutes: %d, %v", seq, ok)
			}
		})
	}
}

// TestReplica_StartWhileProjected: a checkpoint that moves while a replica starts
// is no other log's.
func TestReplica_StartWhileProjected(t *testing.T) {
	log, bucket := newLog(), &memBucket{}
	log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
	bucket.set(log.fold(1))
	var once sync.Once
	bucket.reads = func() {
		once.Do(func() {
			log.add(events.DefinitionKey("x"), events.DefinitionAdded{})
			bucket.set(log.fold(2))
		})
	}
	follow(t, log, bucket)
	if got := log.tails()[0].From; got != 3 {
		t.Errorf("reads the log from %d, want 3", got)
	}
}

// TestReplica_StartDeaf: a replica whose first tail hears nothing, as one on a
// node that was just cut off, opens another and catches up.
func TestReplica_StartDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		seq := log.add(events.DefinitionKey("x"), events.DefinitionAdded{})
		log.setDeaf(true)
		_, ready := starting(t, log)
		synctest.Wait()
		if n := len(log.tails()); n != 1 || ready() {
			t.Fatalf("%d tails, ready %v", n, ready())
		}
		log.setDeaf(false) // for the tails to come: the first stays as it is
		synctest.Wait()
		if ready() {
			t.Fatal("the first tail was not deaf")
		}
		time.Sleep(3 * time.Second) // of the bubble's clock
		if n := len(log.tails()); n != 2 || !ready() {
			t.Fatalf("%d tails, ready %v", n, ready())
		}
		if got := log.tails()[1].From; got != seq {
			t.Errorf("reads the log from %d, want %d", got, seq)
		}
	})
}

// TestReplica_StartWithoutQuorum: a replica that cannot ask for the log's end at
// first is ready once it can, and its tail is not opened anew for that.
func TestReplica_StartWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(events.DefinitionKey("x"), events.DefinitionAdded{})
		quorum := false
		log.end = func(context.Context, int) (projections.Position, error) {
			log.mu.Lock()
			defer log.mu.Unlock()
			// Nobody knows the log without an answer: the start itself has one.
			if log.starts != nil && !quorum {
				return projections.Position{}, projections.ErrNoQuorum
			}
			return projections.Position{Seq: uint64(len(log.entries)), Created: created}, nil
		}
		r, ready := starting(t, log)
		time.Sleep(2 * time.Second)
		if r.Applied() != 1 || ready() {
			t.Fatalf("at %d, ready %v", r.Applied(), ready())
		}
		log.mu.Lock()
		quorum = true
		log.mu.Unlock()
		time.Sleep(time.Second)
		if n := len(log.tails()); n != 1 || !ready() {
			t.Errorf("%d tails, ready %v", n, ready())
		}
	})
}

// starting is follow for a replica that does not catch up at once.
func starting(t *testing.T, log *memLog) (r *projections.Replica, ready func() bool) {
	t.Helper()
	r = projections.NewReplica(log, &memBucket{}, slog.New(slog.DiscardHandler))
	var started atomic.Bool
	run(t, func(ctx context.Context) { _ = r.Run(ctx, func() { started.Store(true) }) })
	return r, started.Load
}
