package projections_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestReplica_HealedLeader has a stream's leader that was cut off and replaced: for
// a moment after the cut heals it gives an old end that looks as good as any.
func TestReplica_HealedLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		cut := time.Now().Add(time.Minute)
		healed := cut.Add(5 * time.Second)
		log.end = func(context.Context, int) (projections.Position, error) {
			p := projections.Position{Seq: 1, Created: created, Leader: "n1"}
			switch since := time.Since(healed); {
			case time.Until(cut) > 0: // it leads
			case since < 0:
				return projections.Position{}, projections.ErrNoQuorum // it is cut off
			case since > 20*time.Millisecond:
				p.Seq, p.Leader = 2, "n2" // it has heard of its successor
			}
			return p, nil
		}
		for range 2 {
			log.add(events.DomainID{Owner: "al", Name: "web"}.Key(), events.DomainAdded{})
		}
		r := follow(t, log, &memBucket{})
		end := func() (uint64, time.Duration) {
			t.Helper()
			began := time.Now()
			seq, err := r.End(t.Context())
			if err != nil {
				t.Error(err)
			}
			return seq, time.Since(began)
		}
		time.Sleep(30 * time.Second) // nobody asks
		if seq, took := end(); seq != 1 || took != 0 {
			t.Errorf("the end is %d, after %s", seq, took)
		}
		time.Sleep(time.Until(healed))
		if seq, took := end(); seq != 2 || took < 400*time.Millisecond {
			t.Errorf("the end is %d, after %s: said by a leader that was replaced", seq, took)
		}
	})
}

// TestReplica_SteadyLeader has a leader with whose answers nothing is wrong: neither
// one that got lost nor slow ones make the others count for less.
func TestReplica_SteadyLeader(t *testing.T) {
	for name, slow := range map[string]time.Duration{"fast": 10 * time.Millisecond, "slow": 690 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog()
				var lost atomic.Int32 // answers that are to get lost
				log.end = func(ctx context.Context, _ int) (projections.Position, error) {
					if lost.Add(-1) >= 0 {
						<-ctx.Done()
						return projections.Position{}, ctx.Err()
					}
					said := time.Now().Add(slow / 2).Add(-time.Hour) // its clock is another one
					time.Sleep(slow)
					return projections.Position{Created: created, Leader: "n1", Said: said}, nil
				}
				r := follow(t, log, &memBucket{})
				time.Sleep(30 * time.Second)
				lost.Store(1)
				if _, err := r.End(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the answer got lost: %v", err)
				}
				began := time.Now()
				if _, err := r.End(t.Context()); err != nil || time.Since(began) != slow {
					t.Errorf("the end after %s: %v", time.Since(began), err)
				}
			})
		})
	}
}
