package projections_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
