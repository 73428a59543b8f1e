package jetstream_test

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func allSamples(t *testing.T, s *jetstream.Samples) map[events.DomainID]string {
	t.Helper()
	all := map[events.DomainID]string{}
	err := s.All(t.Context(), func(d events.DomainID, data []byte) error { all[d] = string(data); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSamples_Put(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	s, ctx := cell.Samples(), t.Context()
	if _, err := s.Get(ctx, domain(1)); !errors.Is(err, projections.ErrNotFound) {
		t.Error(err)
	}
	odd := events.DomainID{Owner: "alice@example.com", Name: "a b"}
	for n := range 3 {
		for _, d := range []events.DomainID{domain(1), odd} {
			if err := s.Put(ctx, 5, d, []byte(strconv.Itoa(n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := s.Get(ctx, odd); err != nil || string(got) != "2" {
		t.Errorf("%s, %v", got, err)
	}
	if diff := cmp.Diff(map[events.DomainID]string{domain(1): "2", odd: "2"}, allSamples(t, s)); diff != "" {
		t.Error(diff)
	}
	// The next one of the same process's terms, and one that knows no revision.
	if err := s.Put(ctx, 7, odd, []byte("3")); err != nil {
		t.Error(err)
	}
	if err := cell.Samples().Put(ctx, 7, odd, []byte("4")); err != nil {
		t.Error(err)
	}
	if err := s.Put(ctx, 7, odd, []byte("5")); err != nil {
		t.Errorf("its own term wrote: %v", err)
	}
	if err := s.Put(ctx, 7, odd, bytes.Repeat([]byte("x"), 1<<20)); !errors.Is(err, jetstream.ErrRefused) {
		t.Error(err)
	}
	js, _ := natsjs.New(nc)
	kv, err := js.KeyValue(ctx, "epum_samples")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, string(odd.Key())); err != nil || string(e.Value()) != "5" {
		t.Errorf("%v, %v", e, err)
	}
	// What somebody else put there is left out, and overwritten.
	if _, err := kv.PutString(ctx, "stray", "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(ctx, string(odd.Key()), "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, 7, odd, []byte("6")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[events.DomainID]string{domain(1): "2", odd: "6"}, allSamples(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestSamples_deposed(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	ctx := t.Context()
	old, next := cell.Samples(), openCell(t, nc, jetstream.Config{Process: "p2"}).Samples()
	if err := old.Put(ctx, 5, domain(1), []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := next.Put(ctx, 9, domain(1), []byte("new")); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*jetstream.Samples{"knows a revision": old, "knows none": cell.Samples(), "knows the newest": next} {
		if err := s.Put(ctx, 5, domain(1), []byte("late")); !errors.Is(err, events.ErrDeposed) {
			t.Errorf("%s: %v", name, err)
		}
		if err := next.Put(ctx, 9, domain(1), []byte("new")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := old.Delete(ctx, 5, domain(1)); !errors.Is(err, events.ErrDeposed) {
		t.Error(err)
	}
	if got, err := next.Get(ctx, domain(1)); err != nil || string(got) != "new" {
		t.Errorf("%s, %v", got, err)
	}
	// Nor does it bring back what a later term has deleted.
	if err := next.Delete(ctx, 9, domain(1)); err != nil {
		t.Fatal(err)
	}
	if err := old.Put(ctx, 5, domain(1), []byte("late")); !errors.Is(err, events.ErrDeposed) {
		t.Error(err)
	}
	if _, err := old.Get(ctx, domain(1)); !errors.Is(err, projections.ErrNotFound) {
		t.Error(err)
	}
	if all := allSamples(t, old); len(all) != 0 {
		t.Error(all)
	}
	if err := next.Put(ctx, 9, domain(1), []byte("again")); err != nil {
		t.Error(err)
	}
}

// TestSamples_Put_race: whoever leads later has the last word.
func TestSamples_Put_race(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	old, next := cell.Samples(), openCell(t, nc, jetstream.Config{Process: "p2"}).Samples()
	var group sync.WaitGroup
	var firstNew sync.Once
	begun := make(chan struct{})
	group.Go(func() {
		for {
			err := old.Put(t.Context(), 5, domain(1), []byte("old"))
			firstNew.Do(func() { close(begun) })
			if errors.Is(err, events.ErrDeposed) {
				return
			}
			if _, conflict := errors.AsType[*events.ConflictError](err); err != nil && !conflict {
				t.Error(err)
				return
			}
		}
	})
	<-begun
	wrote := false
	for !wrote {
		err := next.Put(t.Context(), 9, domain(1), []byte("new"))
		_, conflict := errors.AsType[*events.ConflictError](err)
		if wrote = err == nil; err != nil && !conflict {
			t.Fatal(err)
		}
	}
	group.Wait()
	if got, err := next.Get(t.Context(), domain(1)); err != nil || string(got) != "new" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestSamples_gone(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	s, ctx := cell.Samples(), t.Context()
	if err := s.Put(ctx, 5, domain(1), []byte("1")); err != nil {
		t.Fatal(err)
	}
	js, _ := natsjs.New(nc)
	if err := js.DeleteStream(ctx, "KV_epum_samples"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, domain(1)); !errors.Is(err, jetstream.ErrBucketGone) {
		t.Error(err)
	}
	if err := s.All(ctx, func(events.DomainID, []byte) error { return nil }); !errors.Is(err, jetstream.ErrBucketGone) {
		t.Error(err)
	}
	if err := s.Put(ctx, 5, domain(1), []byte("2")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(ctx, domain(1)); err != nil || string(got) != "2" {
		t.Errorf("%s, %v", got, err)
	}
	if cfg := rawStream(t, nc, "KV_epum_samples").CachedInfo().Config; cfg.MaxAge != 24*time.Hour || cfg.MaxMsgsPerSubject != 1 {
		t.Errorf("%+v", cfg)
	}
}
