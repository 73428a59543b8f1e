// Package explain tells why a domain or an instance is as it is: the chain of its
// causes, and what it does now or why it does nothing. It repeats what the log, the
// samples and the leader say, and guesses nothing.
package explain

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// The kinds of steps.
const (
	KindCommand     = "command"     // somebody changed the domain
	KindDecision    = "decision"    // an engine decided
	KindLaunch      = "launch"      // the leader asked for an instance
	KindReport      = "report"      // a provisioner or agent said how an instance is
	KindHealth      = "health"      // the doctor or a heartbeat said so
	KindTermination = "termination" // the leader asked for an instance's end
	KindReaped      = "reaped"      // an ended instance's record is gone
	KindRemoved     = "removed"     // the domain is gone
	KindLeader      = "leader"      // somebody was elected; no step
	KindPass        = "pass"        // a batch of a leader; no step
	KindUnknown     = "unknown"     // this version does not know what it is
)

// Step is one event, or several of the same kind in a row that say the same of
// several instances.
type Step struct {
	Seq       uint64          `json:"seq"`
	ToSeq     uint64          `json:"to_seq,omitempty"` // of the last event; 0: it is one event
	Time      time.Time       `json:"time"`             // of the first, by the log, UTC
	Kind      string          `json:"kind"`
	Who       string          `json:"who"` // the event's actor, of the first
	CommandID string          `json:"command_id,omitempty"`
	What      string          `json:"what"`
	Why       string          `json:"why,omitempty"`
	Saw       json.RawMessage `json:"saw,omitempty"`           // of a decision: its record's, without what makes it long
	Follows   uint64          `json:"follows,omitempty"`       // the event that this one came of, of a decision the newest that it saw and the one on record before did not; 0: none is known
	After     float64         `json:"after_seconds,omitempty"` // since that one; of several events the longest
	Count     int             `json:"count,omitempty"`         // of several events
	Instances []string        `json:"instances,omitempty"`     // whom it is about; of many some
}

// Explanation is what there is to say. It fits a message.
type Explanation struct {
	Owner      string           `json:"owner"`
	DomainID   string           `json:"domain_id"`
	InstanceID string           `json:"instance_id,omitempty"` // "": it is about the domain as a whole
	Steps      []Step           `json:"steps"`                 // the oldest first
	LeftOut    int              `json:"left_out,omitempty"`    // so many older steps
	Acting     bool             `json:"acting"`                // a launch or termination is under way
	Now        string           `json:"now"`                   // why it acts, or does not
	AsOf       projections.AsOf `json:"as_of"`
}

const (
	// mostSteps is how many steps of a domain are told, the latest ones.
	mostSteps = 200
	// mostBytes is how large the steps may be, so that they fit a message of 1 MiB.
	mostBytes = 600 << 10
	// mostText is how much of a reason or an error is told, in bytes.
	mostText = 1000
	// mostNow is how much is told of now, in bytes.
	mostNow = 32 << 10
	// mostNamed is how many instances a step names.
	mostNamed = 5
	// mostSaw is how large what a decision saw may be, in bytes.
	mostSaw = 8 << 10
	// remembered is how many events, and how many commands, are remembered for what is
	// to follow of them.
	remembered = 64
)

// Story listens to the history of a domain, or of one of its instances, and then
// tells of it. Its memory follows the domain's size and not its history's. It
// belongs to one goroutine.
type Story struct {
	domain   events.DomainID
	instance string // "": the domain as a whole
	state    *events.State

	steps   []Step // the latest ones
	leftOut int

	of       map[string]stamp // instance → its last event
	news     []stamp          // events that call for a decision, the latest ones
	commands []Step           // that a decision may come to be made by, the latest ones
	decision decided          // the last one
	told     uint64           // the last command that an instance's story has
	gone     stamp            // the domain's last removal
}

// stamp is when an event was.
type stamp struct {
	seq     uint64
	time    time.Time
	command bool
}

// decided is the last decision record.
type decided struct {
	stamp
	id   string
	made events.DecisionMade
}

// NewStory is a story of a domain, or with an id of one of its instances. state is
// what is known from before the first event that it hears; it is the story's own
// from now on.
func NewStory(domain events.DomainID, instance string, state *events.State) *Story {
	s := &Story{domain: domain, instance: instance, state: state, of: map[string]stamp{}}
	if d := state.Decision(domain); d != nil {
		s.decision.stamp, s.decision.id = stamp{seq: d.Seq, time: d.Time}, d.ID
		s.decision.made = events.DecisionMade{
			DomainSeq: d.DomainSeq, ConfigSeq: d.ConfigSeq, InputSeq: d.InputSeq, Engine: d.Engine, Reason: d.Reason,
		}
	}
	return s
}

// Domain is the domain as far as the story has got; nil: there is none (any more).
func (s *Story) Domain() *events.Domain { return s.state.Domain(s.domain) }

// Empty reports whether the story has heard of what it is about.
func (s *Story) Empty() bool {
	if s.instance != "" {
		return len(s.of) == 0 && s.state.Instance(s.instance) == nil
	}
	return len(s.steps) == 0 && s.Domain() == nil
}

// Tell gives the explanation of what was heard.
func (s *Story) Tell(p Present) Explanation {
	e := Explanation{
		Owner: s.domain.Owner, DomainID: s.domain.Name, InstanceID: s.instance,
		Steps: s.steps, LeftOut: s.leftOut, AsOf: p.AsOf,
	}
	if e.Steps == nil {
		e.Steps = []Step{}
	}
	if s.instance == "" {
		e.Acting, e.Now = s.domainNow(&p)
	} else {
		e.Acting, e.Now = s.instanceNow(&p)
	}
	e.Now = cut(e.Now, mostNow)
	size := 0
	for n, step := range slices.Backward(e.Steps) {
		data, err := json.Marshal(step)
		if size += len(data); err != nil || size > mostBytes {
			e.LeftOut += n + 1
			e.Steps = e.Steps[n+1:]
			break
		}
	}
	return e
}
