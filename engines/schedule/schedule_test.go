package schedule_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine need not have a database of zones

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/schedule"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/engines/targettracking"
	"github.com/seed-524e47bf/epum/events"
)

// kind is the engine over two others.
func kind() engines.Kind {
	var registry *engines.Registry
	k := schedule.Kind(func(class string) (engines.Kind, bool) { return registry.Lookup(class) })
	registry = engines.NewRegistry("simplest", simplest.Kind("local"), targettracking.Kind(), k)
	return k
}

const tracking = `"engine_class":"target_tracking","engine_conf":{"metric":"queue","sensor_type":"nats","monitor_domain_sensors":["queue"],
	"target_value":1,"maximum_vms":20,"stabilization_window":0,"scale_out_cooldown":0,"iaas_site":"s","iaas_allocation":"a","deployable_type":"d"}`

func fixed(schedules string) string {
	return `{"schedules":[` + schedules + `],"engine_conf":{"preserve_n":1}}`
}

func tracked(schedules string) string { return `{"schedules":[` + schedules + `],` + tracking + `}` }

// TestEngine_InForce: the entry that fired last is in force.
func TestEngine_InForce(t *testing.T) {
	const (
		weekdays = `{"cron":"0 8 * * mon-fri","size":5},{"cron":"0 18 * * *","size":2}`
		berlin   = `{"cron":"30 2 * * *","time_zone":"Europe/Berlin","size":7},{"cron":"0 1 * * *","time_zone":"Europe/Berlin","size":3}`
	)
	for _, tt := range []struct {
		name, conf, now string
		wanted          int
		since           string // "": none is in force
	}{
		{"the one of before the weekend", weekdays, "2026-03-01T12:00:00Z", 2, "2026-02-28T18:00:00Z"},
		{"just before", weekdays, "2026-03-02T07:59:59.999Z", 2, "2026-03-01T18:00:00Z"},
		{"at the second", weekdays, "2026-03-02T08:00:00Z", 5, "2026-03-02T08:00:00Z"},
		{"until the next", weekdays, "2026-03-02T17:59:59Z", 5, "2026-03-02T08:00:00Z"},
		{"at once: the last of the list", `{"cron":"0 8 * * *","size":5},{"cron":"0 8 * * *","size":6}`, "2026-03-02T09:00:00Z", 6, "2026-03-02T08:00:00Z"},
		{"capitals", `{"cron":"0 8 * MAR THU","size":5}`, "2026-03-06T00:00:00Z", 5, "2026-03-05T08:00:00Z"},
		{"either day will do", `{"cron":"0 0 13 * fri","size":5}`, "2026-03-12T00:00:00Z", 5, "2026-03-06T00:00:00Z"},
		{"the day of the month", `{"cron":"0 0 10 * fri","size":5}`, "2026-03-12T00:00:00Z", 5, "2026-03-10T00:00:00Z"},
		{"once a year", `{"cron":"0 0 1 4 *","size":5}`, "2026-03-31T23:59:00Z", 5, "2025-04-01T00:00:00Z"},
		{"once a year, over a leap day", `{"cron":"0 0 1 1 *","size":5}`, "2024-12-31T23:59:00Z", 5, "2024-01-01T00:00:00Z"},
		{"a leap day of long ago", `{"cron":"0 0 29 2 *","size":5}`, "2026-03-01T00:00:00Z", 1, ""},
		{"a leap day", `{"cron":"0 0 29 2 *","size":5}`, "2024-12-01T00:00:00Z", 5, "2024-02-29T00:00:00Z"},
		{"a zone", `{"cron":"0 8 * * *","time_zone":"America/New_York","size":5}`, "2026-03-02T13:00:00Z", 5, "2026-03-02T13:00:00Z"},
		{"a zone of half hours", `{"cron":"0 8 * * *","time_zone":"Asia/Kolkata","size":5}`, "2026-03-02T02:30:00Z", 5, "2026-03-02T02:30:00Z"},

		// Europe/Berlin goes from 02:00 to 03:00 at 01:00Z of March 29th, 2026, and
		// from 03:00 to 02:00 at 01:00Z of October 25th.
		{"before the gap", berlin, "2026-03-29T00:59:59Z", 3, "2026-03-29T00:00:00Z"},
		{"when the gap ends", berlin, "2026-03-29T01:00:00Z", 7, "2026-03-29T01:00:00Z"},
		{"behind the gap", berlin, "2026-03-29T12:00:00Z", 7, "2026-03-29T01:00:00Z"},
		{"the day after", berlin, "2026-03-30T00:30:00Z", 7, "2026-03-30T00:30:00Z"},
		{"in the doubled hour, the first time", berlin, "2026-10-25T00:30:00Z", 7, "2026-10-25T00:30:00Z"},
		{
			"in the doubled hour, the second time", berlin + `,{"cron":"45 2 * * *","time_zone":"Europe/Berlin","size":9}`, "2026-10-25T01:30:00Z", 9,
			"2026-10-25T00:45:00Z",
		},
		{"behind the doubled hour", berlin, "2026-10-25T12:00:00Z", 7, "2026-10-25T00:30:00Z"},
		{"midnight in a gap", `{"cron":"0 0 * * *","time_zone":"America/Santiago","size":5}`, "2026-09-06T04:00:00Z", 5, "2026-09-06T04:00:00Z"},
		{"a day left out", `{"cron":"0 12 30 12 *","time_zone":"Pacific/Apia","size":5}`, "2011-12-30T11:00:00Z", 5, "2011-12-30T10:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := enginetest.New(t, kind(), fixed(tt.conf))
			w.Now = at(t, tt.now)
			d := w.Decide(t)
			if since := saw(t, d).Since; d.Target != tt.wanted || since != tt.since {
				t.Errorf("%d since %q, want %d since %q: %s", d.Target, since, tt.wanted, tt.since, d.Reason)
			}
		})
	}
}

