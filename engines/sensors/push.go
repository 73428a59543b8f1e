package sensors

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// PushName is what engine_conf.sensor_type calls the source that samples are pushed
// to.
const PushName = "nats"

const (
	// pushKept is how long a pushed sample counts: as long as the longest
	// sample_period.
	pushKept = 24 * time.Hour
	// pushSweep is how often what is older goes.
	pushSweep = 10 * time.Minute
	// pushSamples is how many samples of one series are kept, the newest.
	pushSamples = 200
	// pushSeries is how many series one domain may have.
	pushSeries = 10_000
	// pushRoom bounds them all, in samples; with 16 bytes each about 128 MiB.
	pushRoom = 8 << 20
	// seriesRoom is what a series takes besides its samples, in samples.
	seriesRoom = 16
)

// Push is the source nats: samples that were pushed, in memory. Add gives it those
// of the stream, in any order; the metrics and the domains are whatever is pushed.
// What is too much goes: of a series all but the newest 200 samples, of a domain new
// series above 10,000, and when all take too much, the older half of each series of
// the domain that takes the most.
//
// It is safe for concurrent use.
type Push struct {
	clock  func() time.Time
	pushed func(events.DomainID)
	limit  int

	mu      sync.Mutex
	domains map[events.DomainID]*pushedDomain
	room    int       // that all take
	swept   time.Time // when what is too old went last
}

type pushedDomain struct {
	series map[seriesKey][]pushedSample // by time
	room   int
}

type seriesKey struct{ instance, metric string }

// pushedSample is a Sample in half the room.
type pushedSample struct {
	at    int64 // Unix milliseconds
	value float64
}

// NewPush makes the source. clock tells the time (nil: time.Now). pushed is called
// with the domain of each sample that was added, so that whoever leads decides soon,
// and must not block; nil: nobody is told.
func NewPush(clock func() time.Time, pushed func(events.DomainID)) *Push {
	if clock == nil {
		clock = time.Now
	}
	return &Push{clock: clock, pushed: pushed, limit: pushRoom, domains: map[events.DomainID]*pushedDomain{}}
}

// Add takes a sample.
func (p *Push) Add(s events.Sample) {
	if p.add(s) && p.pushed != nil {
		p.pushed(s.Domain)
	}
}

// add says whether it has kept the sample.
func (p *Push) add(s events.Sample) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	if now.Sub(p.swept) >= pushSweep {
		p.sweep(now)
	}
	if now.Sub(s.Time) > pushKept {
		return false
	}
	d := p.domains[s.Domain]
	if d == nil {
		d = &pushedDomain{series: map[seriesKey][]pushedSample{}}
		p.domains[s.Domain] = d
	}
	key := seriesKey{instance: s.Instance, metric: s.Metric}
	series, known := d.series[key]
	if !known && len(d.series) >= pushSeries {
		return false
	}
	p.replace(d, key, insert(series, pushedSample{at: s.Time.UnixMilli(), value: s.Value}))
	for p.room > p.limit {
		p.shrink()
	}
	return true
}

// insert adds a sample by its time, mostly at the end, to a series that keeps the
// newest.
func insert(series []pushedSample, s pushedSample) []pushedSample {
	n := len(series)
	for n > 0 && series[n-1].at > s.at {
		n--
	}
	if len(series) < pushSamples {
		return slices.Insert(series, n, s)
	}
	if n > 0 { // the oldest makes room
		copy(series, series[1:n])
		series[n-1] = s
	}
	return series
}

// replace puts a series in the place of what was there; one without samples goes.
func (p *Push) replace(d *pushedDomain, key seriesKey, series []pushedSample) {
	was := d.room
	if old, known := d.series[key]; known {
		d.room -= len(old) + seriesRoom
	}
	if len(series) > 0 {
		d.series[key] = series
		d.room += len(series) + seriesRoom
	} else {
		delete(d.series, key)
	}
	p.room += d.room - was
}

// sweep drops what is too old.
func (p *Push) sweep(now time.Time) {
	p.swept = now
	oldest := now.Add(-pushKept).UnixMilli()
	for id, d := range p.domains {
		for key, series := range d.series {
			if n := firstFrom(series, oldest); n > 0 {
				p.replace(d, key, slices.Clone(series[n:]))
			}
		}
		if len(d.series) == 0 {
			delete(p.domains, id)
		}
	}
}

// shrink halves the series of the domain that takes the most.
func (p *Push) shrink() {
	var largest *pushedDomain
	for _, d := range p.domains {
		if largest == nil || d.room > largest.room {
			largest = d
		}
	}
	for key, series := range largest.series {
		p.replace(largest, key, slices.Clone(series[len(series)-len(series)/2:]))
	}
}

// firstFrom is the index of the first sample at a time or later.
func firstFrom(series []pushedSample, at int64) int {
	n, _ := slices.BinarySearchFunc(series, at, func(s pushedSample, at int64) int { return cmp.Compare(s.at, at) })
	return n
}

// Fetch implements Source. It has no end of the period: all that is there was
// pushed by now, and a clock that is a little ahead is no reason to miss a sample.
func (p *Push) Fetch(_ context.Context, q Query) (Series, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := Series{}
	d := p.domains[q.Domain]
	if d == nil {
		return found, nil
	}
	from := q.From.UnixMilli()
	take := func(whose, instance string) {
		series := d.series[seriesKey{instance: instance, metric: q.Metric}]
		for _, s := range series[firstFrom(series, from):] {
			found[whose] = append(found[whose], Sample{Time: time.UnixMilli(s.at).UTC(), Value: s.value})
		}
	}
	if q.OfDomain {
		take(engines.OfDomain, "")
	}
	for _, i := range q.Instances {
		take(i.ID, i.ID)
	}
	return found, nil
}

// Forget drops all samples of a domain.
func (p *Push) Forget(id events.DomainID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.domains[id]; d != nil {
		p.room -= d.room
		delete(p.domains, id)
	}
}
