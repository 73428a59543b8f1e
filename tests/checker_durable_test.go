package tests

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// resolve notes what the outcomes say of the commands that were left, and finds
// those of which a request was told another sequence.
func resolve(commands []*left, outcomes map[string]outcomeStored) (findings []string) {
	c := &checker{}
	for _, l := range commands {
		o, known := outcomes[events.DefaultPrefix.Result(l.caller, l.id)]
		switch done := known && o.code == ""; {
		case l.asked && l.outcome == acknowledged:
			if done && o.acknowledges() != l.seq {
				c.find(findDoubled, "%s: a request was acknowledged at %d, its outcome is %s", l, l.seq, o.body)
			}
		case done:
			l.outcome, l.seq = acknowledged, o.acknowledges()
		case !known, l.asked, l.sent > 1: // another one of them may have been carried out
			l.outcome, l.why = unknown, string(o.body)
		default:
			l.outcome, l.why = refused, string(o.body)
		}
	}
	return c.findings
}

// acknowledges is the sequence in a body; 0, at which no event is: it has none.
func (o outcomeStored) acknowledges() uint64 {
	var body struct {
		Seq uint64 `json:"seq"`
	}
	if json.Unmarshal(o.body, &body) != nil {
		return 0
	}
	return body.Seq
}

// of is the sequence in the inbox of the command that an outcome is of.
func (o outcomeStored) of() uint64 {
	seq, _, _ := strings.Cut(o.command, "/")
	n, _ := strconv.ParseUint(seq, 10, 64) // 0, which no message has, where it names none
	return n
}

// checkDurable finds commands that were left and have no outcome, or one that is not
// theirs, or were carried out before an earlier one of their caller. What was
// carried out is in the log or not as with any attempt. hostile are the outcomes
// that may be besides, errors all, by subject; ever is how many were stored.
func checkDurable(commands []*left, hostile map[string]int, outcomes map[string]outcomeStored, ever uint64) []string {
	c := &checker{}
	most := 0
	for _, n := range hostile {
		most += n
	}
	of := map[string]*left{}
	for _, l := range commands {
		most += l.sent
		subject := events.DefaultPrefix.Result(l.caller, l.id)
		of[subject] = l
		o, known := outcomes[subject]
		switch {
		case !known && len(l.taken) > 0:
			c.find(findLost, "%s was taken as %d and has no outcome", l, l.taken)
		case !known:
		case o.code == "500" || o.code == "503":
			c.find(findOutcome, "%s ended with %s", l, o.body)
		case l.sent == len(l.taken) && !slices.Contains(l.taken, o.of()):
			c.find(findAlien, "%s was taken as %d, its outcome is of %q", l, l.taken, o.command)
		}
	}
	for subject, o := range outcomes {
		switch {
		case of[subject] != nil:
		case hostile[subject] == 0:
			c.find(findAlien, "%s has an outcome, of %q: nobody has left it", subject, o.command)
		case o.code == "":
			c.find(findAlien, "%s was to be refused, its outcome is %s", subject, o.body)
		}
	}
	if ever > uint64(most) {
		c.find(findDoubled, "%d outcomes were stored of %d commands", ever, most)
	}
	c.checkOrder(commands, outcomes)
	return c.findings
}

// checkOrder looks at the commands that were sent once: each caller's outcomes must
// be stored, and what they led to stand in the log, in the order of the inbox.
func (c *checker) checkOrder(commands []*left, outcomes map[string]outcomeStored) {
	byCaller := map[string][]*left{}
	for _, l := range commands {
		if l.sent == 1 && len(l.taken) == 1 {
			byCaller[l.caller] = append(byCaller[l.caller], l)
		}
	}
	for _, all := range byCaller {
		slices.SortFunc(all, func(a, b *left) int { return cmp.Compare(a.taken[0], b.taken[0]) })
		var stored, logged uint64
		for _, l := range all {
			o, known := outcomes[events.DefaultPrefix.Result(l.caller, l.id)]
			if known && o.seq < stored {
				c.find(findOutcome, "%s, taken as %d, has its outcome at %d, a later one of its caller at %d", l, l.taken, o.seq, stored)
			}
			stored = max(stored, o.seq)
			if l.asked || l.outcome != acknowledged { // a request waits for nobody
				continue
			}
			if l.seq <= logged {
				c.find(findOutcome, "%s, taken as %d, is at %d, a later one of its caller at %d", l, l.taken, l.seq, logged)
			}
			logged = max(logged, l.seq)
		}
	}
}

// letters are how many dead letters there are of each subject. What is malformed
// must be among them once for each time that it was taken, and nothing else.
type letters struct {
	taken map[string]int // by the subject it was sent to
	sent  map[string]int // as taken, also where it may not have been taken
}

func checkDead(want letters, dead map[string]int) []string {
	c := &checker{}
	for subject, n := range want.taken {
		if dead[subject] < n {
			c.find(findLost, "%d messages to %.100s were taken, %d are among the dead letters", n, subject, dead[subject])
		}
	}
	for subject, n := range dead {
		if n > want.sent[subject] {
			c.find(findAlien, "%d dead letters of %.100s, %d are to be expected", n, subject, want.sent[subject])
		}
	}
	return c.findings
}
