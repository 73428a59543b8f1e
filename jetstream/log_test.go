package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func TestLog_Append(t *testing.T) {
	cell, nc := newCell(t)
	log := cell.Log()
	ctx := t.Context()

	d := added(1)
	seq := mustAppend(t, log, d)
	if seq != 1 {
		t.Fatalf("first sequence is %d", seq)
	}
	t.Run("headers", func(t *testing.T) {
		m, err := rawStream(t, nc, "epum_events").GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		for _, added := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
			delete(m.Header, added) // by the direct get
		}
		at, seal := m.Header["ce-time"], m.Header["ce-seal"]
		if len(seal) != 1 || seal[0] != events.Seal(m.Subject, m.Header, m.Data) {
			t.Errorf("ce-seal is %v", seal)
		}
		if len(at) != 1 {
			t.Fatalf("ce-time is %v", at)
		}
		if _, err := time.Parse(time.RFC3339Nano, at[0]); err != nil {
			t.Error(err)
		}
		want := map[string][]string{
			"ce-specversion": {"1.0"}, "ce-id": {d.ID}, "ce-source": {"/epum/p1"}, "ce-type": {"epum.domain.added.v1"}, "ce-time": at,
			"ce-actor": {"alice"}, "ce-causationid": {"alice/c1"}, "Nats-Expected-Last-Subject-Sequence": {"0"},
			"ce-seal": seal,
		}
		if diff := cmp.Diff(want, map[string][]string(m.Header)); diff != "" {
			t.Error(diff)
		}
		if m.Subject != "epum.event.domain.alice.d1" {
			t.Error(m.Subject)
		}
	})
	t.Run("conflict", func(t *testing.T) {
		var conflict *events.ConflictError
		_, err := log.Append(ctx, added(1))
		if !errors.As(err, &conflict) || conflict.Got != seq || conflict.Guard != d.Guard {
			t.Fatalf("got %v", err)
		}
		_, err = log.Append(ctx, guarded(d.Key, 17, events.DomainRemovalRequested{}))
		if !errors.As(err, &conflict) || conflict.Got != seq {
			t.Fatalf("a guard from the future: got %v", err)
		}
	})
	t.Run("the same draft again", func(t *testing.T) {
		mustAppend(t, log, guarded(d.Key, seq, events.DomainRemovalRequested{}))
		again, err := log.Append(ctx, d)
		if err != nil || again != seq {
			t.Fatalf("got %d, %v", again, err)
		}
		end, err := log.End(ctx)
		if err != nil || end.Seq != 2 {
			t.Fatalf("end %v, %v", end, err)
		}
	})
	t.Run("guarded by another key", func(t *testing.T) {
		other := added(2)
		other.Guard = events.Guard{Key: d.Key, Seq: 2}
		at := mustAppend(t, log, other)
		mustAppend(t, log, guarded(other.Key, at, events.DomainRemovalRequested{}))
		mustAppend(t, log, guarded(d.Key, 2, events.DomainRemoved{}))
		if again, err := log.Append(ctx, other); err != nil || again != at {
			t.Errorf("the same again: %d, %v", again, err)
		}
		var conflict *events.ConflictError
		third := added(3)
		third.Guard = events.Guard{Key: d.Key, Seq: 2}
		if _, err := log.Append(ctx, third); !errors.As(err, &conflict) || conflict.Guard.Key != d.Key {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refused before it is sent", func(t *testing.T) {
		wild := added(4)
		wild.Key, wild.Guard.Key = "domain.alice.*", "domain.alice.*"
		long := added(4)
		long.CausationID = strings.Repeat("x", 40<<10)
		big := guarded(domain(4).Key(), 0, events.DomainAdded{Config: events.Config{General: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}})
		for name, bad := range map[string]events.Draft{
			"no id": {Key: d.Key, Event: events.DomainRemoved{}}, "no event": {ID: "x", Key: d.Key}, "wildcard": wild, "headers": long, "size": big,
			"guard on no key": {ID: "x", Key: d.Key, Event: events.DomainRemoved{}, Guard: events.Guard{Seq: 3}},
		} {
			if _, err := log.Append(ctx, bad); !errors.Is(err, jetstream.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestLog_Append_race(t *testing.T) {
	cell, nc := newCell(t)
	other := openCell(t, nc, jetstream.Config{Process: "p2"})
	race(t, []*jetstream.Log{cell.Log(), other.Log()}, 200)
}

// race lets writers meet on one key, n times: each time exactly one wins.
func race(t *testing.T, logs []*jetstream.Log, n int) {
	t.Helper()
	key, last := domain(1).Key(), uint64(0)
	for round := range n {
		seqs, errs := make([]uint64, len(logs)), make([]error, len(logs))
		var group sync.WaitGroup
		for w, log := range logs {
			group.Go(func() {
				seqs[w], errs[w] = log.Append(context.Background(), guarded(key, last, events.DomainSubscribed{SubscriberName: fmt.Sprint(round)}))
			})
		}
		group.Wait()
		won := 0
		for w, err := range errs {
			var conflict *events.ConflictError
			switch {
			case err == nil:
				won++
				last = seqs[w]
			case !errors.As(err, &conflict):
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d winners: %v", round, won, errs)
		}
	}
}

func TestLog_Append_concurrently(t *testing.T) {
	cell, _ := newCell(t)
	log := cell.Log()
	const writers, each = 64, 50
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			last := uint64(0)
			for range each {
				seq, err := log.Append(context.Background(), guarded(domain(w).Key(), last, events.DomainSubscribed{SubscriberName: "x"}))
				if err != nil {
					t.Error(err)
					return
				}
				last = seq
				mu.Lock()
				seen[seq] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	end, err := log.End(t.Context())
	if err != nil || end.Seq != writers*each || len(seen) != writers*each {
		t.Fatalf("end %v, %v; %d sequences", end, err, len(seen))
	}
}

func TestLog_Append_unreachable(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	log := openCell(t, connect(t, srv.ClientURL()), jetstream.Config{}).Log()
	srv.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := log.Append(ctx, added(1)); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	if _, err := log.AppendFenced(ctx, 1, passDraft(1), nil); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("fenced append: %v", err)
	}
	if _, err := log.End(ctx); !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("end: %v", err)
	}
	if _, err := log.Last(ctx, events.LeaderKey); !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("last: %v", err)
	}
	if err := log.Tail(ctx, projections.TailStart{From: 1}, nil); !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("tail: %v", err)
	}
}

func TestLog_Append_overRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, SyncAlways: true})
	log := openCell(t, connect(t, srv.ClientURL()), jetstream.Config{}).Log()
	mustAppend(t, log, added(1))
	srv.Shutdown()
	// An append that began while there is no server lands when it is back.
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		seq, err := log.Append(ctx, added(2))
		if err == nil && seq != 2 {
			err = fmt.Errorf("sequence %d", seq)
		}
		got <- err
	}()
	startServer(t, jetstream.EmbeddedConfig{Listen: strings.TrimPrefix(srv.ClientURL(), "nats://"), StoreDir: dir, SyncAlways: true})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	g, _, _ := tail(t, log, projections.TailStart{From: 1})
	g.waitFor(t, 2)
	if diff := cmp.Diff([]uint64{1, 2}, g.seqs()); diff != "" {
		t.Error(diff)
	}
}

