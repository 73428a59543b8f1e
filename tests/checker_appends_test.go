package tests

import (
	"slices"
	"strconv"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// The headers of JetStream that the server keeps with an event.
const (
	headerGuard        = "Nats-Expected-Last-Subject-Sequence"
	headerGuardSubject = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerBatch        = "Nats-Batch-Id"
)

// guard gives the guard that an event was stored with.
func (l logged) guard() (g events.Guard, ok bool) {
	text := l.header.Get(headerGuard)
	seq, err := strconv.ParseUint(text, 10, 64)
	g = events.Guard{Key: l.key, Seq: seq}
	if subject := l.header.Get(headerGuardSubject); subject != "" {
		_, key, _ := strings.Cut(subject, ".event.") // of any cell
		g.Key = events.Key(key)
	}
	return g, err == nil
}

// leadersOwn are the types of events that only a leader appends.
var leadersOwn = []string{
	events.TypeDomainRemoved, events.TypeLaunchRequested, events.TypeTerminateRequested, events.TypeHealthChanged, events.TypeReaped,
	events.TypeDecisionMade, events.TypePassCommitted,
}

// splitAppends splits a log into what was appended together.
func splitAppends(log []logged) [][]logged {
	var all [][]logged
	for _, l := range log {
		batch := l.header.Get(headerBatch)
		if n := len(all); n > 0 && batch != "" && all[n-1][0].header.Get(headerBatch) == batch {
			all[n-1] = append(all[n-1], l)
		} else {
			all = append(all, []logged{l})
		}
	}
	return all
}

// checkAppend looks at the guards of one append, which all hold before its first
// event, and at whose it is.
func (c *checker) checkAppend(batch []logged) {
	leads := batch[0].epoch() > 0
	if leads {
		c.checkBatch(batch)
	} else if len(batch) > 1 {
		c.find(findFence, "%s: a batch that is no leader's", batch[0])
	}
	decisions := map[string]*decision{}
	for _, l := range batch {
		if !leads && slices.Contains(leadersOwn, l.typ()) {
			c.find(findFence, "%s: only a leader may", l)
		}
		if made, ok := l.decode().(events.DecisionMade); ok {
			decisions[l.id()] = &decision{logged: l, made: made}
		}
		c.checkGuard(l, c.wantGuard(l, decisions))
	}
	for _, l := range batch {
		c.last[l.key] = l.seq
		if l.typ() == events.TypeLeaderElected {
			c.epoch = l.seq
		}
	}
}

// checkBatch checks that a leader's batch starts with its pass, is of the term
// that the log is in, and is whole.
func (c *checker) checkBatch(batch []logged) {
	for _, l := range batch {
		if l.epoch() != c.epoch {
			c.find(findFence, "%s: the last election was at %d", l, c.epoch)
		}
	}
	pass, ok := batch[0].decode().(events.PassCommitted)
	if !ok {
		c.find(findFence, "%s: it stands behind no pass", batch[0])
		return
	}
	launched, terminated := 0, 0
	for _, l := range batch[1:] {
		switch l.typ() {
		case events.TypePassCommitted:
			c.find(findFence, "%s: a pass within a batch", l)
		case events.TypeLaunchRequested:
			launched++
		case events.TypeTerminateRequested:
			terminated++
		}
	}
	if pass.Launched != launched || pass.Terminated != terminated {
		c.find(findFence, "%s says %+v, the batch launches %d and terminates %d", batch[0], pass, launched, terminated)
	}
}

// decision is a decision record and how many of its actions were seen.
type decision struct {
	logged
	made    events.DecisionMade
	actions int
}

// guardRule is the guard that an event has to have.
type guardRule struct {
	key  events.Key
	zero bool // it has to expect that there is nothing
	none bool // there must be none
}

// wantGuard says by what an event has to be guarded (design §6). decisions are
// the records before it in its batch.
func (c *checker) wantGuard(l logged, decisions map[string]*decision) guardRule {
	switch l.typ() {
	case events.TypePassCommitted:
		if g, _ := l.guard(); g.Seq != l.epoch() {
			c.find(findFence, "%s: the fence is %d", l, g.Seq)
		}
		return guardRule{key: events.LeaderKey}
	case events.TypeLaunchRequested, events.TypeTerminateRequested:
		domain, instance, _ := l.key.Parts()
		d := decisions[l.header.Get(events.HeaderCausation)]
		if d == nil || d.key != domain.DecisionKey() ||
			!slices.Contains(d.made.Launches, instance) && !slices.Contains(d.made.Terminations, instance) {
			c.find(findFence, "%s: no decision of its batch names it", l)
			return guardRule{key: l.key}
		}
		d.actions++
		switch {
		case d.actions == 1:
			return guardRule{key: domain.Key()}
		case l.typ() == events.TypeLaunchRequested:
			return guardRule{key: l.key, zero: true}
		}
		return guardRule{none: true} // it commutes with reports
	}
	return guardRule{key: l.key}
}

// checkGuard checks that an event has the guard that it should have, and that it
// names the real predecessor: the last event of that aggregate before the append.
func (c *checker) checkGuard(l logged, want guardRule) {
	g, ok := l.guard()
	switch {
	case want.none && ok:
		c.find(findGuard, "%s: it has one", l)
	case want.none:
	case !ok:
		c.find(findGuard, "%s: there is none", l)
	case g.Key != want.key:
		c.find(findGuard, "%s: it is on %s, not on %s", l, g.Key, want.key)
	case want.zero && g.Seq != 0:
		c.find(findGuard, "%s: it expects %d, not nothing", l, g.Seq)
	case g.Seq != c.last[g.Key]:
		c.find(findGuard, "%s: it expects %d on %s, which was at %d", l, g.Seq, g.Key, c.last[g.Key])
	}
}
