package sensors

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// TestPush_room: who pushes the most loses the older half, and nobody else does.
func TestPush_room(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := NewPush(func() time.Time { return now }, nil)
	p.limit = 1000
	quiet, loud := events.DomainID{Owner: "alice", Name: "web"}, events.DomainID{Owner: "bob", Name: "flood"}
	for n := range 100 {
		p.Add(events.Sample{Domain: quiet, Instance: "i1", Metric: "load", Time: now, Value: float64(n)})
	}
	for n := range 5000 {
		p.Add(events.Sample{Domain: loud, Instance: fmt.Sprint(n % 700), Metric: "load", Time: now, Value: float64(n)})
		total := 0
		for _, d := range p.domains {
			room := 0
			for _, series := range d.series {
				room += len(series) + seriesRoom
			}
			if room != d.room {
				t.Fatalf("it takes %d, and counts %d", room, d.room)
			}
			total += room
		}
		if total != p.room || total > p.limit {
			t.Fatalf("all take %d of %d, it counts %d", total, p.limit, p.room)
		}
	}
	if got := len(p.domains[quiet].series[seriesKey{"i1", "load"}]); got != 100 {
		t.Errorf("%d samples of the quiet one are left", got)
	}
	if p.domains[loud] == nil || len(p.domains[loud].series) == 0 {
		t.Error("nothing of the loud one is left")
	}
	now = now.Add(25 * time.Hour)
	p.Add(events.Sample{Domain: quiet, Metric: "load", Time: now})
	if len(p.domains) != 1 || p.room != 1+seriesRoom {
		t.Errorf("%d domains, room for %d", len(p.domains), p.room)
	}
}
