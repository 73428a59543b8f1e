package passes

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
