package jetstream_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestBucket_All_underWrites: a document that stays is given however much is
// written beside it, and the read ends.
func TestBucket_All_underWrites(t *testing.T) {
	cell, _ := newCell(t)
	b, dom := cell.State(), domain(1)
	const documents = 3 * 999
	all := instances(dom, documents)
	var rev uint64
	for n := 0; n < documents; n += 999 {
		var err error
		if rev, err = b.Write(t.Context(), all[n:n+999], []byte("c"), rev); err != nil {
			t.Fatal(err)
		}
	}
	const stay = documents / 2 // all[:stay] are written no more
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	var batches atomic.Int64
	go func() {
		rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test wants to be repeatable
		for ctx.Err() == nil {
			some := make([]projections.Entry, 100)
			for i := range some {
				some[i] = all[stay+rnd.IntN(documents-stay)]
			}
			var err error
			if rev, err = b.Write(context.WithoutCancel(ctx), some, []byte("c"), rev); err != nil {
				written <- err
				return
			}
			batches.Add(1)
		}
		written <- nil
	}()
	for round := range 40 {
		began := batches.Load()
		eventually(t, func() error {
			if batches.Load() == began {
				return errors.New("no write is under way")
			}
			return nil
		})
		seen := map[events.Key]bool{}
		if err := b.All(ctx, func(e projections.Entry) error { seen[e.Key] = true; return nil }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, e := range all[:stay] {
			if !seen[e.Key] {
				t.Fatalf("round %d: %s was not given", round, e.Key)
			}
		}
	}
	stop()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}
