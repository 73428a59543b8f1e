package backtest

import (
	"math/rand/v2"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// cloud is how provisioners and instances behaved in a history.
type cloud struct {
	random   *rand.Rand
	sites    map[string]*sample[outcome] // what came of launches, by site
	all      sample[outcome]
	endings  sample[time.Duration]        // from the wish to terminate to the end
	failures sample[events.InstanceState] // of what ran, unasked for
	ills     sample[events.Health]        // of what ran
	firstOK  sample[time.Duration]        // from RUNNING to the first OK
	ran      time.Duration                // all instances together

	launched map[string]time.Time // instance id → its launch, until it runs or ends
}

// outcome is what came of a launch.
type outcome struct {
	state events.InstanceState // RUNNING, or how it failed
	after time.Duration
}

// mostDrawn is how many of each kind are kept to draw from: a fair sample of all.
const mostDrawn = 4096

// mostSites bounds how many sites have a sample of their own.
const mostSites = 64

// sample is a fair sample of what was seen.
type sample[T any] struct {
	kept []T
	seen int
}

func (s *sample[T]) add(random *rand.Rand, x T) {
	s.seen++
	if len(s.kept) < mostDrawn {
		s.kept = append(s.kept, x)
	} else if n := random.IntN(s.seen); n < mostDrawn {
		s.kept[n] = x
	}
}

// draw draws one; the zero one where there is none.
func (s *sample[T]) draw(random *rand.Rand) (x T) {
	if len(s.kept) > 0 {
		x = s.kept[random.IntN(len(s.kept))]
	}
	return x
}

func newCloud(seed uint64) *cloud {
	const stream = 0x65_70_75_6d
	return &cloud{
		random: rand.New(rand.NewPCG(seed, stream)), //nolint:gosec // to be the same again
		sites:  map[string]*sample[outcome]{}, launched: map[string]time.Time{},
	}
}

// know takes an instance that was there before the history begins.
func (c *cloud) know(i *events.Instance) {
	if i.State == events.Requesting {
		c.launched[i.ID] = i.StateTime
	}
}

// learn takes what an event made of an instance; nil: there is none.
func (c *cloud) learn(env events.Envelope, before, after *events.Instance) {
	switch {
	case after == nil && before != nil:
		delete(c.launched, before.ID)
	case after == nil:
	case before == nil:
		c.launched[after.ID] = env.Time
	default:
		c.learnState(env, before, after)
		c.learnHealth(env, before, after)
	}
}

func (c *cloud) learnState(env events.Envelope, before, after *events.Instance) {
	if before.State == after.State {
		return
	}
	if before.State == events.Running {
		c.ran += env.Time.Sub(before.RunningTime)
		if !after.Unwanted {
			c.failures.add(c.random, after.State)
		}
	}
	if before.State == events.Terminating && after.State.Terminal() {
		c.endings.add(c.random, env.Time.Sub(before.StateTime))
	}
	launched, known := c.launched[after.ID]
	if !known || after.State < events.Running {
		return
	}
	delete(c.launched, after.ID)
	if after.Unwanted {
		return // nobody knows what would have come of it
	}
	o := outcome{state: after.State, after: env.Time.Sub(launched)}
	c.all.add(c.random, o)
	site := c.sites[after.Site]
	if site == nil {
		if len(c.sites) == mostSites {
			return
		}
		site = &sample[outcome]{}
		c.sites[after.Site] = site
	}
	site.add(c.random, o)
}

func (c *cloud) learnHealth(env events.Envelope, before, after *events.Instance) {
	if after.State != events.Running || before.Health == after.Health {
		return
	}
	if after.Unhealthy() && !before.Unhealthy() {
		c.ills.add(c.random, after.Health)
	}
	if before.HealthyTime.IsZero() && !after.HealthyTime.IsZero() {
		c.firstOK.add(c.random, env.Time.Sub(after.RunningTime))
	}
}

// end counts what still runs at the end of the history.
func (c *cloud) end(s *events.State, now time.Time) {
	for i := range s.AllInstances() {
		if i.State == events.Running {
			c.ran += now.Sub(i.RunningTime)
		}
	}
}

// launch draws what comes of a launch at a site.
func (c *cloud) launch(site string) outcome {
	s := &c.all
	if own := c.sites[site]; own != nil {
		s = own
	}
	o := s.draw(c.random)
	if o.state == "" { // none was ever seen
		o.state = events.Running
	}
	return o
}

// until draws how long what happened so many times to what ran takes to happen;
// ok is false where it never does.
func (c *cloud) until(times int) (d time.Duration, ok bool) {
	const longest = 100 * 365 * 24 * time.Hour
	if times == 0 || c.ran <= 0 {
		return 0, false
	}
	after := c.random.ExpFloat64() * float64(c.ran) / float64(times)
	return time.Duration(min(after, float64(longest))), true
}
