package passes

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// sections are sections of configs that have been read; few differ. It is safe for
// concurrent use.
type sections[T any] struct {
	parse func(json.RawMessage) (T, error)

	mu   sync.RWMutex
	read map[string]*T // section → what it says
}

// mostSections is how many are kept; beyond that they are read anew.
const mostSections = 10_000

// of gives what a section says; the defaults where there is none.
func (c *sections[T]) of(section json.RawMessage) *T {
	c.mu.RLock()
	said := c.read[string(section)]
	c.mu.RUnlock()
	if said != nil {
		return said
	}
	parsed, err := c.parse(section)
	if err != nil { // no such config was ever accepted
		parsed, _ = c.parse(nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil || len(c.read) >= mostSections {
		c.read = map[string]*T{}
	}
	c.read[string(section)] = &parsed
	return &parsed
}

// healthOf gives a domain's health config; the defaults where there is no domain.
func (t *Term) healthOf(d *events.Domain) *engines.Health {
	if d == nil {
		return t.health.of(nil)
	}
	return t.health.of(d.Config.Health)
}

// diagnose is the doctor's table (design §6): the health that an instance of a
// monitored domain has come to, and, where that is the one it has, when to look
// again (zero: not before something happens to it). heard is its last heartbeat
// since the election, zero where there was none.
func diagnose(i *events.Instance, heard, elected, now time.Time, c *engines.Health) (health events.Health, again time.Time) {
	switch {
	case i.State >= events.Terminating:
		return diagnoseEnding(i, heard, now, c)
	case i.Health == events.HealthOutOfContact:
		return after(i.Health, events.HealthMissing, later(heard, elected), c.ReallyMissingTimeout, now)
	case i.Health == events.HealthMissing || i.State != events.Running:
		return i.Health, time.Time{}
	case !heard.IsZero():
		return after(i.Health, events.HealthOutOfContact, heard, c.MissingTimeout, now)
	case i.Health == events.HealthUnknown:
		return after(i.Health, events.HealthOutOfContact, later(i.StateTime, elected), c.BootTimeout, now)
	}
	return after(i.Health, events.HealthOutOfContact, later(i.StateTime, elected), c.MissingTimeout, now)
}

// diagnoseEnding is diagnose for what ought to be gone, or to be going.
func diagnoseEnding(i *events.Instance, heard, now time.Time, c *engines.Health) (health events.Health, again time.Time) {
	switch {
	case heard.IsZero(), now.Sub(heard) > c.Zombie:
		return events.HealthUnknown, time.Time{}
	case heard.Sub(i.StateTime) > c.Zombie:
		return events.HealthZombie, heard.Add(c.Zombie)
	case i.Health != events.HealthUnknown:
		return i.Health, heard.Add(c.Zombie)
	}
	return events.HealthUnknown, time.Time{}
}

// after is the other health once more than a time-out has passed since a time;
// until then the instance keeps its own.
func after(own, other events.Health, since time.Time, timeout time.Duration, now time.Time) (events.Health, time.Time) {
	if now.Sub(since) > timeout {
		return other, time.Time{}
	}
	return own, since.Add(timeout)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
