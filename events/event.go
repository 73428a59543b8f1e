package events

import (
	"encoding/json"
	"time"
)

// Event is one thing that happened to one aggregate. Bodies hold what changed,
// not the whole state after (design §5).
//
//sumtype:decl
type Event interface {
	// Type is the wire name, the value of the ce-type header.
	Type() string
	event()
}

// The wire names of the event types (design §5). They never change.
const (
	TypeDefinitionAdded        = "epum.definition.added.v1"
	TypeDefinitionUpdated      = "epum.definition.updated.v1"
	TypeDefinitionRemoved      = "epum.definition.removed.v1"
	TypeDomainAdded            = "epum.domain.added.v1"
	TypeDomainReconfigured     = "epum.domain.reconfigured.v1"
	TypeDomainSubscribed       = "epum.domain.subscribed.v1"
	TypeDomainUnsubscribed     = "epum.domain.unsubscribed.v1"
	TypeDomainRemovalRequested = "epum.domain.removal_requested.v1"
	TypeDomainRemoved          = "epum.domain.removed.v1"
	TypeLaunchRequested        = "epum.instance.launch_requested.v1"
	TypeStateChanged           = "epum.instance.state_changed.v1"
	TypeTerminateRequested     = "epum.instance.terminate_requested.v1"
	TypeHealthChanged          = "epum.instance.health_changed.v1"
	TypeReaped                 = "epum.instance.reaped.v1"
	TypeDecisionMade           = "epum.decision.made.v1"
	TypeLeaderElected          = "epum.leader.elected.v1"
	TypePassCommitted          = "epum.pass.committed.v1"
)

type (
	// DefinitionAdded says that a definition came to be.
	DefinitionAdded struct {
		Definition Config `json:"definition"`
	}
	// DefinitionUpdated says that a definition was replaced as a whole.
	DefinitionUpdated struct {
		Definition Config `json:"definition"`
	}
	// DefinitionRemoved says that a definition is gone; domains keep their copy.
	DefinitionRemoved struct{}

	// DomainAdded says that a domain came to be, with the config that the
	// definition and the caller's own config gave together.
	DomainAdded struct {
		DefinitionID   string `json:"definition_id"`
		DefinitionSeq  uint64 `json:"definition_seq"` // sequence of the definition's event that was copied
		Config         Config `json:"config"`         // merged
		SubscriberName string `json:"subscriber_name,omitempty"`
		SubscriberOp   string `json:"subscriber_op,omitempty"`
	}
	// DomainReconfigured carries what the caller gave; the fold merges it.
	DomainReconfigured struct {
		Config Config `json:"config"`
	}
	// DomainSubscribed adds a subscriber, or replaces its op.
	DomainSubscribed struct {
		SubscriberName string `json:"subscriber_name"`
		SubscriberOp   string `json:"subscriber_op"`
	}
	// DomainUnsubscribed takes a subscriber away.
	DomainUnsubscribed struct {
		SubscriberName string `json:"subscriber_name"`
	}
	// DomainRemovalRequested marks a domain: the leader drains it.
	DomainRemovalRequested struct{}
	// DomainRemoved says that a drained domain is gone.
	DomainRemoved struct{}

	// LaunchRequested says that the leader wants an instance; the outbox asks
	// the site's provisioner for it.
	LaunchRequested struct {
		LaunchID       string          `json:"launch_id"`
		DeployableType string          `json:"deployable_type"`
		Site           string          `json:"site"`
		Allocation     string          `json:"allocation"`
		ExtraVars      json.RawMessage `json:"extravars,omitempty"` // JSON object; nil: none
		Attempt        int             `json:"attempt,omitempty"`   // 1 + the attempt of the failed launches that this one retries; 0: the first
		Replaces       string          `json:"replaces,omitempty"`  // the unhealthy instance that this one is launched for, or the failed replacement that it retries; "": none
	}
	// StateChanged is an accepted report of a provisioner or agent.
	StateChanged struct {
		State  InstanceState `json:"state"`
		Fields Fields        `json:"fields,omitempty"` // reported fields that are new or differ
	}
	// TerminateRequested says that the leader wants the instance gone.
	TerminateRequested struct{}
	// HealthChanged says what the doctor or a heartbeat found.
	HealthChanged struct {
		Health    Health            `json:"health"`
		Errors    []json.RawMessage `json:"errors,omitzero"`      // nil: as before
		ErrorTime *time.Time        `json:"error_time,omitempty"` // nil: as before
	}
	// Reaped says that the record of an ended instance is gone.
	Reaped struct{}

	// DecisionMade is what an engine saw, what it asked for and why.
	DecisionMade struct {
		DomainSeq    uint64          `json:"domain_seq"`            // the domain's added sequence: which life of the name
		ConfigSeq    uint64          `json:"config_seq"`            // sequence of the config that was decided with
		RefusedSeq   uint64          `json:"refused_seq,omitempty"` // sequence of a config that the engine refused
		InputSeq     uint64          `json:"input_seq"`             // the log sequence that the view showed
		Engine       string          `json:"engine,omitempty"`      // the engine that decided; "": none, the domain drains
		Now          time.Time       `json:"now"`
		Seed         uint32          `json:"seed"`
		Saw          json.RawMessage `json:"saw,omitempty"` // JSON object: counts, target, metric values
		Launches     []string        `json:"launches,omitempty"`
		Terminations []string        `json:"terminations,omitempty"`
		Reason       string          `json:"reason"` // one sentence
		EngineState  EngineState     `json:"engine_state"`
		Memory       json.RawMessage `json:"memory,omitempty"` // the engine's own; at most MaxMemoryBytes
	}

	// LeaderElected opens a term; its sequence is the term's epoch.
	LeaderElected struct {
		Process string `json:"process"`
	}
	// PassCommitted is the first message of every append of a leader and
	// carries its fence.
	PassCommitted struct {
		Pass       string `json:"pass"` // decide, doctor or reap
		Domains    int    `json:"domains,omitempty"`
		Launched   int    `json:"launched,omitempty"`
		Terminated int    `json:"terminated,omitempty"`
		Changed    int    `json:"changed,omitempty"`
	}

	// Unknown is an event of a type that this program does not know, or one
	// whose body it cannot read. The fold only counts it.
	Unknown struct {
		Name string
		Err  error // nil: the type is not known
	}
	// Foreign is a message on the log's subjects that is no event: it names no
	// type, so no epum of any version wrote it. Whoever may send a server or
	// another service a request can put one there, as the reply. It changes
	// nothing, but guards have to count it.
	Foreign struct{}
)

