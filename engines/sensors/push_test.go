package sensors_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// pushed is a sample so many seconds before start.
func pushed(instance, metric string, before, value float64) events.Sample {
	s := second(before, value)
	return events.Sample{Domain: web, Instance: instance, Metric: metric, Time: s.Time, Value: s.Value}
}

func atStart() time.Time { return start }

func fetch(t *testing.T, p *sensors.Push, q sensors.Query) sensors.Series {
	t.Helper()
	got, err := p.Fetch(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPush_Fetch(t *testing.T) {
	t.Parallel()
	var told []events.DomainID
	p := sensors.NewPush(atStart, func(d events.DomainID) { told = append(told, d) })
	if got := fetch(t, p, asked("load", true, "i1")); len(got) != 0 {
		t.Error(got)
	}
	for _, s := range []events.Sample{
		pushed("i1", "load", 10, 1), pushed("i1", "load", 30, 2), pushed("i1", "load", 20, 3), pushed("i1", "load", 100, 4), pushed("i1", "load", 90, 5),
		pushed("i2", "load", -30, 6), pushed("", "load", 1, 7), pushed("i1", "other", 1, 8), pushed("i3", "load", 24*3600+1, 9), pushed("stranger", "load", 1, 10),
	} {
		p.Add(s)
	}
	want := sensors.Series{
		"i1": {second(90, 5), second(30, 2), second(20, 3), second(10, 1)}, "i2": {second(-30, 6)}, engines.OfDomain: {second(1, 7)},
	}
	if diff := cmp.Diff(want, fetch(t, p, asked("load", true, "i1", "i2", "i3"))); diff != "" {
		t.Error(diff)
	}
	if len(told) != 9 || told[0] != web {
		t.Errorf("told of %v", told)
	}
	other := asked("load", true, "i1")
	other.Domain.Owner = "bob"
	if got := fetch(t, p, other); len(got) != 0 {
		t.Errorf("another owner's: %v", got)
	}
	p.Forget(web)
	if got := fetch(t, p, asked("load", true, "i1")); len(got) != 0 {
		t.Error(got)
	}
}

// TestPush_bounds: of a series the newest 200, by their times, are there.
func TestPush_bounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := sensors.NewPush(atStart, nil)
		order := rapid.Permutation(seconds(250)).Draw(rt, "order")
		for _, n := range order {
			p.Add(pushed("i1", "load", float64(n), float64(n)))
		}
		q := asked("load", false, "i1")
		q.From = start.Add(-time.Hour)
		got := fetch(t, p, q)["i1"]
		if len(got) != 200 {
			rt.Fatalf("%d samples", len(got))
		}
		for n, s := range got {
			if want := second(float64(199-n), float64(199-n)); s != want {
				rt.Fatalf("sample %d is %+v, want %+v", n, s, want)
			}
		}
	})
}

func seconds(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func TestPush_mostSeries(t *testing.T) {
	t.Parallel()
	p := sensors.NewPush(atStart, nil)
	for n := range 10_001 {
		p.Add(pushed(fmt.Sprint("i", n), "load", 1, 1))
	}
	p.Add(pushed("i5", "load", 0, 2)) // one that is known goes on
	got := fetch(t, p, asked("load", false, "i5", "i9999", "i10000"))
	if len(got["i5"]) != 2 || len(got["i9999"]) != 1 || len(got["i10000"]) != 0 {
		t.Error(got)
	}
}

func TestPush_expiry(t *testing.T) {
	t.Parallel()
	now := start
	p := sensors.NewPush(func() time.Time { return now }, nil)
	p.Add(pushed("i1", "load", 0, 1))
	now = now.Add(25 * time.Hour)
	p.Add(pushed("i2", "load", -3600, 1))
	q := asked("load", false, "i1", "i2")
	q.From = start.Add(-48 * time.Hour)
	if got := fetch(t, p, q); len(got["i1"]) != 0 || len(got["i2"]) != 1 {
		t.Error(got)
	}
}

func TestPush_concurrent(t *testing.T) {
	t.Parallel()
	p := sensors.NewPush(nil, func(events.DomainID) {})
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for n := range 500 {
				p.Add(events.Sample{Domain: web, Instance: fmt.Sprint(w), Metric: "load", Time: time.Now(), Value: float64(n)})
				if n%50 == 0 {
					_, _ = p.Fetch(t.Context(), asked("load", true, "0", "1"))
					p.Forget(events.DomainID{Owner: "nobody"})
				}
			}
		})
	}
	group.Wait()
	q := asked("load", false, "0", "1", "2", "3")
	for id, samples := range fetch(t, p, q) {
		if len(samples) != 200 {
			t.Errorf("%s: %d", id, len(samples))
		}
	}
}
