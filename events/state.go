package events

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// EngineState is what a domain's engine says of itself.
type EngineState string

// The engine states.
const (
	EnginePending       EngineState = "PENDING_DE" // the wanted instances do not all run yet
	EngineStable        EngineState = "STABLE_DE"
	EngineUnknown       EngineState = "UNKNOWN"
	EngineDevmodeFailed EngineState = "DEVMODE_FAILED_DE"
)

// Definition is a definition as the log has it at Seq.
type Definition struct {
	Name   string
	Config Config // as it was given
	Seq    uint64
}

// Subscriber is told of the changes of a domain's instances.
type Subscriber struct {
	Name string `json:"subscriber_name"`
	Op   string `json:"subscriber_op"`
}

// Domain is a domain as the log has it at Seq. Like an Instance it is never
// changed once it was handed out.
type Domain struct {
	ID           DomainID
	DefinitionID string
	Config       Config // merged; each section present
	Subscribers  []Subscriber
	Removed      bool   // marked: it drains
	AddedSeq     uint64 // sequence of its added event: which life of the name
	ConfigSeq    uint64 // sequence of the last event that set Config
	Seq          uint64
}

// Decision is the last decision record of a domain.
type Decision struct {
	Domain DomainID
	ID     string    // the record's ce-id
	Time   time.Time // of the record in the log
	decisionBody
	Seq uint64
}

// decisionBody is a DecisionMade as a part of something else, not an event.
type decisionBody DecisionMade

// Leader is who leads, by the log.
type Leader struct {
	Process string
	Epoch   uint64    // sequence of its election; 0: nobody ever led
	Time    time.Time // of its election
	Seq     uint64    // of the last message on the subject: Epoch, unless a foreign one followed
}

// State is the fold of a log: everything epum knows. It is not safe for
// concurrent use; what its methods give, apart from slices of pointers, may be
// read by anyone for ever.
type State struct {
	Seq  uint64    // the last event folded
	Time time.Time // its timestamp; never goes back
	// Digest is of all events up to Seq, in their order. It is of the log, not of the
	// documents: two folds of one log have the same.
	Digest uint64

	definitions map[string]*Definition
	domains     map[DomainID]*domainEntry
	instances   map[string]*Instance // by id
	leader      Leader
	unknown     map[Key]string // aggregates with an event that this program does not know → its type
	words       map[string]string
}

// domainEntry is all that is known under one domain name.
type domainEntry struct {
	domain    *Domain     // nil: no such domain (any more)
	decision  *Decision   // nil: none was ever made
	instances []*Instance // sorted by id
}

// NewState is the fold of an empty log.
func NewState() *State {
	return &State{
		definitions: map[string]*Definition{},
		domains:     map[DomainID]*domainEntry{},
		instances:   map[string]*Instance{},
		unknown:     map[Key]string{},
		words:       map[string]string{},
	}
}

// Clone gives a state that goes on by itself.
func (s *State) Clone() *State {
	c := *s
	c.definitions, c.unknown, c.words = maps.Clone(s.definitions), maps.Clone(s.unknown), maps.Clone(s.words)
	c.domains, c.instances = make(map[DomainID]*domainEntry, len(s.domains)), maps.Clone(s.instances)
	for id, e := range s.domains {
		c.domains[id] = &domainEntry{domain: e.domain, decision: e.decision, instances: slices.Clone(e.instances)}
	}
	return &c
}

// Definition gives a definition by name; nil where there is none.
func (s *State) Definition(name string) *Definition { return s.definitions[name] }

// Domain gives a domain, also one that drains; nil where there is none.
func (s *State) Domain(id DomainID) *Domain {
	if e := s.domains[id]; e != nil {
		return e.domain
	}
	return nil
}

// Decision gives the last decision record under a domain's name, maybe of an
// earlier life of it (see DecisionMade.DomainSeq); nil where there is none.
func (s *State) Decision(id DomainID) *Decision {
	if e := s.domains[id]; e != nil {
		return e.decision
	}
	return nil
}

// Instances gives the instances of a domain, sorted by id. The slice is the
// fold's own: copy it before the next event is folded.
func (s *State) Instances(id DomainID) []*Instance {
	if e := s.domains[id]; e != nil {
		return e.instances
	}
	return nil
}

// Look gives Domain, Decision and Instances in one.
func (s *State) Look(id DomainID) (*Domain, *Decision, []*Instance) {
	if e := s.domains[id]; e != nil {
		return e.domain, e.decision, e.instances
	}
	return nil, nil, nil
}

