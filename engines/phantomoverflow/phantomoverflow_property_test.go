package phantomoverflow_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
	"github.com/seed-524e47bf/epum/events"
)

// tick is the time between two decisions.
const tick = 5 * time.Second

// setting is a domain that the properties are about.
type setting struct {
	sizes            map[string]int // -1: no limit
	order            []string
	minimum, maximum int
	metric           bool
	cut              bool // sizes have just become smaller
}

func drawSetting(t *rapid.T) (s setting, text string) {
	s.sizes = map[string]int{}
	list := ""
	for n := range rapid.IntRange(1, 3).Draw(t, "sites") {
		site := string(rune('a' + n))
		s.sizes[site] = rapid.IntRange(0, 5).Draw(t, "size")
		s.order = append(s.order, site)
	}
	last := s.order[len(s.order)-1]
	s.sizes[last] = rapid.SampledFrom([]int{-1, 6}).Draw(t, "last size")
	for _, site := range s.order {
		list += fmt.Sprintf("%s:%d ", site, s.sizes[site])
	}
	s.minimum = rapid.IntRange(0, 6).Draw(t, "minimum")
	s.maximum = s.minimum + rapid.IntRange(0, 4).Draw(t, "room")
	s.metric = rapid.Bool().Draw(t, "metric")
	more := fmt.Sprintf(`"minimum_vms":%d,"maximum_vms":%d`, s.minimum, s.maximum)
	if s.metric {
		more += fmt.Sprintf(`,"metric":"q","monitor_domain_sensors":["q"],"scale_up_threshold":2,"scale_down_threshold":1,"scale_up_n_vms":%d,"cooldown_period":%d`,
			rapid.IntRange(1, 3).Draw(t, "step"), rapid.IntRange(0, 30).Draw(t, "cooldown"))
	}
	return s, conf(list, more)
}

// check holds what is to be true of each decision.
func (s setting) check(w *enginetest.World, step enginetest.Step) error {
	counts, all, _ := w.Count()
	if all > s.maximum {
		return fmt.Errorf("%d instances, at most %d are allowed", all, s.maximum)
	}
	for _, site := range s.order {
		if size := s.sizes[site]; size >= 0 && counts[site] > size {
			return fmt.Errorf("%d instances at site %s of size %d", counts[site], site, size)
		}
	}
	if step.Held > 0 {
		return fmt.Errorf("the leader holds %d launches back: %s", step.Held, step.Reason)
	}
	healthy, gone := 0, 0
	going := map[string]bool{}
	for _, id := range step.Terminations {
		going[id] = true
	}
	for _, i := range step.Before {
		if i.Valid() && !i.Unhealthy() {
			healthy++
			if going[i.ID] {
				gone++
			}
		}
	}
	if gone > 0 && !s.cut && all < min(s.minimum, healthy) {
		return fmt.Errorf("%d healthy ones were terminated, %d are left of at least %d", gone, all, s.minimum)
	}
	return nil
}

// filled is where a number of instances is, all at the best sites.
func (s setting) filled(n int) map[string]int {
	counts := map[string]int{}
	for _, site := range s.order {
		take := n
		if size := s.sizes[site]; size >= 0 {
			take = min(n, size)
		}
		if n -= take; take > 0 {
			counts[site] = take
		}
	}
	return counts
}

// TestEngine_DecideProperties: whatever the provisioners do, and though each
// decision may be another process's, the limits hold and no launch is held back;
// once the provisioners behave, all that is wanted runs, at the best sites where
// there is room to move, and then nothing is done or written any more.
func TestEngine_DecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, text := drawSetting(t)
		w := enginetest.New(t, phantomoverflow.Kind(), text)
		decide := func() enginetest.Step {
			step := w.Decide(t)
			if err := s.check(w, step); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return step
		}
		change := rapid.IntRange(0, 60).Draw(t, "change") // of the config, then
		for n := range rapid.IntRange(0, 60).Draw(t, "steps") {
			if n == change {
				s, text = drawSetting(t)
				s.cut = true
				w.Reconfigure(t, text)
			}
			w.Now = w.Now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			if n%5 == 0 {
				w.OfDomain("q", rapid.Float64Range(0, 3).Draw(t, "value"))
				w.Down[rapid.SampledFrom(s.order).Draw(t, "site")] = rapid.Bool().Draw(t, "down")
			}
			decide()
			s.cut = false
			w.Misbehave(t)
		}
		clear(w.Down)
		value := rapid.SampledFrom([]float64{0, 1.5, 3}).Draw(t, "last value")
		var quiet int
		var step enginetest.Step
		for n := 0; quiet < 130; n++ { // longer than the longest pause
			if n > 1000 {
				t.Fatalf("%s: does not come to rest: %s", text, step.Reason)
			}
			w.Now = w.Now.Add(tick)
			w.OfDomain("q", value)
			if step = decide(); step.News {
				quiet = 0
			}
			if step.State == events.EngineStable {
				quiet++
			}
			w.Behave()
		}
		s.checkRest(t, w, step.Decision, value)
	})
}

