package phantomoverflow

import (
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// The breaker of a site: after so many launches in a row that failed, with nothing
// running there since, none is launched there for a while; then one at a time is,
// until one runs.
const (
	opensAfter = 3
	firstPause = 10 * time.Second // doubling with each further failure after a pause
	mostPause  = 10 * time.Minute
)

// breaker is what the engine keeps in its memory of a site whose launches fail.
// What it counts are the instances' records, each once: those that failed after
// FailedAt. So it needs no more of them, however early they are reaped.
type breaker struct {
	Failures int       `json:"failures"` // in a row
	Pauses   int       `json:"pauses"`   // so far; 0: it has not opened
	FailedAt time.Time `json:"failed_at"`
}

// until is when the current pause ends; zero: there is none.
func (b breaker) until() time.Time {
	if b.Pauses == 0 {
		return time.Time{}
	}
	pause := mostPause
	if b.Pauses < 7 { // 10 s x 2^6 is more than ten minutes
		pause = min(firstPause<<(b.Pauses-1), mostPause)
	}
	return b.FailedAt.Add(pause)
}

// count brings the breaker up to date with a site's instances.
func (b breaker) count(instances []*events.Instance) breaker {
	ran := time.Time{}
	for _, i := range instances {
		if i.RunningTime.After(ran) {
			ran = i.RunningTime
		}
	}
	if !ran.Before(b.FailedAt) {
		b = breaker{FailedAt: ran}
	}
	paused, last := b.until(), b.FailedAt
	for _, i := range instances {
		if i.FailedToRun() && i.StateTime.After(b.FailedAt) {
			b.Failures++
			if i.StateTime.After(last) {
				last = i.StateTime
			}
		}
	}
	if b.Failures == 0 {
		return breaker{}
	}
	b.FailedAt = last.UTC()
	// What was under way when a pause began and fails in it only puts its end off.
	if b.Failures >= opensAfter && !last.Before(paused) {
		b.Pauses++
	}
	return b
}

// gate is what may be launched at a site now.
type gate struct {
	breaker
	opens   time.Time // nothing is, before then; zero: no bound
	probing bool      // one at a time is
}

// gateOf judges a site by its breaker, and by the back-off in which the leader
// would hold launches there anyway.
func gateOf(b breaker, instances []*events.Instance, site string, now time.Time) gate {
	g := gate{breaker: b, opens: b.until(), probing: b.Pauses > 0}
	if held, _ := engines.BackOff(instances, site); held.After(g.opens) {
		g.opens = held
	}
	if !g.opens.After(now) {
		g.opens = time.Time{}
	}
	return g
}

// reason says why a site is not used as it could be; "": it is.
func (g gate) reason(site string) string {
	switch {
	case !g.opens.IsZero():
		return fmt.Sprintf("; site %s is passed over until %s, since its last %d launches failed",
			site, g.opens.UTC().Format(time.TimeOnly), g.Failures)
	case g.probing:
		return fmt.Sprintf("; site %s is tried with one launch at a time, since its last %d launches failed", site, g.Failures)
	}
	return ""
}
