package passes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// failoverScripts are those of which a failover changes nothing: not the ones with
// heartbeats, which nobody remembers by intent.
var failoverScripts = []string{
	"launch", "back_off", "needy", "sensor", "target_tracking", "step", "schedule", "phantom", "phantom_multi", "phantom_multi_site_overflow", "outside",
}

// TestPasses_Failover plays each script once for each place in the log, with another
// leader taking over there: it acts just as without. Where the leader had nothing left
// to do, the other decides all that it would have with a pass there: actions, reasons,
// engine states, and memory.
func TestPasses_Failover(t *testing.T) {
	for _, name := range failoverScripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(filepath.Join("testdata", name+".script"))
			if err != nil {
				t.Fatal(err)
			}
			play := func(at place, meanwhile func(*stage)) (*stage, string) {
				s := newStage(t)
				s.at, s.meanwhile = at, func() { meanwhile(s) }
				return s, s.play(string(source))
			}
			undisturbed, without := play(place{}, nil)
			if len(undisturbed.places) < 5 {
				t.Fatalf("the script has only %d places to take over", len(undisturbed.places))
			}
			for _, at := range undisturbed.places {
				_, failover := play(at, (*stage).takeOver)
				if diff := cmp.Diff(done(without), done(failover)); diff != "" {
					t.Fatalf("behind event %d (-without +with a failover):\n%s", at.seq, diff)
				}
				if !at.settled { // a pass would decide on what the other finds, and then once more
					continue
				}
				_, pass := play(at, (*stage).pass)
				if diff := cmp.Diff(decided(pass), decided(failover)); diff != "" {
					t.Fatalf("behind event %d (-with a pass +with a failover):\n%s", at.seq, diff)
				}
			}
			t.Logf("%d failovers", len(undisturbed.places))
		})
	}
}

// TestPasses_FailoverEngines: there is a script with each engine.
func TestPasses_FailoverEngines(t *testing.T) {
	classes := map[string]bool{"simplest": true} // where none is named
	for _, name := range failoverScripts {
		source, err := os.ReadFile(filepath.Join("testdata", name+".script"))
		if err != nil {
			t.Fatal(err)
		}
		for _, class := range regexp.MustCompile(`"general":{"engine_class":"(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			classes[class[1]] = true
		}
	}
	for _, class := range registry().Names() {
		if !classes[class] {
			t.Errorf("none with %s", class)
		}
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
		if d.sensing.Source == "" {
			continue
		}
		if was := before.inputs.domains[id]; was != nil && was.sensing.Source != "" {
			d.next = was.next
		}
		in.due.put(d.next, d)
	}
}
