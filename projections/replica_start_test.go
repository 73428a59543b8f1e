package projections_test

import (
	"context"
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
	r = projections.NewReplica(log, &memBucket{}, &memBucket{}, slog.New(slog.DiscardHandler))
	var started atomic.Bool
	run(t, func(ctx context.Context) { _ = r.Run(ctx, func() { started.Store(true) }) })
	return r, started.Load
}

// brittle is a log whose tails break at once.
type brittle struct {
	*memLog
	opened atomic.Int64
}

func (b *brittle) Tail(context.Context, projections.TailStart, func(events.Envelope, events.Event)) error {
	b.opened.Add(1)
	return projections.ErrNoQuorum
}

// TestReplica_BrittleTail has tails that break at once, as they do without a
// quorum: the replica goes on trying, ever more slowly.
func TestReplica_BrittleTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &brittle{memLog: newLog()}
		r := projections.NewReplica(log, &memBucket{}, &memBucket{}, slog.New(slog.DiscardHandler))
		run(t, func(ctx context.Context) { _ = r.Run(ctx, nil) })
		time.Sleep(10 * time.Second)
		if n := log.opened.Load(); n < 15 || n > 30 {
			t.Errorf("%d tails were opened within 10 s", n)
		}
	})
}
