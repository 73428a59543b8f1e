package engines_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// scaling is by the domain's metric q, with a cool-down of a minute.
func scaling(least, most int) engines.Thresholds {
	up, down := 2.0, 1.0
	return engines.Thresholds{
		Scaling: engines.Scaling{
			Sensing: engines.Sensing{Source: "nats"}, Minimum: least, Maximum: most,
			Metric: engines.Metric{Name: "q", Domain: true, Fresh: time.Minute, OnMissing: engines.OnMissingHold},
		},
		Up: &up, Down: &down, UpBy: 2, DownBy: 1, Cooldown: time.Minute,
	}
}

// looks is a view of so many running instances, for which q was read (nil: nothing).
func looks(now time.Time, there int, value *float64) *engines.View {
	v := &engines.View{Now: now}
	for range there {
		v.Instances = append(v.Instances, &events.Instance{State: events.Running})
	}
	if value != nil {
		v.Readings = engines.Readings{"q": {engines.OfDomain: {Value: *value, Time: now}}}
	}
	return v
}

func TestThresholds_Follow(t *testing.T) {
	low, mid, high := 0.5, 1.5, 2.5
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	failOut := scaling(1, 9)
	failOut.Metric.OnMissing = engines.OnMissingOut
	endless := scaling(1, engines.Unlimited)
	fixed := scaling(4, 9)
	fixed.Up, fixed.Down = nil, nil
	for _, tt := range []struct {
		name    string
		scaling engines.Thresholds
		last    *engines.Stepped
		there   int
		value   *float64
		want    *engines.Stepped // nil: 4, and nothing is kept
		why     string           // a part of it
	}{
		{"no thresholds", fixed, nil, 0, &high, nil, "no threshold is given: keep the minimum of 4"},
		{"the first time: what is there", scaling(1, 9), nil, 3, &mid, &engines.Stepped{Wanted: 3}, "average q 1.5 of 1 readings is between 1 and 2: stay at 3"},
		{"the first time: at least the minimum", scaling(2, 9), nil, 0, &mid, &engines.Stepped{Wanted: 2}, "stay at 2"},
		{"up", scaling(1, 9), nil, 3, &high, &engines.Stepped{Wanted: 5, At: noon}, "average q 2.5 of 1 readings is above 2: from 3 to 5 of at most 9"},
		{"up without a maximum", endless, nil, 3, &high, &engines.Stepped{Wanted: 5, At: noon}, "from 3 to 5"},
		{"up as far as it may", scaling(1, 4), nil, 3, &high, &engines.Stepped{Wanted: 4, At: noon}, "from 3 to 4 of at most 4"},
		{"up at the maximum", scaling(1, 3), &engines.Stepped{Wanted: 3}, 3, &high, &engines.Stepped{Wanted: 3}, "stay at the maximum of 3"},
		{"up while many are to come", scaling(1, 9), &engines.Stepped{Wanted: 5}, 3, &high, &engines.Stepped{Wanted: 5}, "stay at 5, of which 2 are to come"},
		{"up while one is to come", scaling(1, 9), &engines.Stepped{Wanted: 5}, 4, &high, &engines.Stepped{Wanted: 6, At: noon}, "from 5 to 6"},
		{"up in the cool-down", scaling(1, 9), &engines.Stepped{Wanted: 5, At: ago(59 * time.Second)}, 5, &high, &engines.Stepped{Wanted: 5, At: ago(59 * time.Second)}, "cool-down of the last scale action until 2026-03-01 12:00:01: stay at 5"},
		{"up after the cool-down", scaling(1, 9), &engines.Stepped{Wanted: 5, At: ago(time.Minute)}, 5, &high, &engines.Stepped{Wanted: 7, At: noon}, "from 5 to 7"},
		{"down", scaling(1, 9), &engines.Stepped{Wanted: 5}, 2, &low, &engines.Stepped{Wanted: 4, At: noon}, "is below 1: from 5 to 4"},
		{"down at the minimum", scaling(5, 9), &engines.Stepped{Wanted: 5}, 5, &low, &engines.Stepped{Wanted: 5}, "stay at the minimum of 5"},
		{"the maximum was lowered, also in the cool-down", scaling(1, 3), &engines.Stepped{Wanted: 5, At: ago(time.Second)}, 5, &mid, &engines.Stepped{Wanted: 3, At: ago(time.Second)}, "stay at 3"},
		{"the minimum was raised", scaling(7, 9), &engines.Stepped{Wanted: 5}, 5, &mid, &engines.Stepped{Wanted: 7}, "stay at 7"},
		{"nothing was read", scaling(1, 9), &engines.Stepped{Wanted: 5}, 5, nil, &engines.Stepped{Wanted: 5}, "no fresh q of the domain is known: stay at 5"},
		{"nothing was read: out", failOut, &engines.Stepped{Wanted: 5}, 5, nil, &engines.Stepped{Wanted: 7, At: noon}, "no fresh q of the domain is known and on_missing is fail_out: from 5 to 7"},
	} {
		f := tt.scaling.Follow(looks(noon, tt.there, tt.value), tt.last)
		if diff := cmp.Diff(tt.want, f.Kept); diff != "" || !strings.Contains(f.Reason, tt.why) {
			t.Errorf("%s: %q %s", tt.name, f.Reason, diff)
		}
		if f.Kept != nil && f.Kept.Wanted != f.Wanted || f.Kept == nil && f.Wanted != 4 {
			t.Errorf("%s: wants %d and keeps %+v", tt.name, f.Wanted, f.Kept)
		}
	}
}

// TestThresholds_FollowProperties: never out of the limits, never two steps in a
// cool-down, and what it keeps is kept where nothing happens.
func TestThresholds_FollowProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(0, 5).Draw(t, "minimum")
		s := scaling(least, least+rapid.IntRange(0, 5).Draw(t, "room"))
		var last *engines.Stepped
		var stepped time.Time
		now, there := noon, rapid.IntRange(0, 20).Draw(t, "there")
		for range 30 {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "seconds")) * time.Second)
			value := rapid.Float64Range(0, 3).Draw(t, "value")
			f := s.Follow(looks(now, there, &value), last)
			wanted, kept := f.Wanted, f.Kept
			if wanted < s.Minimum || wanted > s.Maximum {
				t.Fatalf("%d is out of the limits", wanted)
			}
			if last != nil && wanted != last.Wanted {
				if value >= 1 && value <= 2 || !stepped.IsZero() && now.Sub(stepped) < s.Cooldown {
					t.Fatalf("from %d to %d by %g, the last step was at %s", last.Wanted, wanted, value, stepped)
				}
			}
			if kept.At.Equal(now) {
				stepped = now
			}
			data, err := json.Marshal(kept)
			if err != nil {
				t.Fatal(err)
			}
			last = new(engines.Stepped)
			if err := json.Unmarshal(data, last); err != nil {
				t.Fatal(err)
			}
			mid := 1.5
			if again := s.Follow(looks(now, there, &mid), last); !cmp.Equal(kept, again.Kept) {
				t.Fatalf("keeps %+v, and then %+v", kept, again.Kept)
			}
			there = wanted
		}
	})
}
