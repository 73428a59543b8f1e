package shadow

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
)

// sight is what is to be seen of a domain. It is safe for concurrent use.
type sight struct {
	domain  events.DomainID
	changed chan struct{} // has an element where something calls for a decision

	mu       sync.Mutex
	state    *events.State
	own      *events.DecisionMade // the leader's last one; nil: none
	readings engines.Readings
}

// seen is a look at it.
type seen struct {
	passes.Scene
	own *events.DecisionMade
}

// newSight begins with what is known of a domain already.
func newSight(domain events.DomainID, known *events.State) *sight {
	return &sight{domain: domain, changed: make(chan struct{}, 1), state: known}
}

// fold takes an event of the domain. Of those that are known already only the last
// decision is of use.
func (s *sight) fold(r *events.Recorded) error {
	s.mu.Lock()
	events.Apply(s.state, r.Envelope, r.Event)
	if made, ok := r.Event.(events.DecisionMade); ok {
		s.own = &made
	}
	s.mu.Unlock()
	if passes.CallsForDecision(r.Envelope) {
		s.wake()
	}
	return nil
}

// read takes what the leader has read.
func (s *sight) read(readings engines.Readings) {
	s.mu.Lock()
	s.readings = readings
	s.mu.Unlock()
	s.wake()
}

func (s *sight) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *sight) look() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	domain, _, instances := s.state.Look(s.domain)
	return seen{
		Scene: passes.Scene{Domain: domain, Instances: slices.Clone(instances), Seq: s.state.Seq, Readings: s.readings},
		own:   s.own,
	}
}

func (s *sight) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Time
}
