package tests

import (
	"fmt"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// sent is a command that was sent, once or more, under one id.
type sent struct {
	caller string
	id     string
	seq    uint64 // as it was acknowledged; 0: it never was
}

// checkSent says what in the raw log contradicts the promises of design §6 and
// §3: every acknowledged command is there once, at its sequence; no command is
// there that nobody sent, none twice; no event of an epoch stands behind a later
// election; nothing is launched, terminated or reaped twice.
func checkSent(log []logged, attempts []sent) []string {
	c := logCheck{causes: map[string]uint64{}, ids: map[string]uint64{}, once: map[string]uint64{}}
	for n, l := range log {
		if l.seq != uint64(n+1) {
			c.wrong("event %d is at sequence %d", n+1, l.seq)
		}
		c.event(l)
	}
	known := map[string]bool{}
	for _, a := range attempts {
		cause := a.caller + "/" + a.id
		known[cause] = true
		if a.seq > 0 && c.causes[cause] != a.seq {
			c.wrong("the command %s was acknowledged at %d and is at %d", cause, a.seq, c.causes[cause])
		}
	}
	for cause, seq := range c.causes {
		if !known[cause] {
			c.wrong("%d: nobody sent the command %s", seq, cause)
		}
	}
	return c.problems
}

type logCheck struct {
	epoch    uint64
	causes   map[string]uint64 // of commands → sequence
	ids      map[string]uint64 // ce-id → sequence
	once     map[string]uint64 // what happens once to an instance → sequence
	problems []string
}

func (c *logCheck) wrong(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func (c *logCheck) event(l logged) {
	c.first(c.ids, "the event "+l.id(), l.seq)
	if cause := l.header.Get(events.HeaderCausation); strings.Contains(cause, "/") && l.epoch() == 0 {
		c.first(c.causes, cause, l.seq)
	}
	switch l.typ() {
	case events.TypeLeaderElected:
		c.epoch = l.seq
	case events.TypeLaunchRequested, events.TypeTerminateRequested, events.TypeReaped:
		c.first(c.once, l.typ()+" of "+string(l.key), l.seq)
	}
	if l.epoch() != 0 && l.epoch() != c.epoch {
		c.wrong("%d %s: of epoch %d, the last election is %d", l.seq, l.typ(), l.epoch(), c.epoch)
	}
}

// first notes that something happened; it may do so once.
func (c *logCheck) first(seen map[string]uint64, what string, seq uint64) {
	if before, twice := seen[what]; twice {
		c.wrong("%s is at %d and at %d", what, before, seq)
		return
	}
	seen[what] = seq
}
