package passes

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

func unitsOf(sizes ...int) []*unit {
	var units []*unit
	for n, size := range sizes {
		u := &unit{}
		for k := range size {
			u.drafts = append(u.drafts, events.Draft{ID: fmt.Sprintf("%d.%d", n, k)})
		}
		units = append(units, u)
	}
	return units
}

func TestCut(t *testing.T) {
	tests := []struct {
		name  string
		sizes []int
		limit int
		n     int
		ids   []string
	}{
		{"nothing", nil, 3, 0, nil},
		{"all fit", []int{1, 2}, 3, 2, []string{"0.0", "1.0", "1.1"}},
		{"the last does not", []int{1, 2, 1}, 3, 2, []string{"0.0", "1.0", "1.1"}},
		{"a unit is never cut", []int{2, 2}, 3, 1, []string{"0.0", "0.1"}},
		{"at least one", []int{3, 1}, 1, 1, []string{"0.0", "0.1", "0.2"}},
	}
	for _, tt := range tests {
		n, drafts := cut(unitsOf(tt.sizes...), tt.limit)
		var ids []string
		for _, d := range drafts {
			ids = append(ids, d.ID)
		}
		if n != tt.n || cmp.Diff(tt.ids, ids) != "" {
			t.Errorf("%s: %d units with %q; want %d with %q", tt.name, n, ids, tt.n, tt.ids)
		}
	}
}

func TestHolds(t *testing.T) {
	id := events.DomainID{Owner: "o", Name: "d"}
	s := events.NewState()
	for n, e := range []struct {
		key events.Key
		ev  events.Event
	}{
		{events.LeaderKey, events.LeaderElected{Process: "p"}},
		{id.Key(), events.DomainAdded{DefinitionID: "x"}},
		{id.DecisionKey(), events.DecisionMade{DomainSeq: 2}},
		{id.InstanceKey("i"), events.LaunchRequested{}},
		{id.InstanceKey("i"), events.StateChanged{State: events.Pending}},
	} {
		events.Apply(s, events.Envelope{Key: e.key, Seq: uint64(n + 1)}, e.ev)
	}
	guard := func(key events.Key, seq uint64) events.Draft {
		return events.Draft{Guard: events.Guard{Key: key, Seq: seq}}
	}
	tests := []struct {
		name   string
		drafts []events.Draft
		want   bool
	}{
		{"nothing", nil, true},
		{"no guards", []events.Draft{{Key: id.Key()}, {Key: id.InstanceKey("i")}}, true},
		{"all hold", []events.Draft{guard(id.DecisionKey(), 3), guard(id.Key(), 2), guard(id.InstanceKey("new"), 0), guard(id.InstanceKey("i"), 5)}, true},
		{"the domain moved", []events.Draft{guard(id.DecisionKey(), 3), guard(id.Key(), 1)}, false},
		{"the decision moved", []events.Draft{guard(id.DecisionKey(), 2), guard(id.Key(), 2)}, false},
		{"the instance moved", []events.Draft{{}, guard(id.InstanceKey("i"), 4)}, false},
		{"the instance is gone", []events.Draft{guard(id.InstanceKey("old"), 4)}, false},
		{"the instance is there", []events.Draft{guard(id.InstanceKey("i"), 0)}, false},
	}
	for _, tt := range tests {
		if got := holds(s, tt.drafts); got != tt.want {
			t.Errorf("%s: holds %v", tt.name, got)
		}
	}
}

// appendLog keeps the batches that were appended.
type appendLog struct {
	Log
	batches [][]events.Draft
}

// AppendFenced implements Log.
func (l *appendLog) AppendFenced(_ context.Context, _ uint64, _ events.Draft, drafts []events.Draft) (uint64, error) {
	l.batches = append(l.batches, drafts)
	return uint64(len(l.batches)), nil
}

func TestPacker_Add(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name    string
		units   []*unit
		batches []string // the ids in each
	}{
		{"nothing", nil, nil},
		{"up to 8 MiB", sized([]int{3 * mib}, []int{3 * mib}, []int{2 * mib}), []string{"0.0 1.0 2.0"}},
		{"a byte more", sized([]int{3 * mib}, []int{3 * mib}, []int{2*mib + 1}), []string{"0.0 1.0", "2.0"}},
		{"all drafts count", sized([]int{mib, 3 * mib}, []int{2 * mib, 2 * mib}, []int{1}), []string{"0.0 0.1 1.0 1.1", "2.0"}},
		{"counted anew in each batch", sized([]int{5 * mib}, []int{5 * mib}, []int{3 * mib}, []int{5 * mib}), []string{"0.0", "1.0 2.0", "3.0"}},
		{"one unit is never cut", sized([]int{mib}, []int{5 * mib, 5 * mib}, []int{mib}), []string{"0.0", "1.0 1.1", "2.0"}},
		{"a unit of nothing", sized([]int{8 * mib}, nil, []int{1}), []string{"0.0", "2.0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := &appendLog{}
			b := newBench(t)
			b.term.Log, b.term.NewID = log, func() string { return "pass" }
			b.term.outbox, b.term.doctor, b.term.changes = newOutbox(b.term), newDoctor(b.term), b.term.Replica.NewFeed(nil)
			p := &packer{term: b.term, pass: PassDecide, result: &Result{}}
			for _, u := range tt.units {
				if err := p.add(t.Context(), outcome{unit: u}); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			var batches []string
			for _, batch := range log.batches {
				var ids []string
				for _, d := range batch {
					ids = append(ids, d.ID)
				}
				batches = append(batches, strings.Join(ids, " "))
			}
			if diff := cmp.Diff(tt.batches, batches); diff != "" {
				t.Errorf("batches (-want +got):\n%s", diff)
			}
		})
	}
}

// sized are units of one draft for each of the numbers of bytes.
func sized(sizes ...[]int) []*unit {
	units := make([]*unit, len(sizes))
	for n, bodies := range sizes {
		units[n] = unitsOf(len(bodies))[0]
		for k, size := range bodies {
			units[n].drafts[k].ID = fmt.Sprintf("%d.%d", n, k)
			units[n].drafts[k].Body = make([]byte, size)
		}
	}
	return units
}
