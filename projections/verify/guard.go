package verify

import (
	"strconv"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// checkEpoch checks that an event is of the leader that the log has, if it is a leader's.
func (c *checker) checkEpoch(r *message) {
	epoch, leads, text := c.state.Leader().Epoch, r.leads, r.headers.CEEpoch
	switch {
	case leads && r.Epoch == 0:
		c.wrong(r, KindEpoch, "only a leader appends %s, and it has no %s", r.Type, events.HeaderCEEpoch)
	case r.Epoch > 0 && r.Epoch != epoch:
		c.wrong(r, KindEpoch, "it is of the leader that was elected at %d, and the last election before it is %d: that one was deposed", r.Epoch, epoch)
	case !leads && len(text) > 0 && known(r.Event):
		c.wrong(r, KindEpoch, "no leader appends %s, and it has the %s %s", r.Type, events.HeaderCEEpoch, text[0])
	}
}

// known reports whether an event is of a type that this version knows.
func known(ev events.Event) bool {
	u, unknown := ev.(events.Unknown)
	return !unknown || u.Err != nil
}

// leadersOwn reports whether only a leader appends events of a type.
func leadersOwn(typ string) bool {
	switch typ {
	case events.TypeDomainRemoved, events.TypeLaunchRequested, events.TypeTerminateRequested, events.TypeHealthChanged,
		events.TypeReaped, events.TypeDecisionMade, events.TypePassCommitted:
		return true
	}
	return false
}

// rule is the guard that an event has to have (design §6).
type rule struct {
	key   events.Key
	none  bool // there must be none
	fresh bool // it has to expect that there is nothing
}

// ruleOf is the rule for an event. It notes which decision an action is of.
func (c *checker) ruleOf(r *message) rule {
	switch r.Type {
	case events.TypePassCommitted:
		return rule{key: events.LeaderKey}
	case events.TypeLaunchRequested, events.TypeTerminateRequested:
		first, ok := c.act(r)
		switch {
		case !ok || !r.named:
			return rule{} // that is a finding of its own
		case first:
			return rule{key: r.domain.Key()}
		case r.Type == events.TypeTerminateRequested:
			return rule{none: true}
		}
		return rule{key: r.Key, fresh: true}
	}
	return rule{key: r.Key}
}

// checkGuard checks that an event has the guard that it must have.
func (c *checker) checkGuard(r *message) {
	want := c.ruleOf(r)
	text := r.headers.Guard
	switch {
	case want.none && len(text) > 0:
		c.wrong(r, KindGuard, "it has a guard, which a further termination of a decision has not")
	case want == rule{} || want.none:
	case len(text) == 0:
		c.wrong(r, KindGuard, "it has no guard: anything could have been appended before it")
	default:
		c.checkExpected(r, want, text)
	}
}

// checkExpected checks that a guard is on what it has to be on, and names the last message
// there before its append.
func (c *checker) checkExpected(r *message, want rule, text []string) {
	seq, err := strconv.ParseUint(text[0], 10, 64)
	key := c.guardKey(r)
	switch last := c.lastOf(key); {
	case err != nil || len(text) > 1:
		c.wrong(r, KindGuard, "its guard is no number: %q", text)
	case key != want.key:
		c.wrong(r, KindGuard, "its guard is on %s, and has to be on %s", key, want.key)
	case want.fresh && seq > 0:
		c.wrong(r, KindGuard, "its guard expects event %d, and has to expect that there is none", seq)
	case r.Type == events.TypePassCommitted && seq != r.Epoch:
		c.wrong(r, KindGuard, "its fence is %d, and its leader was elected at %d", seq, r.Epoch)
	case seq != last:
		c.wrong(r, KindGuard, "it was appended behind event %d of %s, and the last one there before it is %d: an event is missing, added or moved", seq, key, last)
	case c.batch != nil && c.batch.wrote(last):
		c.wrong(r, KindGuard, "its guard on %s stands behind an event of it in its batch", key)
	}
}

// guardKey is the key that a guard is on.
func (c *checker) guardKey(r *message) events.Key {
	other := r.headers.GuardSubject
	if len(other) == 0 {
		return r.Key
	}
	return events.Key(strings.TrimPrefix(other[0], strings.TrimSuffix(r.Subject, string(r.Key))))
}