func (s setting) checkRest(t *rapid.T, w *enginetest.World, d engines.Decision, value float64) {
	counts, all, running := w.Count()
	if all != d.Target || running != d.Target {
		t.Fatalf("%d instances, %d of them running, %d are wanted", all, running, d.Target)
	}
	capacity := 0
	for site := range s.sizes {
		if capacity += s.sizes[site]; s.sizes[site] < 0 {
			capacity += s.maximum + 1
		}
	}
	want := d.Target
	switch {
	case !s.metric || value < 1:
		want = s.minimum
	case value > 2:
		want = min(s.maximum, capacity)
	}
	if d.Target != want {
		t.Fatalf("%d are wanted at last, not %d: %s", d.Target, want, d.Reason)
	}
	if filled := s.filled(want); want < s.maximum && fmt.Sprint(counts) != fmt.Sprint(filled) {
		t.Fatalf("they are at %v, not at %v: %s", counts, filled, d.Reason)
	}
	for n := range 20 {
		w.Now = w.Now.Add(tick)
		if w.OfDomain("q", value); value > 1 && value < 2 {
			w.OfDomain("q", 1+float64(n%11)/10) // to and fro between the thresholds
		}
		if step := w.Decide(t); step.News {
			t.Fatalf("at rest, it still does %+v", step.Decision)
		}
	}
}

// TestEngine_Outage: while the best site is down the next one has all, with ever
// fewer tries; once it is up again they move back, without ever fewer running than
// are wanted.
func TestEngine_Outage(t *testing.T) {
	w := enginetest.New(t, phantomoverflow.Kind(), conf("a:8 b:-1", `"minimum_vms":8`))
	launchesAt := func(site string, d time.Duration) (n, least int) {
		least = 8
		for end := w.Now.Add(d); w.Now.Before(end); w.Now = w.Now.Add(tick) {
			step := w.Decide(t)
			if step.Held > 0 {
				t.Fatalf("held back %d", step.Held)
			}
			for _, l := range step.Launches {
				if l.Site == site {
					n++
				}
			}
			_, _, running := w.Count()
			least = min(least, running)
			w.Behave()
		}
		return n, least
	}
	w.Down["a"] = true
	if tries, _ := launchesAt("a", time.Minute); tries > 8+4 {
		t.Errorf("%d launches at a site that is down in the first minute", tries)
	}
	tries, least := launchesAt("a", 2*time.Hour)
	if tries < 8 || tries > 20 || least < 8 {
		t.Errorf("%d tries in two hours, at times %d were running", tries, least)
	}
	w.Down["a"] = false
	_, least = launchesAt("a", 20*time.Minute)
	if counts, all, _ := w.Count(); counts["a"] != 8 || all != 8 || least < 8 {
		t.Errorf("%v, at times %d were running", counts, least)
	}
}

// BenchmarkEngine_Decide decides over 1,000 instances at three sites.
func BenchmarkEngine_Decide(b *testing.B) {
	e := enginetest.Made(b, phantomoverflow.Kind(), conf("a:500 b:500 c:-1", `"minimum_vms":990,"maximum_vms":2000,"metric":"q","monitor_domain_sensors":["q"]`), nil)
	var instances []*events.Instance
	for n := range 1000 {
		i := &events.Instance{
			ID: fmt.Sprintf("i%04d", n), Site: string(rune('a' + n*3/1000)), State: events.Running, Health: events.HealthOK, RunningTime: began, StateTime: began,
		}
		if n%100 == 0 {
			i.State, i.RunningTime, i.StateTime = events.Failed, time.Time{}, at(50)
		}
		instances = append(instances, i)
	}
	v := &engines.View{
		Now: at(100), Instances: instances, MaxActions: enginetest.Many, Memory: []byte(`{"wanted":990}`),
		Readings: engines.Readings{"q": {engines.OfDomain: {Value: 1, Time: at(90)}}},
	}
	enginetest.Measure(b, e, v)
}