func at(t rapid.TB, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.UTC()
}

type seen struct {
	Entry *int
	Since string
	Class string
	Inner json.RawMessage
}

func saw(t rapid.TB, d enginetest.Step) (s seen) {
	t.Helper()
	if err := json.Unmarshal(d.Saw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEngine_LastFire compares with a clock that is looked at each minute: an entry
// fires in a minute that the clock shows for the first time, and where the clock is
// put forward, for all that it left out.
func TestEngine_LastFire(t *testing.T) {
	const most = 4 * 24 * 60 // minutes
	rapid.Check(t, func(t *rapid.T) {
		minutes := rapid.SliceOfNDistinct(rapid.IntRange(0, 59), 1, 4, rapid.ID).Draw(t, "minutes")
		hours := rapid.SliceOfNDistinct(rapid.IntRange(0, 23), 1, 24, rapid.ID).Draw(t, "hours")
		days := rapid.SliceOfNDistinct(rapid.IntRange(0, 6), 4, 7, rapid.ID).Draw(t, "days")
		name := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo"}).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		// Often close to where the clock changes.
		now := time.Date(2017, 1, 1, 0, 0, rapid.IntRange(0, 59).Draw(t, "second"), 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 500*24*60).Draw(t, "now")) * time.Minute)
		if _, end := now.In(zone).ZoneBounds(); !end.IsZero() && rapid.Bool().Draw(t, "close") {
			now = end.Add(time.Duration(rapid.IntRange(-200, 200).Draw(t, "minutes off")) * time.Minute).UTC()
		}
		fires := func(wall time.Time) bool {
			return slices.Contains(minutes, wall.Minute()) && slices.Contains(hours, wall.Hour()) && slices.Contains(days, int(wall.Weekday()))
		}
		w := enginetest.New(t, kind(), fixed(fmt.Sprintf(`{"cron":"%s %s * * %s","time_zone":%q,"size":2}`, list(minutes), list(hours), list(days), name)))
		w.Now = now
		got := saw(t, w.Decide(t)).Since
		want := now.Truncate(time.Minute)
		for n := 0; ; n++ {
			if n > most {
				if got != "" && at(t, got).After(want) {
					t.Fatalf("%s: fired at %s, found none down to %s", now, got, want)
				}
				return
			}
			if shown := wall(want, zone); firesIn(shown, wall(want.Add(-time.Minute), zone), want, zone, fires) {
				break
			}
			want = want.Add(-time.Minute)
		}
		if got != want.Format(time.RFC3339) {
			t.Fatalf("%s: fired at %s, want %s", now, got, want.Format(time.RFC3339))
		}
	})
}

