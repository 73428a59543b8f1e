package passes

import (
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
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
			s.until, s.attempt = engines.BackOff(l.instances, launch.Site)
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
