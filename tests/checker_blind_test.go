package tests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestChecker_NotBlind has a log with every kind of event, in which the checker
// finds nothing, and then changes one thing after the other.
func TestChecker_NotBlind(t *testing.T) {
	t.Parallel()
	e := busy(t)
	a := &attempt{
		cmd: commands.ReconfigureDomain{DomainID: "web", Config: tokened(2, "tok-al-1")}, caller: "al", id: "c1", token: "tok-al-1",
	}
	a.send(e.nc, patience)
	e.decide()
	log := e.log()
	expect := expectations{attempts: append(pastAttempts(log, a), a)}
	if findings := checkLog(log, expect); len(findings) > 0 {
		t.Fatalf("findings in a log that is right:\n%s", strings.Join(findings, "\n"))
	}
	for what, mutation := range mutations() {
		changed := make([]logged, 0, len(log))
		for _, l := range log {
			l.header = maps.Clone(l.header)
			changed = append(changed, l)
		}
		changed = mutation.change(changed)
		for n := range changed {
			changed[n].seq = uint64(n + 1)
		}
		findings := checkLog(changed, expect)
		if countFindings(findings, mutation.want) == 0 {
			t.Errorf("%s: no finding %q in %q", what, mutation.want, findings)
		}
	}
	checkLies(t, log, expect, a)
	checkReadLies(t, e, log, expect)
}

// checkLies has the caller be told something else than what happened.
func checkLies(t *testing.T, log []logged, expect expectations, a *attempt) {
	t.Helper()
	for what, lie := range map[string]attempt{
		findLost:  {outcome: acknowledged, seq: a.seq - 1},
		findAlien: {outcome: refused},
	} {
		lie.cmd, lie.caller, lie.id, lie.token = a.cmd, a.caller, a.id, a.token
		lied := expect
		lied.attempts = append(pastAttempts(log, a), &lie)
		if findings := checkLog(log, lied); countFindings(findings, what) == 0 {
			t.Errorf("no finding %q in %q", what, findings)
		}
	}
}

// checkReadLies has the caller be shown something else than what there was.
func checkReadLies(t *testing.T, e *epum, log []logged, expect expectations) {
	t.Helper()
	doc := e.describe("al", "web")
	right := reading{caller: "al", domain: "web", acked: doc.AsOf.Seq, asOf: doc.AsOf.Seq, doc: doc}
	late, other, missing := right, right, right
	late.acked++
	otherDoc := *doc
	otherDoc.Instances = otherDoc.Instances[1:]
	other.doc = &otherDoc
	missing.asOf, missing.doc, missing.added = 0, nil, map[string]uint64{"web": doc.Seq}
	unlisted := missing
	unlisted.domain, unlisted.names = "", []string{"db"}
	for what, r := range map[string]reading{"": right, "too old": late, "without an instance": other, "no domain": missing, "not listed": unlisted} {
		expect.readings = []reading{r}
		if findings := checkLog(log, expect); countFindings(findings, findRead) > 0 != (what != "") {
			t.Errorf("an answer that is %q: findings %q", what, findings)
		}
	}
}

// pastAttempts gives the attempts of all commands of a log but one.
func pastAttempts(log []logged, but *attempt) (all []*attempt) {
	for _, l := range log {
		caller, id, ok := strings.Cut(l.header.Get(events.HeaderCausation), "/")
		if ok && id != but.id {
			all = append(all, &attempt{cmd: pastCommand{of: l}, caller: caller, id: id, outcome: acknowledged, seq: l.seq})
		}
	}
	return all
}

// pastCommand is the command that led to an event.
type pastCommand struct {
	commands.Command
	of logged
}

func (c pastCommand) Op() string {
	for op, typ := range typeOf {
		if typ == c.of.typ() {
			return op
		}
	}
	return ""
}

func (c pastCommand) Key(string) events.Key { return c.of.key }

// mutation makes a log wrong.
type mutation struct {
	want   string // the kind of finding
	change func([]logged) []logged
}