// Limits of what the log and the state bucket hold (design §5), in bytes.
const (
	MaxMemoryBytes   = 16 << 10 // what an engine keeps in a decision record
	MaxInstanceBytes = 64 << 10 // an instance's document
)

// Type implements Event.
func (DefinitionAdded) Type() string { return TypeDefinitionAdded }

// Type implements Event.
func (DefinitionUpdated) Type() string { return TypeDefinitionUpdated }

// Type implements Event.
func (DefinitionRemoved) Type() string { return TypeDefinitionRemoved }

// Type implements Event.
func (DomainAdded) Type() string { return TypeDomainAdded }

// Type implements Event.
func (DomainReconfigured) Type() string { return TypeDomainReconfigured }

// Type implements Event.
func (DomainSubscribed) Type() string { return TypeDomainSubscribed }

// Type implements Event.
func (DomainUnsubscribed) Type() string { return TypeDomainUnsubscribed }

// Type implements Event.
func (DomainRemovalRequested) Type() string { return TypeDomainRemovalRequested }

// Type implements Event.
func (DomainRemoved) Type() string { return TypeDomainRemoved }

// Type implements Event.
func (LaunchRequested) Type() string { return TypeLaunchRequested }

// Type implements Event.
func (StateChanged) Type() string { return TypeStateChanged }

// Type implements Event.
func (TerminateRequested) Type() string { return TypeTerminateRequested }

// Type implements Event.
func (HealthChanged) Type() string { return TypeHealthChanged }

// Type implements Event.
func (Reaped) Type() string { return TypeReaped }

// Type implements Event.
func (DecisionMade) Type() string { return TypeDecisionMade }

// Type implements Event.
func (LeaderElected) Type() string { return TypeLeaderElected }

// Type implements Event.
func (PassCommitted) Type() string { return TypePassCommitted }

// Type implements Event.
func (u Unknown) Type() string { return u.Name }

// Type implements Event: it has none.
func (Foreign) Type() string { return "" }

func (DefinitionAdded) event()        {}
func (DefinitionUpdated) event()      {}
func (DefinitionRemoved) event()      {}
func (DomainAdded) event()            {}
func (DomainReconfigured) event()     {}
func (DomainSubscribed) event()       {}
func (DomainUnsubscribed) event()     {}
func (DomainRemovalRequested) event() {}
func (DomainRemoved) event()          {}
func (LaunchRequested) event()        {}
func (StateChanged) event()           {}
func (TerminateRequested) event()     {}
func (HealthChanged) event()          {}
func (Reaped) event()                 {}
func (DecisionMade) event()           {}
func (LeaderElected) event()          {}
func (PassCommitted) event()          {}
func (Unknown) event()                {}
func (Foreign) event()                {}
