package jetstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// instances are n documents of one domain.
func instances(dom events.DomainID, n int) []projections.Entry {
	entries := make([]projections.Entry, n)
	for i := range entries {
		entries[i] = projections.Entry{Key: dom.InstanceKey(fmt.Sprintf("i%04d", i)), Value: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	return entries
}

// contents makes entries comparable: key → value.
func contents(entries []projections.Entry) map[events.Key]string {
	m := map[events.Key]string{}
	for _, e := range entries {
		m[e.Key] = string(e.Value)
	}
	return m
}

func TestBucket(t *testing.T) {
	cell, nc := newCell(t)
	b, ctx := cell.State(), t.Context()
	dom := domain(1)

	got, err := b.Read(ctx, events.CheckpointKey, dom.AllInstances())
	if err != nil || len(got) != 0 {
		t.Fatalf("empty bucket: %v, %v", got, err)
	}
	if err := b.All(ctx, func(projections.Entry) error { return errors.New("an entry") }); err != nil {
		t.Fatalf("empty bucket: %v", err)
	}
	rev, err := b.Write(ctx, instances(dom, 999), []byte("c1"), 0)
	if err != nil || rev != 1000 {
		t.Fatalf("%d, %v", rev, err)
	}
	want := contents(instances(dom, 999))
	want[events.CheckpointKey] = "c1"

	t.Run("read", func(t *testing.T) {
		got, err := b.Read(ctx, events.CheckpointKey, dom.AllInstances(), dom.Key(), domain(2).AllInstances())
		if diff := cmp.Diff(want, contents(got)); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		i := slices.IndexFunc(got, func(e projections.Entry) bool { return e.Key == events.CheckpointKey })
		if got[i].Revision != rev {
			t.Errorf("the checkpoint's revision is %d, not %d", got[i].Revision, rev)
		}
	})
	t.Run("all", func(t *testing.T) {
		var got []projections.Entry
		if err := b.All(ctx, func(e projections.Entry) error { got = append(got, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(got)); diff != "" {
			t.Error(diff)
		}
		stop := errors.New("stop")
		if err := b.All(ctx, func(projections.Entry) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
	})
	t.Run("purge", func(t *testing.T) {
		next, err := b.Write(ctx, []projections.Entry{{Key: dom.InstanceKey("i0000")}, {Key: dom.InstanceKey("i0001"), Value: []byte("new")}, {Key: "domain.never.there"}}, []byte("c2"), rev)
		if err != nil {
			t.Fatal(err)
		}
		rev = next
		delete(want, dom.InstanceKey("i0000"))
		want[dom.InstanceKey("i0001")], want[events.CheckpointKey] = "new", "c2"
		got, err := b.Read(ctx, events.CheckpointKey, dom.AllInstances())
		if diff := cmp.Diff(want, contents(got)); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		var all []projections.Entry
		if err := b.All(ctx, func(e projections.Entry) error { all = append(all, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(all)); diff != "" {
			t.Error(diff)
		}
		// To any other client it is a bucket like all others.
		js, _ := natsjs.New(nc)
		kv, err := js.KeyValue(ctx, "epum_state")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Get(ctx, string(dom.InstanceKey("i0000"))); !errors.Is(err, natsjs.ErrKeyNotFound) {
			t.Error(err)
		}
		if e, err := kv.Get(ctx, "checkpoint"); err != nil || string(e.Value()) != "c2" || e.Revision() != rev {
			t.Errorf("%v, %v", e, err)
		}
	})
	t.Run("conflict", func(t *testing.T) {
		var conflict *events.ConflictError
		for _, guard := range []uint64{0, rev - 1, rev + 5} {
			_, err := b.Write(ctx, []projections.Entry{{Key: dom.InstanceKey("i0002"), Value: []byte("mine")}}, []byte("c3"), guard)
			if !errors.As(err, &conflict) || conflict.Got != rev {
				t.Errorf("revision %d: %v", guard, err)
			}
		}
		got, err := b.Read(ctx, dom.InstanceKey("i0002"))
		if err != nil || len(got) != 1 || string(got[0].Value) != `{"n":2}` {
			t.Errorf("half a batch was written: %v, %v", got, err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		next, err := b.Write(ctx, instances(domain(2), 999), []byte("c4"), rev)
		if err != nil {
			t.Fatal(err)
		}
		rev = next
		if _, err := b.Read(ctx, dom.AllInstances(), domain(2).AllInstances()); !errors.Is(err, projections.ErrTooMany) {
			t.Error(err)
		}
		if got, err := b.Read(ctx, domain(2).AllInstances()); err != nil || len(got) != 999 {
			t.Errorf("%d, %v", len(got), err)
		}
		if _, err := b.Write(ctx, instances(dom, 1000), nil, rev); !errors.Is(err, jetstream.ErrRefused) {
			t.Error(err)
		}
		if _, err := b.Write(ctx, []projections.Entry{{Key: dom.Key(), Value: bytes.Repeat([]byte("x"), 1<<20)}}, nil, rev); !errors.Is(err, jetstream.ErrRefused) {
			t.Error(err)
		}
	})
	t.Run("a purged checkpoint", func(t *testing.T) {
		js, _ := natsjs.New(nc)
		kv, err := js.KeyValue(ctx, "epum_state")
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Purge(ctx, "checkpoint"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(ctx, nil, []byte("c5"), 0); err != nil {
			t.Error(err)
		}
	})
}

func TestBucket_Read_cutShort(t *testing.T) {
	t.Parallel()
	cell, _ := newCell(t)
	b := cell.State()
	// The server ends an answer at 64 MiB; a hole in it must not pass for the end.
	rev := uint64(0)
	for n := range 80 {
		next, err := b.Write(t.Context(), []projections.Entry{{Key: domain(1).InstanceKey(fmt.Sprint(n)), Value: []byte(strings.Repeat("x", 1000<<10))}}, []byte("c"), rev)
		if err != nil {
			t.Fatal(err)
		}
		rev = next
	}
	if got, err := b.Read(t.Context(), domain(1).AllInstances()); !errors.Is(err, projections.ErrTooMany) && !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestBucket_Write_race(t *testing.T) {
	cell, nc := newCell(t)
	buckets := []*jetstream.Bucket{cell.State(), openCell(t, nc, jetstream.Config{Process: "p2"}).State()}
	rev := uint64(0)
	for round := range 30 {
		var won []uint64
		var mu sync.Mutex
		var group sync.WaitGroup
		for w, b := range buckets {
			group.Go(func() {
				next, err := b.Write(t.Context(), instances(domain(w), 5), []byte("same"), rev)
				_, conflict := errors.AsType[*events.ConflictError](err)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, next)
				} else if !conflict {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: winners %v", round, won)
		}
		rev = won[0]
	}
}

func TestBucket_gone(t *testing.T) {
	cell, nc := newCell(t)
	b, ctx := cell.State(), t.Context()
	rev, err := b.Write(ctx, instances(domain(1), 2), []byte("c"), 0)
	if err != nil {
		t.Fatal(err)
	}
	js, _ := natsjs.New(nc)
	if err := js.DeleteStream(ctx, "KV_epum_state"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(ctx, events.CheckpointKey); !errors.Is(err, jetstream.ErrBucketGone) || !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("read: %v", err)
	}
	if _, err := b.Write(ctx, instances(domain(1), 2), []byte("c"), rev); !errors.Is(err, jetstream.ErrBucketGone) {
		t.Errorf("write: %v", err)
	}
	if err := b.All(ctx, func(projections.Entry) error { return nil }); !errors.Is(err, jetstream.ErrBucketGone) {
		t.Errorf("all: %v", err)
	}
	for range 2 {
		if err := b.Ensure(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Write(ctx, instances(domain(1), 2), []byte("c"), 0); err != nil {
		t.Errorf("write to the new bucket: %v", err)
	}
	if info := rawStream(t, nc, "KV_epum_state").CachedInfo(); !info.Config.AllowAtomicPublish {
		t.Error("the new bucket takes no batches")
	}
}