func TestLog_End(t *testing.T) {
	cell, nc := newCell(t)
	log := cell.Log()
	empty, err := log.End(t.Context())
	if err != nil || empty.Seq != 0 || !empty.Time.IsZero() || empty.Created.IsZero() {
		t.Fatalf("empty log: %+v, %v", empty, err)
	}
	d := added(1)
	mustAppend(t, log, d)
	end, err := log.End(t.Context())
	if err != nil || end.Seq != 1 || end.Time.IsZero() || !end.Created.Equal(empty.Created) {
		t.Fatalf("%+v, %v", end, err)
	}
	if created := rawStream(t, nc, "epum_events").CachedInfo().Created; !created.Equal(end.Created) {
		t.Errorf("created %s, is %s", end.Created, created)
	}
	if id, err := log.EventID(t.Context(), 1); err != nil || id != d.ID {
		t.Errorf("%q, %v", id, err)
	}
	for _, seq := range []uint64{0, 2} {
		if _, err := log.EventID(t.Context(), seq); !errors.Is(err, projections.ErrNotFound) {
			t.Errorf("event %d: %v", seq, err)
		}
	}
	last, err := log.Last(t.Context(), d.Key)
	if diff := cmp.Diff(projections.LastEvent{Seq: 1, ID: d.ID, Type: events.TypeDomainAdded}, last); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := log.Last(t.Context(), events.LeaderKey); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("last of nothing: %v", err)
	}
}
