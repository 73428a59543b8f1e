package tests

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// soakSites are the sites that the configs of a soak name; the first is the engine's
// default.
var soakSites = []string{"ec2-east", "west"}

// storm is a while in which every launch at a site fails and, of what runs there,
// some or all is ill.
type storm struct {
	pause  time.Duration // before it
	site   string
	lasts  time.Duration
	part   int    // so many quarters are ill
	health string // what their agents say; "": nothing
}

// takes reports whether a vm at the storm's site is ill.
func (s storm) takes(id string) bool {
	return s.part > 0 && int(id[len(id)-1])%4 < s.part // of hexadecimal digits as many have each remainder
}

// stormScript makes up the storms, from a seed alone.
type stormScript struct{ script }

func newStormScript(seed uint64) *stormScript {
	return &stormScript{*newScript(seed, "", "", 2000)}
}

// next keeps storms so short that the pauses between launches, which double with
// each row of failures, end soon after.
func (s *stormScript) next() storm {
	return storm{
		pause: s.between(time.Second, 5*time.Second), site: soakSites[s.IntN(len(soakSites))], lasts: s.between(2*time.Second, 7*time.Second), part: s.IntN(5),
		health: []string{string(events.HealthProcessError), string(events.HealthMonitorError), ""}[s.IntN(3)],
	}
}

// weather brings storms until ctx ends.
func (c *cloud) weather(ctx context.Context, script *stormScript) {
	for {
		s := script.next()
		if !pauseFor(ctx, s.pause) {
			return
		}
		c.mu.Lock()
		c.storms[s.site] = s
		c.stormy++
		c.mu.Unlock()
		pauseFor(ctx, s.lasts)
		c.mu.Lock()
		delete(c.storms, s.site)
		c.mu.Unlock()
	}
}
