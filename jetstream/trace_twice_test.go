package jetstream

import (
	"testing"

	"github.com/seed-524e47bf/epum/events"
)

// TestTrace_Twice: as many events as there should be, but one of them twice, are not all.
func TestTrace_Twice(t *testing.T) {
	t.Parallel()
	for want, seqs := range map[bool][]uint64{false: {9, 4, 7}, true: {9, 4, 9}} {
		tr := &trace{}
		for _, seq := range seqs {
			tr.found = append(tr.found, events.Recorded{Envelope: events.Envelope{Seq: seq}})
		}
		if tr.twice() != want || tr.found[0].Seq != 4 {
			t.Errorf("%v: %v", seqs, !want)
		}
	}
}
