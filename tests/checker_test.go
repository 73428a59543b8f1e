package tests

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// The kinds of findings: each starts with one of these words.
const (
	findLost    = "lost"    // was acknowledged and is not there, or is not what was acknowledged
	findDoubled = "doubled" // is there twice
	findAlien   = "alien"   // nobody has sent it, or it was refused
	findGuard   = "guard"   // an event without the guard that it should have, or one that did not hold
	findFence   = "fence"   // an event of a leader outside of its term or of its batch
	findFold    = "fold"    // the events contradict each other
	findRead    = "read"    // an answer shows what the log never was
	findHealth  = "health"  // more of a domain is missing for its health than may be
	findAgain   = "again"   // a decision that comes out otherwise when it is made again from the log
	findOutcome = "outcome" // what came of it all is not what was wanted
)

// checker looks for what must not be in a log, from the raw stream alone: the
// record of what was attempted is all that it knows besides.
type checker struct {
	findings []string

	// as of the append that is being looked at
	state *events.State
	last  map[events.Key]uint64 // last sequence of each aggregate
	epoch uint64                // of the last election

	ids      map[string]uint64 // ce-id → sequence
	launched map[events.Key]uint64
	reports  map[string]uint64       // token of a report → sequence
	vacant   map[events.DomainID]int // how many of a domain are missing for their health
	foreign  map[events.Key]int      // messages that are no events

	expect   expectations
	readings []reading // those still to come, by what they are as of
	absences []reading // those that say nothing of that
}

// expectations is what the world outside of the log has to say about it.
type expectations struct {
	attempts []*attempt
	reports  map[string]bool    // tokens of the reports sent; nil: they have none
	readings []reading          // of any caller
	foreign  map[events.Key]int // how many messages that are no events somebody had put there at most
}

// checkLog gives what is wrong with a whole log.
func checkLog(log []logged, expect expectations) []string {
	c := &checker{
		state: events.NewState(), last: map[events.Key]uint64{}, ids: map[string]uint64{}, launched: map[events.Key]uint64{},
		reports: map[string]uint64{}, vacant: map[events.DomainID]int{}, foreign: map[events.Key]int{}, expect: expect,
	}
	for _, r := range expect.readings {
		if r.asOf > 0 {
			c.readings = append(c.readings, r)
		} else {
			c.absences = append(c.absences, r)
		}
	}
	slices.SortStableFunc(c.readings, func(a, b reading) int { return cmp.Compare(a.asOf, b.asOf) })
	for n, l := range log {
		if l.seq != uint64(n+1) {
			c.find(findLost, "event %d is at sequence %d", n+1, l.seq)
			break
		}
	}
	for _, batch := range splitAppends(log) {
		if isForeign(batch[0]) {
			c.checkForeign(batch[0])
			continue
		}
		c.checkAppend(batch)
		c.checkTerminations(batch)
		for _, l := range batch {
			c.checkEvent(l)
		}
		c.closeVacancies(batch)
	}
	c.checkAttempts(log)
	c.checkAbsences(log)
	return c.findings
}

// isForeign reports whether a message of the log is none of epum's. Half of an event
// is nobody's.
func isForeign(l logged) bool { return l.id() == "" && l.typ() == "" }

// checkForeign looks at a message that is no event: somebody must have had it put
// there. It changes nothing but the sequence of its subject, which guards count.
func (c *checker) checkForeign(l logged) {
	if c.foreign[l.key]++; c.foreign[l.key] > c.expect.foreign[l.key] {
		c.find(findAlien, "%d %s: it is no event, and nobody had it put there: %.100s", l.seq, l.key, l.body)
	}
	c.last[l.key] = l.seq
	events.Apply(c.state, l.envelope(), l.decode())
	c.checkReadings()
}

func (c *checker) find(kind, format string, args ...any) {
	c.findings = append(c.findings, kind+": "+fmt.Sprintf(format, args...))
}

// countFindings counts those of a kind.
func countFindings(findings []string, kind string) (n int) {
	for _, f := range findings {
		if strings.HasPrefix(f, kind+": ") {
			n++
		}
	}
	return n
}

// checkEvent looks at one event and folds it.
func (c *checker) checkEvent(l logged) {
	if at, twice := c.ids[l.id()]; twice {
		c.find(findDoubled, "%s has the ce-id of %d", l, at)
	}
	c.ids[l.id()] = l.seq
	domain, name, _ := l.key.Parts()
	switch ev := l.decode().(type) {
	case events.Unknown:
		c.find(findFold, "%s: %+v", l, ev)
	case events.DomainAdded:
		if c.state.Domain(domain) != nil {
			c.find(findDoubled, "%s: the domain is there", l)
		}
	case events.DefinitionAdded:
		if c.state.Definition(name) != nil {
			c.find(findDoubled, "%s: the definition is there", l)
		}
	case events.LaunchRequested:
		if at := c.launched[l.key]; at > 0 {
			c.find(findDoubled, "%s: launched at %d", l, at)
		}
		c.launched[l.key] = l.seq
	case events.StateChanged:
		i := c.state.Instance(name)
		if i == nil || ev.State < i.State {
			c.find(findFold, "%s: to %s from %+v", l, ev.State, i)
		}
		c.checkReport(l)
	default: // the others may come again
	}
	before := c.state.Instance(name)
	events.Apply(c.state, l.envelope(), l.decode())
	if after := c.state.Instance(name); before != nil && after != nil && after.State < before.State {
		c.find(findFold, "%s: the instance goes from %s back to %s", l, before.State, after.State)
	}
	c.fill(domain, before, c.state.Instance(name))
	c.checkReadings()
}