// firesIn reports whether one of the times that the clock comes to in a minute,
// from what it showed a minute before, fires.
func firesIn(shown, before, minute time.Time, zone *time.Location, fires func(time.Time) bool) bool {
	for back := 1; back <= 180; back++ { // was it shown already?
		if wall(minute.Add(-time.Duration(back)*time.Minute), zone).Equal(shown) {
			return false
		}
	}
	if !shown.After(before) {
		return fires(shown)
	}
	for passed := before.Add(time.Minute); !passed.After(shown); passed = passed.Add(time.Minute) {
		if fires(passed) {
			return true
		}
	}
	return false
}

func wall(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.Add(time.Duration(offset) * time.Second)
}

func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}

// TestEngine_Overlay: the sizes of an entry hold for the inner engine, whose memory
// outlives a change of the entry.
func TestEngine_Overlay(t *testing.T) {
	w := enginetest.New(t, kind(), tracked(`{"cron":"0 13 * * *","minimum":4,"maximum":6},{"cron":"0 14 * * *","maximum":2}`))
	step := func(now string, queue float64, wanted int, reason string) enginetest.Step {
		t.Helper()
		w.Now = at(t, now)
		w.Settle()
		w.OfDomain("queue", queue)
		d := w.Decide(t)
		if d.Target != wanted || !strings.Contains(d.Reason, reason) || w.Healthy() != wanted {
			t.Fatalf("at %s: %d, %d there, %q; want %d, %q", now, d.Target, w.Healthy(), d.Reason, wanted, reason)
		}
		return d
	}
	w.Memory = json.RawMessage(`{"class":"simplest","inner":{"wanted":9}}`) // of another inner engine
	step("2026-03-02T12:00:00Z", 0, 0, "schedule 1 (0 14 * * * UTC) holds since 2026-03-01T14:00:00Z: ")
	step("2026-03-02T12:59:59Z", 9, 2, "from 0 to 2 of at most 2")
	first := step("2026-03-02T13:00:00Z", 0, 4, "schedule 0 (0 13 * * * UTC) holds since 2026-03-02T13:00:00Z: ")
	if s := saw(t, first); s.Entry == nil || *s.Entry != 0 || s.Class != "target_tracking" || !strings.Contains(string(s.Inner), `"target_value"`) {
		t.Errorf("saw %s", first.Saw)
	}
	if !strings.Contains(string(w.Memory), `"entry":0,"class":"target_tracking","inner":{"wanted":4`) {
		t.Errorf("keeps %s", w.Memory)
	}
	step("2026-03-02T13:10:00Z", 9, 6, "from 4 to 6 of at most 6")
	quiet := step("2026-03-02T13:20:00Z", 6, 6, "keep 6")
	if again := step("2026-03-02T13:30:00Z", 6, 6, "keep 6"); string(quiet.Memory) != string(again.Memory) {
		t.Errorf("%s became %s", quiet.Memory, again.Memory)
	}
	step("2026-03-02T14:00:00Z", 6, 2, "schedule 1")
}

// TestEngine_Reconfigure: the inner engine may become another, and a config that is
// refused changes nothing.
func TestEngine_Reconfigure(t *testing.T) {
	w := enginetest.New(t, kind(), fixed(`{"cron":"0 8 * * *","size":3}`))
	if d := w.Decide(t); d.Target != 3 {
		t.Fatal(d.Reason)
	}
	w.Reconfigure(t, fixed(`{"cron":"0 8 * * *","size":4}`))
	if d := w.Decide(t); d.Target != 4 {
		t.Fatal(d.Reason)
	}
	w.Reconfigure(t, tracked(`{"cron":"0 8 * * *","minimum":1}`))
	w.Settle()
	w.OfDomain("queue", 7)
	if d := w.Decide(t); d.Target != 7 {
		t.Fatal(d.Reason)
	}
	e, err := kind().New(json.RawMessage(w.Conf), w.Memory)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Reconfigure(json.RawMessage(`{}`)); err == nil {
		t.Error("an empty config is taken")
	}
	if d, err := e.Decide(w.View()); err != nil || d.Target != 7 {
		t.Errorf("%d, %v", d.Target, err)
	}
}

