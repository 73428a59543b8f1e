package passes

import (
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// The delay before launches that failed are tried again (design §6): 1 s,
// doubling to 60 s, for each domain and site.
const (
	firstDelay = time.Second
	mostDelay  = time.Minute
)

// attemptedLaunch is a launch that is due, and the how manieth attempt it is.
type attemptedLaunch struct {
	engines.Launch
	attempt int // 0: nothing has failed before it
}

// heldBack is what a back-off keeps from being launched.
type heldBack struct {
	count   int
	site    string    // one of the sites
	attempt int       // of the next attempt there
	until   time.Time // when the first site is tried again
}

func (h heldBack) reason() string {
	return fmt.Sprintf("; %d launches at site %s wait for attempt %d, at %s, since launches failed there",
		h.count, h.site, h.attempt, h.until.UTC().Format(time.TimeOnly))
}

// holdBack sorts out the launches at sites that are in a back-off.
func holdBack(l *look, launches []engines.Launch) (due []attemptedLaunch, held heldBack) {
	if len(launches) == 0 {
		return nil, held
	}
	type site struct {
		until   time.Time
		attempt int
	}
	sites := map[string]site{}
	due = make([]attemptedLaunch, 0, len(launches))
	for _, launch := range launches {
		s, known := sites[launch.Site]
		if !known {
			s.until, s.attempt = backOff(l.instances, launch.Site)
			sites[launch.Site] = s
		}
		if !s.until.After(l.view.Now) {
			due = append(due, attemptedLaunch{Launch: launch, attempt: s.attempt})
			continue
		}
		held.count++
		if held.until.IsZero() || s.until.Before(held.until) {
			held.site, held.until, held.attempt = launch.Site, s.until, s.attempt
		}
	}
	return due, held
}

// backOff says from when on launches at a site may be tried, and the how manieth
// attempt that is; zero where nothing has failed since an instance last reached
// RUNNING there. It needs no memory of its own: the instances that failed hold
// their attempts, so the next leader comes to the same.
func backOff(instances []*events.Instance, site string) (until time.Time, attempt int) {
	var ran, failed time.Time
	for _, i := range instances {
		if i.Site == site && i.RunningTime.After(ran) {
			ran = i.RunningTime
		}
	}
	for _, i := range instances {
		if i.Site != site || !i.FailedToRun() || !i.StateTime.After(ran) {
			continue
		}
		attempt = max(attempt, i.Attempt+1)
		if i.StateTime.After(failed) {
			failed = i.StateTime
		}
	}
	if attempt == 0 {
		return time.Time{}, 0
	}
	return failed.Add(delayOf(attempt)), attempt
}

// delayOf is the pause before the nth further attempt.
func delayOf(n int) time.Duration {
	if n > 6 { // 2^6 s is more than a minute
		return mostDelay
	}
	return min(firstDelay<<(n-1), mostDelay)
}
