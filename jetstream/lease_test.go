package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func always() bool { return true }

func leaseCells(t *testing.T, ttl time.Duration) (a, b *jetstream.Lease, js natsjs.JetStream) {
	t.Helper()
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return openCell(t, nc, jetstream.Config{LeaseTTL: ttl}).Lease(), openCell(t, nc, jetstream.Config{LeaseTTL: ttl, Process: "p2"}).Lease(), js
}

func TestLease_Take(t *testing.T) {
	t.Parallel()
	a, b, js := leaseCells(t, time.Second)
	ctx := t.Context()
	if _, err := a.Holder(ctx); !errors.Is(err, projections.ErrNotFound) {
		t.Fatal(err)
	}
	if err := a.WaitFree(ctx); err != nil {
		t.Fatal(err)
	}
	held, release, err := a.Take(ctx, "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Take(ctx, "p2", always); !errors.Is(err, events.ErrLeaseHeld) {
		t.Errorf("the second: %v", err)
	}
	// It is renewed well beyond its time.
	until := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(until) {
		if p, err := b.Holder(ctx); err != nil || p != "p1" || held.Err() != nil {
			t.Fatalf("%q, %v, %v", p, err, context.Cause(held))
		}
		time.Sleep(50 * time.Millisecond)
	}
	free := make(chan time.Time, 1)
	go func() {
		if err := b.WaitFree(ctx); err == nil {
			free <- time.Now()
		}
	}()
	eventually(t, func() error {
		stream, err := js.Stream(ctx, "KV_epum_leases")
		if err == nil && stream.CachedInfo().State.Consumers == 0 {
			return errors.New("nobody watches yet")
		}
		return err
	})
	released := time.Now()
	release()
	release()
	if held.Err() == nil {
		t.Error("still held after release")
	}
	took := (<-free).Sub(released)
	t.Logf("handed over after %s", took)
	if took > 900*time.Millisecond { // not by the poll
		t.Errorf("handed over after %s", took)
	}
	if _, release, err := b.Take(ctx, "p2", always); err != nil {
		t.Error(err)
	} else {
		release()
	}
}

func TestLease_expires(t *testing.T) {
	t.Parallel()
	a, b, _ := leaseCells(t, time.Second)
	var healthy atomic.Bool
	healthy.Store(true)
	held, release, err := a.Take(t.Context(), "p1", healthy.Load)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	healthy.Store(false)
	if err := b.WaitFree(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held.Err() == nil {
		t.Fatal("it expired while its holder held it")
	}
	_, second, err := b.Take(t.Context(), "p2", always)
	if err != nil {
		t.Fatal(err)
	}
	defer second()
	// The first gives nothing back that is not its own.
	release()
	if p, err := b.Holder(t.Context()); err != nil || p != "p2" {
		t.Errorf("%q, %v", p, err)
	}
}

func TestLease_lost(t *testing.T) {
	t.Parallel()
	a, _, js := leaseCells(t, 2*time.Second)
	kv, err := js.KeyValue(t.Context(), "epum_leases")
	if err != nil {
		t.Fatal(err)
	}
	held, release, err := a.Take(t.Context(), "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "leader", []byte("thief")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Done():
	case <-time.After(patience):
		t.Fatal("still held")
	}
	release()
	if p, err := a.Holder(t.Context()); err == nil && p != "thief" {
		t.Errorf("%q", p)
	}
}

func TestLease_parentEnds(t *testing.T) {
	t.Parallel()
	a, _, _ := leaseCells(t, time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	held, release, err := a.Take(ctx, "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-held.Done()
	release()
	if _, err := a.Holder(t.Context()); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("not released: %v", err)
	}
	if err := a.WaitFree(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLease_serverGone(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	lease := openCell(t, connect(t, srv.ClientURL()), jetstream.Config{LeaseTTL: time.Second}).Lease()
	held, release, err := lease.Take(t.Context(), "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	srv.Shutdown()
	select {
	case <-held.Done():
	case <-time.After(patience):
		t.Fatal("still held")
	}
	if since := time.Since(began); since > 5*time.Second {
		t.Errorf("held for %s without renewal", since)
	}
	release()
	if _, _, err := lease.Take(t.Context(), "p1", always); !errors.Is(err, events.ErrUnavailable) {
		t.Error(err)
	}
}

func TestLease_oneHolder(t *testing.T) {
	t.Parallel()
	a, b, _ := leaseCells(t, time.Second)
	var holders, terms atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	errs := make(chan error, 2)
	for n, lease := range []*jetstream.Lease{a, b} {
		go func() {
			for terms.Load() < 20 && ctx.Err() == nil {
				if err := lease.WaitFree(ctx); err != nil {
					errs <- err
					return
				}
				_, release, err := lease.Take(ctx, fmt.Sprint("p", n), always)
				if errors.Is(err, events.ErrLeaseHeld) {
					continue
				}
				if err != nil {
					errs <- err
					return
				}
				if holders.Add(1) > 1 {
					errs <- errors.New("two holders")
					return
				}
				terms.Add(1)
				holders.Add(-1)
				release()
			}
			errs <- nil
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if terms.Load() < 20 {
		t.Errorf("%d terms", terms.Load())
	}
}

// TestLease_bucketGone: when somebody deletes the bucket, its holder's time ends,
// and the lease can be taken again.
func TestLease_bucketGone(t *testing.T) {
	t.Parallel()
	a, b, js := leaseCells(t, time.Second)
	ctx := t.Context()
	held, release, err := a.Take(ctx, "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := js.DeleteStream(ctx, "KV_epum_leases"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Done():
	case <-time.After(patience):
		t.Fatal("the lease goes on without its bucket")
	}
	if err := b.WaitFree(ctx); err != nil {
		t.Fatal(err)
	}
	_, releaseB, err := b.Take(ctx, "p2", always)
	if err != nil {
		t.Fatal(err)
	}
	defer releaseB()
	if p, err := a.Holder(ctx); err != nil || p != "p2" {
		t.Fatalf("%q, %v", p, err)
	}
}
