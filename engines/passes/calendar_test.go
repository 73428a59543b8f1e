package passes

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

func TestCalendar(t *testing.T) {
	c := newCalendar[string](began)
	in := func(d time.Duration) time.Time { return began.Add(d) }
	if got := c.take(in(time.Hour)); got != nil {
		t.Errorf("empty: %q", got)
	}
	if next := c.next(in(time.Hour)); !next.Equal(in(time.Hour)) {
		t.Errorf("empty: next at %s", next)
	}
	c.put(in(30*time.Millisecond), "30")
	c.put(in(-time.Hour), "before the start")
	c.put(in(21*time.Millisecond), "21")
	c.put(in(time.Second), "1000")
	c.put(in(1001*time.Millisecond), "1001")
	if next := c.next(in(time.Hour)); next.After(in(0)) {
		t.Errorf("next at %s", next)
	}
	for _, step := range []struct {
		at   time.Duration
		want []string
	}{
		{29 * time.Millisecond, []string{"before the start"}},
		{30 * time.Millisecond, []string{"30", "21"}}, // up to a tick late, never early
		{999 * time.Millisecond, nil},
		{time.Second, []string{"1000"}},
		{1009 * time.Millisecond, nil},
		{1010 * time.Millisecond, []string{"1001"}},
	} {
		if diff := cmp.Diff(step.want, c.take(in(step.at))); diff != "" {
			t.Errorf("at %s: %s", step.at, diff)
		}
	}
	if len(c.slots) != 0 || len(c.order) != 0 {
		t.Errorf("%d slots, %d ticks are left", len(c.slots), len(c.order))
	}
}

// TestAlarms: a domain is woken once, however often that is asked for.
func TestAlarms(t *testing.T) {
	a := newAlarms(began)
	x, y := events.DomainID{Owner: "o", Name: "x"}, events.DomainID{Owner: "o", Name: "y"}
	for range 1000 {
		a.set(at(10), x)
	}
	if n := len(a.due.slots); n != 1 {
		t.Errorf("%d slots", n)
	}
	a.set(at(20), x) // whoever is woken at 10 says so again
	a.set(at(15), y)
	a.set(at(5), y)
	for _, step := range []struct {
		second, next int
		woken        map[events.DomainID]bool
	}{
		{4, 5, map[events.DomainID]bool{}},
		{5, 10, map[events.DomainID]bool{y: true}},
		{10, 15, map[events.DomainID]bool{x: true}},
		{30, 60, map[events.DomainID]bool{}},
	} {
		if diff := cmp.Diff(step.woken, a.take(at(step.second))); diff != "" {
			t.Errorf("at %d: %s", step.second, diff)
		}
		if next := a.next(at(60)); !next.Equal(at(step.next)) {
			t.Errorf("at %d: next at %s, want %d", step.second, next, step.next)
		}
	}
	if len(a.at) != 0 || len(a.due.slots) != 0 {
		t.Errorf("%d alarms, %d slots are left", len(a.at), len(a.due.slots))
	}
}