// Instance gives an instance by its id alone, which is nobody else's; nil where there is
// none.
func (s *State) Instance(id string) *Instance { return s.instances[id] }

// instanceOf gives an instance of a domain; nil where there is none. A log may be
// anything: in a wrong one the same id may stand in another domain, too.
func (s *State) instanceOf(domain DomainID, id string) *Instance {
	if i := s.instances[id]; i != nil && i.Domain == domain {
		return i
	}
	if e := s.domains[domain]; e != nil {
		if n, ok := e.find(id); ok {
			return e.instances[n]
		}
	}
	return nil
}

// Domains gives all domains, in no order, also those that drain.
func (s *State) Domains() iter.Seq[*Domain] {
	return func(yield func(*Domain) bool) {
		for _, e := range s.domains {
			if e.domain != nil && !yield(e.domain) {
				return
			}
		}
	}
}

// Definitions gives all definitions, in no order.
func (s *State) Definitions() iter.Seq[*Definition] {
	return func(yield func(*Definition) bool) {
		for _, d := range s.definitions {
			if !yield(d) {
				return
			}
		}
	}
}

// AllInstances gives every instance of every domain, in no order.
func (s *State) AllInstances() iter.Seq[*Instance] {
	return func(yield func(*Instance) bool) {
		for _, e := range s.domains {
			for _, i := range e.instances {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// Leader says who leads, by the log.
func (s *State) Leader() Leader { return s.leader }

// Unknown gives the type of an event on the aggregate that this program does
// not know; "" where there was none. Nothing may be decided on such an aggregate.
func (s *State) Unknown(k Key) string { return s.unknown[k] }

// HasUnknown reports whether any aggregate has an event that this program does
// not know. Such a process neither projects nor leads.
func (s *State) HasUnknown() bool { return len(s.unknown) > 0 }

// SeqOf is the sequence of the document of a key, which guards the next event
// there; 0 where there is no document.
func (s *State) SeqOf(k Key) uint64 {
	domain, name, ok := k.Parts()
	if !ok {
		return 0
	}
	return s.seqOf(k.Kind(), domain, name)
}

func (s *State) seqOf(kind Kind, domain DomainID, name string) uint64 {
	switch kind {
	case KindDefinition:
		if d := s.definitions[name]; d != nil {
			return d.Seq
		}
	case KindDomain:
		if d := s.Domain(domain); d != nil {
			return d.Seq
		}
	case KindDecision:
		if d := s.Decision(domain); d != nil {
			return d.Seq
		}
	case KindInstance:
		if i := s.instanceOf(domain, name); i != nil {
			return i.Seq
		}
	case KindLeader:
		return s.leader.Seq
	case KindPass:
	}
	return 0
}

func (e *domainEntry) find(id string) (int, bool) {
	// New ids are the greatest (UUID version 7), so look at the end first.
	if n := len(e.instances); n == 0 || e.instances[n-1].ID < id {
		return n, false
	}
	return slices.BinarySearchFunc(e.instances, id, func(i *Instance, id string) int { return strings.Compare(i.ID, id) })
}

func (s *State) entry(id DomainID) *domainEntry {
	e := s.domains[id]
	if e == nil {
		e = &domainEntry{}
		s.domains[DomainID{Owner: s.word(id.Owner), Name: strings.Clone(id.Name)}] = e
	}
	return e
}

// drop forgets a domain's name once nothing is known under it.
func (s *State) drop(id DomainID, e *domainEntry) {
	if e.domain == nil && e.decision == nil && len(e.instances) == 0 {
		delete(s.domains, id)
	}
}

func (s *State) putInstance(i *Instance) {
	e := s.entry(i.Domain)
	if n, ok := e.find(i.ID); ok {
		e.instances[n] = i
	} else {
		e.instances = slices.Insert(e.instances, n, i)
	}
	s.instances[i.ID] = i
}

func (s *State) dropInstance(i *Instance) {
	e := s.entry(i.Domain)
	if n, ok := e.find(i.ID); ok {
		e.instances = slices.Delete(e.instances, n, n+1)
		delete(s.instances, i.ID)
		s.drop(i.Domain, e)
	}
}

// word gives one shared copy of a string that many documents hold.
func (s *State) word(w string) string {
	if shared, ok := s.words[w]; ok {
		return shared
	}
	const most = 100_000 // words; beyond that nothing repeats enough to be worth a place
	w = strings.Clone(w)
	if len(s.words) < most {
		s.words[w] = w
	}
	return w
}

// present is nil for a JSON value that says nothing.
func present(v json.RawMessage) json.RawMessage {
	if string(v) == "null" {
		return nil
	}
	return v
}
