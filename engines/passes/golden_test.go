package passes

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPasses_Golden plays each script of testdata/*.script to a leader whose clock
// it drives, and compares what the leader appends with the .golden file beside it.
// A script's lines are, for one domain, and a millisecond apart:
//
//	config {...}           adds it; later: reconfigures it
//	at 90s                 time goes on, with all that comes due meanwhile
//	i1 i3-i5 RUNNING       a report of a state, or a heartbeat with a health
//	valid OK               the same of all that neither end nor have ended
//	metric load 3.5        that is what all have of a metric from now on; none, and
//	                       fails: it cannot be read
//	remove                 asks for its removal
//	elect                  another leader takes over
//	external               passes no longer start by themselves
//	pass reap              a pass is asked for
//
// Instances are named in the order of their launches.
func TestPasses_Golden(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts {
		name := strings.TrimSuffix(script, ".script")
		t.Run(filepath.Base(name), func(t *testing.T) {
			source, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			got := newStage(t).play(string(source))
			if *update {
				if err := os.WriteFile(name+".golden", []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(name + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("read the difference, and if it is right: go test ./engines/passes -run Golden -update\n%s", diff)
			}
		})
	}
}

// stage is a leader on a log in memory, which holds guards as the real one does.
type stage struct {
	Log
	*bench
	out       strings.Builder
	names     map[string]string // instance id → i1, i2, …
	ids       []string          // in the order of their launches
	decisions *projections.Feed
	gauge     *gauge
	samples   *memorySamples
	registry  *engines.Registry
	places    []place
	at        place // where meanwhile comes; zero: nowhere
	meanwhile func()
}

func newStage(t *testing.T) *stage {
	s := &stage{bench: newBench(t), names: map[string]string{}, registry: registry()}
	s.gauge = &gauge{values: map[string]float64{}}
	s.samples = &memorySamples{all: map[events.DomainID][]byte{}}
	s.elect()
	return s
}

// elect begins a term.
func (s *stage) elect() {
	s.t.Helper()
	s.put(events.Envelope{Key: events.LeaderKey, Time: s.now}, events.LeaderElected{Process: "p"})
	before := s.term
	made := 0
	term := newTerm(NewLeader(Config{
		Prefix: "epum", Log: s, Replica: before.Replica, Sender: before.Sender, Logger: before.Logger, Clock: before.Clock,
		Engines: s.registry, NewID: func() string { made++; return fmt.Sprintf("%06d-%06d", s.seq, made) },
		Asker: keeper{}, Sources: sensors.Sources{"nats": s.gauge}, Samples: s.samples,
		DecideInterval: 5 * time.Second, DoctorInterval: 10 * time.Second, ReapInterval: 5 * time.Minute, ReapAge: 2 * time.Hour,
		RetryInterval: 5 * time.Second, TerminateLate: 10 * time.Minute, DecideTimeout: time.Minute,
	}))
	term.epoch, term.elected, term.began, term.wake = s.seq, s.now, s.now, newAlarms(began)
	s.term = term
	s.decisions, term.changes = term.Replica.NewFeed(CallsForDecision), term.Replica.NewFeed(concernsInstances)
	term.outbox, term.doctor, term.inputs = newOutbox(term), newDoctor(term), newInputs(s.t.Context(), term)
	term.plan()
	_, err := term.decide(s.t.Context(), nil)
	s.must(err)
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// play carries out a script and gives it back with what came of each line.
func (s *stage) play(script string) string {
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			fmt.Fprintln(&s.out, line)
			continue
		}
		fmt.Fprintf(&s.out, "> %s\n", line)
		s.now = s.now.Add(time.Millisecond)
		s.step(line)
		s.settle()
	}
	return s.out.String()
}

func (s *stage) step(line string) {
	op, rest, _ := strings.Cut(line, " ")
	switch op {
	case "config":
		var config events.Config
		s.must(json.Unmarshal([]byte(rest), &config))
		known := false
		s.term.Replica.View(func(state *events.State) { known = state.Domain(dom) != nil })
		if known {
			s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainReconfigured{Config: config})
		} else {
			s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainAdded{Config: config})
		}
	case "at":
		until, err := time.ParseDuration(rest)
		s.must(err)
		s.goOn(began.Add(until))
	case "remove":
		s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainRemovalRequested{})
	case "metric":
		metric, value, _ := strings.Cut(rest, " ")
		s.must(s.gauge.set(metric, value))
		s.term.inputs.readAll(s.now)
	case "elect":
		s.elect()
	case "external":
		s.term.ExternalDecide, s.term.periodic = true, nil
	case "pass":
		run := run{pass: rest, done: make(chan runResult, 1)}
		s.must(s.term.onRun(s.t.Context(), run))
	default:
		s.tell(strings.Fields(line))
	}
}

// tell has instances say the last of some words.
func (s *stage) tell(words []string) {
	said := words[len(words)-1]
	for _, id := range s.instances(words[:len(words)-1]) {
		n := slices.IndexFunc(events.InstanceStates, func(state events.InstanceState) bool { return strings.HasSuffix(string(state), "-"+said) })
		if n < 0 {
			s.term.Heartbeat(id, fmt.Appendf(nil, `{"node_id":%q,"state":%q}`, id, said))
		} else {
			s.put(events.Envelope{Key: dom.InstanceKey(id), Time: s.now}, events.StateChanged{State: events.InstanceStates[n]})
		}
	}
}

func (s *stage) instances(words []string) (ids []string) {
	for _, word := range words {
		if word == "valid" {
			s.term.Replica.View(func(state *events.State) {
				for _, i := range state.Instances(dom) {
					if i.Valid() {
						ids = append(ids, i.ID)
					}
				}
			})
			continue
		}
		first, last, ok := strings.Cut(word, "-")
		if !ok {
			last = first
		}
		from, err := strconv.Atoi(first[1:])
		s.must(err)
		to, err := strconv.Atoi(last[1:])
		s.must(err)
		if to > len(s.ids) {
			s.t.Fatalf("there is no i%d yet:\n%s", to, s.out.String())
		}
		ids = append(ids, s.ids[from-1:to]...)
	}
	return ids
}

// goOn drives the clock, with a stop wherever the leader's loop would wake.
func (s *stage) goOn(until time.Time) {
	for {
		due := s.term.nextDue()
		if next := s.now.Add(due); next.After(until) {
			s.now = until
			return
		}
		s.now = s.now.Add(due)
		s.must(s.term.onDue(s.t.Context()))
		s.settle()
	}
}

// settle acts as the leader's loop does, until nothing calls for it.
func (s *stage) settle() {
	for s.pause(false); s.act(); s.pause(false) {
	}
	s.pause(true)
}

// place is an end of the log at which another leader may take over.
type place struct {
	seq     uint64
	settled bool // nothing is left to do there
}

// pause comes to a place.
func (s *stage) pause(settled bool) {
	here := place{s.seq, settled}
	if n := len(s.places); n == 0 || s.places[n-1].seq < s.seq {
		s.places = append(s.places, here)
	} else if settled {
		s.places[n-1] = here
	}
	if s.at.seq == s.seq && (settled || !s.at.settled) {
		s.at = place{}
		s.meanwhile()
	}
}

// act does one thing that calls for it; false: nothing does.
func (s *stage) act() bool {
	s.must(s.term.flush(s.t.Context()))
	<-s.term.inputs.nothing()
	select {
	case <-s.decisions.Ready():
		if s.decisions.Len() > 0 {
			s.must(s.term.onChange(s.t.Context(), s.decisions))
		}
	case <-s.term.doctor.ready:
		s.must(s.term.treat(s.t.Context()))
	case <-s.term.inputs.ready:
		s.must(s.term.onInputs(s.t.Context()))
	default:
		return false
	}
	return true
}

// AppendFenced implements Log.
func (s *stage) AppendFenced(_ context.Context, epoch uint64, pass events.Draft, drafts []events.Draft) (uint64, error) {
	guarded := false
	s.term.Replica.View(func(state *events.State) { guarded = holds(state, drafts) && state.Leader().Epoch == epoch })
	if !guarded {
		return 0, &events.ConflictError{}
	}
	committed, ok := pass.Event.(events.PassCommitted)
	if !ok {
		s.t.Fatalf("%T instead of a pass", pass.Event)
	}
	fmt.Fprintf(&s.out, "%s %s pass\n", s.now.Sub(began), committed.Pass)
	var lines []string
	for _, d := range append([]events.Draft{pass}, drafts...) {
		_, id, _ := d.Key.Parts()
		if _, ok := d.Event.(events.LaunchRequested); ok {
			s.ids = append(s.ids, id)
			s.names[id] = fmt.Sprint("i", len(s.ids))
		}
		if d.Key != events.PassKey {
			lines = append(lines, s.describe(d, s.names[id]))
		}
		s.put(events.Envelope{Key: d.Key, Time: s.now, ID: d.ID, CausationID: d.CausationID, Epoch: epoch}, d.Event)
	}
	if committed.Pass == PassDoctor { // in the order of a map
		slices.Sort(lines)
	}
	fmt.Fprintln(&s.out, strings.Join(lines, "\n"))
	return s.seq, nil
}

// describe is a line about a draft, with what guards it where that exists already.
func (s *stage) describe(d events.Draft, name string) (line string) {
	switch ev := d.Event.(type) {
	case events.DecisionMade:
		line = fmt.Sprintf("    saw %s\n    keeps %s\n  %s: %s", ev.Saw, kept(ev.Memory), ev.EngineState, ev.Reason)
	case events.LaunchRequested:
		line = fmt.Sprintf("    launch %s at %s", name, ev.Site)
		if ev.Attempt > 0 {
			line += fmt.Sprintf(", attempt %d", ev.Attempt)
		}
		if ev.Replaces != "" {
			line += ", replaces " + s.names[ev.Replaces]
		}
	case events.TerminateRequested:
		line = "    terminate " + name
	case events.HealthChanged:
		line = fmt.Sprintf("    %s is %s", name, ev.Health)
	case events.Reaped:
		line = "    reap " + name
	case events.DomainRemoved:
		line = "    the domain is gone"
	default:
		s.t.Fatalf("a leader appends no %T", ev)
	}
	if d.Guard.Key != "" && d.Guard.Seq > 0 {
		line += fmt.Sprintf(" [%s]", d.Guard.Key.Kind())
	}
	return line
}

func kept(memory json.RawMessage) string {
	if memory == nil {
		return "nothing"
	}
	return string(memory)
}
