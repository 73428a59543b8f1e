package passes

import (
	"fmt"
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