// TestEngine_Life: whatever the provisioner does and whenever it is asked, also when
// time goes back in a replay, the domain has the size of the entry that fired last,
// and the decision is the same with whatever the engine had in force before.
func TestEngine_Life(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := enginetest.New(t, kind(), fixed(`{"cron":"0 * * * *","size":4},{"cron":"20 */2 * * *","size":0},{"cron":"40 * * * *","time_zone":"Asia/Kolkata","size":9}`))
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			w.Now = w.Now.Add(time.Duration(rapid.IntRange(-3000, 6000).Draw(t, "seconds")) * time.Second)
			want := 4
			switch minute := w.Now.Minute(); { // 40 past in Kolkata is 10 past here
			case w.Now.Hour()%2 == 0 && minute >= 20:
				want = 0
			case minute >= 10:
				want = 9
			}
			if d := w.Decide(t); d.Target != want || w.Healthy()+d.Held != want {
				t.Fatalf("at %s: %d, want %d: %s", w.Now, d.Target, want, d.Reason)
			}
			w.Misbehave(t)
		}
		w.Now = w.Now.Add(24 * time.Hour) // the same entry is in force, and no launch is held back
		w.Decide(t)
		w.Settle()
		if d := w.Decide(t); len(d.Launches)+len(d.Terminations) > 0 || d.State != events.EngineStable {
			t.Fatalf("does not come to rest: %s", d.Reason)
		}
	})
}

func TestKind_Inner(t *testing.T) {
	k := kind()
	conf := json.RawMessage(tracked(`{"cron":"0 8 * * *","minimum":1}`))
	want := engines.Sensing{Source: "nats", Domain: []string{"queue"}, Statistic: "Average", Period: 90e9, Data: []float64{0}}
	if diff := cmp.Diff(want, k.Sensing(conf)); diff != "" {
		t.Error(diff)
	}
	if q := k.Question(conf); q.Subject != "" {
		t.Errorf("asks %q", q.Subject)
	}
	if s := k.Sensing(json.RawMessage(fixed(`{"cron":"0 8 * * *","size":1}`))); s.Source != "" {
		t.Errorf("reads %q", s.Source)
	}
	asking := simplest.Kind("s")
	asking.Question = func(inner json.RawMessage) engines.Question { return engines.Question{Subject: string(inner)} }
	k = schedule.Kind(func(string) (engines.Kind, bool) { return asking, true })
	if q := k.Question(json.RawMessage(fixed(`{"cron":"0 8 * * *","size":1}`))); q.Subject != `{"preserve_n":1}` {
		t.Errorf("asks %q", q.Subject)
	}
}

func BenchmarkEngine_Decide(b *testing.B) {
	w := enginetest.New(b, kind(), tracked(`{"cron":"0 8 * * mon-fri","time_zone":"Europe/Berlin","maximum":2000},{"cron":"0 18 * * *","maximum":2000}`))
	w.Add(1000, events.Running)
	w.OfDomain("queue", 990)
	e, err := w.Kind.New(json.RawMessage(w.Conf), nil)
	if err != nil {
		b.Fatal(err)
	}
	view := w.View()
	enginetest.Measure(b, e, view)
}

// BenchmarkEngine_DecideManyEntries: as many as there may be, that rarely fire.
func BenchmarkEngine_DecideManyEntries(b *testing.B) {
	w := enginetest.New(b, kind(), fixed(strings.TrimSuffix(strings.Repeat(`{"cron":"59 23 31 12 *","time_zone":"Europe/Berlin","size":1},`, 100), ",")))
	e, err := w.Kind.New(json.RawMessage(w.Conf), nil)
	if err != nil {
		b.Fatal(err)
	}
	view := w.View()
	enginetest.Measure(b, e, view)
}
