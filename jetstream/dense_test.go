package jetstream_test

import (
	"slices"
	"testing"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestLog_HistoryDense reads a domain out of a log that it is a large part of, and one
// that it is a small part of: in both ways just what is its own, in order.
func TestLog_HistoryDense(t *testing.T) {
	t.Parallel()
	const many = 1500
	for _, oneIn := range []int{1, 3, 40} {
		cell, _ := newCell(t)
		log := cell.Log()
		want := []uint64{}
		for n := range many {
			of := domain(1)
			if n%oneIn != 0 {
				of = domain(2 + n%2)
			}
			d := launches(1, of, 1)[0]
			if n%5 == 0 {
				d = guarded(of.DecisionKey(), 0, events.DecisionMade{Reason: "r"})
				d.Guard = events.Guard{}
			}
			if seq := mustAppend(t, log, d); of == domain(1) {
				want = append(want, seq)
			}
		}
		q := projections.Query{Keys: []events.Key{domain(1).Key(), domain(1).DecisionKey(), domain(1).AllInstances()}}
		if got := recall(t, log, q); !slices.Equal(got, want) {
			t.Errorf("one in %d: %d events, want %d", oneIn, len(got), len(want))
		}
		q.From, q.To = projections.Point{Seq: 100}, projections.Point{Seq: 1200}
		part := slices.DeleteFunc(want, func(seq uint64) bool { return seq < 100 || seq > 1200 })
		if got := recall(t, log, q); !slices.Equal(got, part) {
			t.Errorf("a part of one in %d: %d events, want %d", oneIn, len(got), len(part))
		}
		if got := recall(t, log, projections.Query{Keys: []events.Key{"instance.alice.>"}}); len(got) < many/2 {
			t.Errorf("%d instances", len(got))
		}
	}
}