func mutations() map[string]mutation {
	header := func(typ, name, value string) func([]logged) []logged {
		return func(log []logged) []logged {
			n := lastOf(log, typ)
			if log[n].header[name] = []string{value}; value == "" {
				delete(log[n].header, name)
			}
			return log
		}
	}
	all := map[string]mutation{
		"no fence":                  {findGuard, header(events.TypePassCommitted, headerGuard, "")},
		"a fence on another epoch":  {findFence, header(events.TypePassCommitted, headerGuard, "999")},
		"a pass guarded by itself":  {findGuard, header(events.TypePassCommitted, headerGuardSubject, "")},
		"an old epoch":              {findFence, header(events.TypeDecisionMade, events.HeaderCEEpoch, "999")},
		"an action of no decision":  {findFence, header(events.TypeTerminateRequested, events.HeaderCausation, "other")},
		"a guard that did not hold": {findGuard, header(events.TypeDomainReconfigured, headerGuard, "999")},
		"a ce-id that was there": {findDoubled, func(log []logged) []logged {
			log[9].header[events.HeaderID] = log[3].header[events.HeaderID]
			return log
		}},
		"a command that is gone": {findLost, func(log []logged) []logged {
			n := lastOf(log, events.TypeDomainReconfigured)
			return slices.Delete(log, n, n+1)
		}},
		"a command that was doubled": {findDoubled, func(log []logged) []logged { return repeatedIn(log, events.TypeDomainReconfigured) }},
		"an added domain again":      {findDoubled, func(log []logged) []logged { return repeatedIn(log, events.TypeDomainAdded) }},
		"a launch again":             {findDoubled, func(log []logged) []logged { return repeatedIn(log, events.TypeLaunchRequested) }},
		"a report that goes back": {findFold, func(log []logged) []logged {
			log[lastOf(log, events.TypeStateChanged)].body = []byte(`{"state":"100-REQUESTING"}`)
			return log
		}},
		"a caller's event by nobody": {findAlien, header(events.TypeDomainSubscribed, events.HeaderCausation, "al/nobody")},
		"a decision of no leader":    {findFence, header(events.TypeDecisionMade, events.HeaderCEEpoch, "")},
		"a further termination with a guard": {findGuard, func(log []logged) []logged {
			for n := range log { // the second of two in a row
				if n > 0 && log[n].typ() == events.TypeTerminateRequested && log[n-1].typ() == events.TypeTerminateRequested {
					log[n].header[headerGuard] = []string{"1"}
				}
			}
			return log
		}},
		"an election in a term": {findFence, func(log []logged) []logged {
			elected := log[lastOf(log, events.TypeLeaderElected)]
			return slices.Insert(log, lastOf(log, events.TypePassCommitted), elected)
		}},
	}
	for _, typ := range []string{
		events.TypeDefinitionUpdated, events.TypeDomainAdded, events.TypeDomainReconfigured, events.TypeDomainRemoved, events.TypeStateChanged,
		events.TypeReaped, events.TypeDecisionMade, events.TypeLeaderElected, events.TypeLaunchRequested, // the last one is a first action
	} {
		all["no guard of "+typ] = mutation{findGuard, header(typ, headerGuard, "")}
	}
	return all
}

func lastOf(log []logged, typ string) int {
	for n, l := range slices.Backward(log) {
		if l.typ() == typ {
			return n
		}
	}
	panic("no " + typ)
}

// repeatedIn repeats an event at the log's end, as a new one with a guard that holds.
func repeatedIn(log []logged, typ string) []logged {
	l := log[lastOf(log, typ)]
	l.header = maps.Clone(l.header)
	l.header[events.HeaderID] = []string{"again"}
	delete(l.header, headerBatch)
	return append(log, l)
}

// tokened is preserve with a token that is found again in the event.
func tokened(n int, token string) events.Config {
	return events.Config{EngineConf: fmt.Appendf(nil, `{"preserve_n":%d,"provisioner_vars":{"token":%q}}`, n, token)}
}