// checkReport finds a report that is there twice, or that nobody has sent.
func (c *checker) checkReport(l logged) {
	if c.expect.reports == nil {
		return
	}
	tokens := tokensOf(l)
	if len(tokens) == 0 {
		c.find(findAlien, "%s: nobody has sent it: %.100s", l, l.body)
	}
	for _, token := range tokens {
		if at := c.reports[token]; at > 0 {
			c.find(findDoubled, "%s: report %s is at %d", l, token, at)
		}
		if !c.expect.reports[token] {
			c.find(findAlien, "%s: report %s was never sent", l, token)
		}
		c.reports[token] = l.seq
	}
}

// String names an event in a finding.
func (l logged) String() string {
	return fmt.Sprintf("%d %s of %s, epoch %d", l.seq, l.key, strings.TrimPrefix(l.typ(), "epum."), l.epoch())
}

// typeOf is the type of the event that a command comes to.
var typeOf = map[string]string{
	commands.OpAddDomain:         events.TypeDomainAdded,
	commands.OpRemoveDomain:      events.TypeDomainRemovalRequested,
	commands.OpReconfigureDomain: events.TypeDomainReconfigured,
	commands.OpSubscribeDomain:   events.TypeDomainSubscribed,
	commands.OpUnsubscribeDomain: events.TypeDomainUnsubscribed,
	commands.OpAddDefinition:     events.TypeDefinitionAdded,
	commands.OpUpdateDefinition:  events.TypeDefinitionUpdated,
	commands.OpRemoveDefinition:  events.TypeDefinitionRemoved,
}

// tokens look like this wherever they stand.
var tokenForm = regexp.MustCompile(`tok-[a-z0-9]+-[0-9]+`)

func tokensOf(l logged) []string {
	found := tokenForm.FindAllString(string(l.body), -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// checkAttempts matches the events of commands with what was attempted.
func (c *checker) checkAttempts(log []logged) {
	known := map[string]*attempt{} // by token, and by causation id
	for _, a := range c.expect.attempts {
		if a.landed = nil; a.token != "" {
			known[a.token] = a
		}
		if a.id != "" {
			known[a.causation()] = a
		}
	}
	bare := map[uint64]logged{} // events that have neither
	for _, l := range log {
		if isForeign(l) || l.epoch() > 0 || l.key.Kind() != events.KindDomain && l.key.Kind() != events.KindDefinition {
			continue
		}
		names := tokensOf(l)
		if cause := l.header.Get(events.HeaderCausation); cause != "" {
			names = append(names, cause)
		}
		if len(names) == 0 {
			bare[l.seq] = l
		}
		var of *attempt
		for _, name := range names {
			a := known[name]
			if a == nil || of != nil && a != of || !a.isOf(l) {
				c.find(findAlien, "%s: %s is of %v", l, name, a)
			} else if of = a; len(a.landed) == 0 || a.landed[len(a.landed)-1] != l.seq {
				a.landed = append(a.landed, l.seq)
			}
		}
	}
	c.checkBare(log, bare)
	for _, a := range c.expect.attempts {
		c.checkAttempt(a)
	}
}

// isOf reports whether an event can be the one of the attempt.
func (a *attempt) isOf(l logged) bool {
	return l.typ() == typeOf[a.cmd.Op()] && l.key == a.cmd.Key(a.caller) && l.header.Get(events.HeaderActor) == a.caller &&
		l.header.Get(events.HeaderCausation) == a.causation()
}

// checkBare matches the events that say neither a token nor a command id. A
// command of that kind may also change nothing: then the acknowledged sequence
// is the aggregate's last one.
func (c *checker) checkBare(log []logged, bare map[uint64]logged) {
	spare := []*attempt{}
	for _, a := range c.expect.attempts {
		switch {
		case a.token != "" || a.id != "":
		case a.outcome == unknown:
			spare = append(spare, a)
		case a.outcome == acknowledged && (a.seq == 0 || a.seq > uint64(len(log)) || log[a.seq-1].key != a.cmd.Key(a.caller)):
			c.find(findLost, "%s: it is not at %d", a, a.seq)
		case a.outcome == acknowledged:
			a.landed = []uint64{a.seq}
			if a.isOf(log[a.seq-1]) {
				delete(bare, a.seq)
			}
		}
	}
	for _, l := range log {
		if _, left := bare[l.seq]; !left {
			continue
		}
		n := slices.IndexFunc(spare, func(a *attempt) bool { return a.isOf(l) })
		if n < 0 {
			c.find(findAlien, "%s: nobody has sent it", l)
			continue
		}
		spare = slices.Delete(spare, n, n+1)
	}
}

func (c *checker) checkAttempt(a *attempt) {
	if len(a.landed) > 1 {
		c.find(findDoubled, "%s is at %d", a, a.landed)
	}
	switch {
	case a.outcome == acknowledged && !slices.Contains(a.landed, a.seq):
		c.find(findLost, "%s was acknowledged at %d, is at %d", a, a.seq, a.landed)
	case a.outcome == refused && len(a.landed) > 0:
		c.find(findAlien, "%s was refused (%s), is at %d", a, a.why, a.landed)
	}
}
