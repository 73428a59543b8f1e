package archive_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// severed is a source whose tails break while it is cut off.
type severed struct {
	projections.Source
	mu  sync.Mutex
	cut context.CancelFunc // ends the tail; nil: there is none
	off bool
}

func (s *severed) Tail(ctx context.Context, start projections.TailStart, apply func(events.Envelope, events.Event)) error {
	s.mu.Lock()
	if s.off {
		s.mu.Unlock()
		return errors.New("cut off")
	}
	ctx, s.cut = context.WithCancel(ctx)
	s.mu.Unlock()
	return s.Source.Tail(ctx, start, apply)
}

func (s *severed) set(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off = off; off && s.cut != nil {
		s.cut()
	}
}

// TestReplica_PurgedBeyond cuts a replica off, and purges events that it has not folded:
// it notices, and starts anew from the snapshot.
func TestReplica_PurgedBeyond(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		w, dir := newWorld(t, 30+seed), t.TempDir()
		w.happen(30)
		source := &severed{Source: w.log}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, end := w.replica(ctx, source)
		defer end()
		feed := r.NewFeed(nil)
		defer feed.Close()
		source.set(true)
		w.happen(40)
		w.run(dir, 40+uint64(w.rand.IntN(30)), true)
		w.happen(5)
		source.set(false)
		if err := r.WaitFor(ctx, uint64(len(w.all))); err != nil {
			t.Fatal(err)
		}
		var got map[events.Key]string
		r.View(func(s *events.State) { got = documents(s) })
		if diff := cmp.Diff(documents(w.fold(len(w.all))), got); diff != "" {
			t.Error(diff)
		}
		if !feed.Broken() {
			t.Error("the feed was not told")
		}
	}
}

// TestReplica_WhilePurged starts replicas all the time while the log is written,
// archived and purged: each has the right fold at once.
func TestReplica_WhilePurged(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 40), t.TempDir()
	w.happen(200)
	type fold struct {
		seq  uint64
		docs map[events.Key]string
	}
	var stop atomic.Bool
	var folds []fold
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			r, end := w.replica(t.Context(), w.log)
			r.View(func(s *events.State) { folds = append(folds, fold{s.Seq, documents(s)}) })
			end()
		}
	}()
	for upTo := uint64(50); upTo < 600; upTo += 20 {
		w.happen(20)
		w.run(dir, upTo, true)
	}
	stop.Store(true)
	<-done
	for _, f := range folds {
		if diff := cmp.Diff(documents(w.fold(int(f.seq))), f.docs); diff != "" {
			t.Errorf("at %d: %s", f.seq, diff)
		}
	}
	t.Logf("%d replicas", len(folds))
	w.check(dir)
}
