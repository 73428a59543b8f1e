package passes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// failoverScripts are those of which a failover changes nothing: not the ones with
// heartbeats, which nobody remembers by intent.
var failoverScripts = []string{"launch", "back_off", "needy", "sensor", "target_tracking", "step", "schedule", "outside"}

// TestPasses_Failover plays each script once for each place in the log where the
// leader has nothing left to do, with another leader taking over there: it acts just
// as without, and decides all that the leader would have with a pass there: actions,
// reasons, engine states, and memory.
func TestPasses_Failover(t *testing.T) {
	for _, name := range failoverScripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(filepath.Join("testdata", name+".script"))
			if err != nil {
				t.Fatal(err)
			}
			play := func(at uint64, meanwhile func(*stage)) (*stage, string) {
				s := newStage(t)
				s.at, s.meanwhile = at, func() { meanwhile(s) }
				return s, s.play(string(source))
			}
			undisturbed, without := play(0, nil)
			if len(undisturbed.settled) < 5 {
				t.Fatalf("the script has only %d places to take over", len(undisturbed.settled))
			}
			for _, at := range undisturbed.settled {
				_, pass := play(at, (*stage).pass)
				_, failover := play(at, (*stage).takeOver)
				if diff := cmp.Diff(decided(pass), decided(failover)); diff != "" {
					t.Fatalf("behind event %d (-with a pass +with a failover):\n%s", at, diff)
				}
				if diff := cmp.Diff(done(without), done(failover)); diff != "" {
					t.Fatalf("behind event %d (-without +with a failover):\n%s", at, diff)
				}
			}
			t.Logf("%d failovers", len(undisturbed.settled))
		})
	}
}

// decided is what was decided in a play: without what was seen on the way, as the
// age of a reading, and without the guards.
func decided(played string) (lines []string) {
	for line := range strings.Lines(played) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    saw ") {
			continue
		}
		for _, kind := range []string{"decision", "domain", "instance"} {
			line = strings.TrimSuffix(line, fmt.Sprintf(" [%s]", kind))
		}
		lines = append(lines, line)
	}
	return lines
}

// done is what was done in a play: what was decided where that is an action, and the
// memory at its end.
func done(played string) (lines []string) {
	var when, memory string
	for _, line := range decided(played) {
		what, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case strings.HasSuffix(line, " pass"):
			when = line
		case what == "keeps":
			memory = line
		case slices.Contains([]string{"launch", "terminate", "reap", "the"}, what):
			lines = append(lines, when+line)
		}
	}
	return append(lines, memory)
}

// pass runs a decide pass.
func (s *stage) pass() {
	_, err := s.term.decide(s.t.Context(), nil)
	s.must(err)
}

// takeOver elects another leader that goes on at the times of the one before, which
// are no matter of what is decided: only of when.
func (s *stage) takeOver() {
	before := s.term
	s.elect()
	for n, p := range before.periodic {
		s.term.periodic[n].next = p.next
	}
	in := s.term.inputs
	in.due = newCalendar[*input](began)
	for id, d := range in.domains {
		if was := before.inputs.domains[id]; was != nil && d.sensing.Source != "" {
			d.next = was.next
			in.due.put(d.next, d)
		}
	}
}
