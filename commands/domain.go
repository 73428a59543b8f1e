package commands

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

type (
	// AddDomain makes a domain from a definition, with the config laid over it.
	AddDomain struct {
		DomainID       string        `json:"domain_id"`
		DefinitionID   string        `json:"definition_id"`
		Config         events.Config `json:"config"`
		SubscriberName string        `json:"subscriber_name,omitempty"` // "": no subscriber
		SubscriberOp   string        `json:"subscriber_op,omitempty"`
	}
	// RemoveDomain marks a domain: the leader drains it, then it vanishes.
	RemoveDomain struct {
		DomainID string `json:"domain_id"`
	}
	// ReconfigureDomain lays a config over a domain's, key by key in each section.
	ReconfigureDomain struct {
		DomainID string        `json:"domain_id"`
		Config   events.Config `json:"config"`
	}
	// SubscribeDomain adds a subscriber, or replaces its op.
	SubscribeDomain struct {
		DomainID       string `json:"domain_id"`
		SubscriberName string `json:"subscriber_name"`
		SubscriberOp   string `json:"subscriber_op"`
	}
	// UnsubscribeDomain takes a subscriber away.
	UnsubscribeDomain struct {
		DomainID       string `json:"domain_id"`
		SubscriberName string `json:"subscriber_name"`
	}
)

// Op implements Command.
func (AddDomain) Op() string { return OpAddDomain }

// Op implements Command.
func (RemoveDomain) Op() string { return OpRemoveDomain }

// Op implements Command.
func (ReconfigureDomain) Op() string { return OpReconfigureDomain }

// Op implements Command.
func (SubscribeDomain) Op() string { return OpSubscribeDomain }

// Op implements Command.
func (UnsubscribeDomain) Op() string { return OpUnsubscribeDomain }

// Key implements Command.
func (c AddDomain) Key(caller string) events.Key { return domainKey(caller, c.DomainID) }

// Key implements Command.
func (c RemoveDomain) Key(caller string) events.Key { return domainKey(caller, c.DomainID) }

// Key implements Command.
func (c ReconfigureDomain) Key(caller string) events.Key { return domainKey(caller, c.DomainID) }

// Key implements Command.
func (c SubscribeDomain) Key(caller string) events.Key { return domainKey(caller, c.DomainID) }

// Key implements Command.
func (c UnsubscribeDomain) Key(caller string) events.Key { return domainKey(caller, c.DomainID) }

// Check implements Command.
func (c AddDomain) Check(known *engines.Registry) error {
	if err := checkNames("domain_id", c.DomainID, "definition_id", c.DefinitionID); err != nil {
		return err
	}
	if c.SubscriberName != "" || c.SubscriberOp != "" {
		if err := checkNames("subscriber_name", c.SubscriberName, "subscriber_op", c.SubscriberOp); err != nil {
			return err
		}
	}
	return checkPart("config", c.Config, known)
}

// Check implements Command.
func (c ReconfigureDomain) Check(known *engines.Registry) error {
	if err := checkNames("domain_id", c.DomainID); err != nil {
		return err
	}
	return checkPart("config", c.Config, known)
}

// Check implements Command.
func (c RemoveDomain) Check(*engines.Registry) error { return checkNames("domain_id", c.DomainID) }

// Check implements Command.
func (c SubscribeDomain) Check(*engines.Registry) error {
	return checkNames("domain_id", c.DomainID, "subscriber_name", c.SubscriberName, "subscriber_op", c.SubscriberOp)
}

// Check implements Command.
func (c UnsubscribeDomain) Check(*engines.Registry) error {
	return checkNames("domain_id", c.DomainID, "subscriber_name", c.SubscriberName)
}

// Look implements Command.
func (c AddDomain) Look(s *events.State, caller string) View {
	v := lookDomain(s, caller, c.DomainID)
	v.Definition = s.Definition(c.DefinitionID)
	if v.Unknown == "" && s.HasUnknown() {
		v.Unknown = s.Unknown(events.DefinitionKey(c.DefinitionID))
	}
	return v
}

// Look implements Command.
func (c RemoveDomain) Look(s *events.State, caller string) View {
	return lookDomain(s, caller, c.DomainID)
}

// Look implements Command.
func (c ReconfigureDomain) Look(s *events.State, caller string) View {
	return lookDomain(s, caller, c.DomainID)
}

// Look implements Command.
func (c SubscribeDomain) Look(s *events.State, caller string) View {
	return lookDomain(s, caller, c.DomainID)
}

// Look implements Command.
func (c UnsubscribeDomain) Look(s *events.State, caller string) View {
	return lookDomain(s, caller, c.DomainID)
}

// Decide implements Command.
func (c AddDomain) Decide(v View, known *engines.Registry) (Outcome, error) {
	if v.Domain != nil {
		if v.Domain.Removed {
			return Outcome{}, ErrWriteConflict.With("the domain %q is being removed; wait until it is gone", c.DomainID)
		}
		return Outcome{}, ErrWriteConflict.With("the domain %q exists already; reconfigure it or choose another name", c.DomainID)
	}
	if v.Definition == nil {
		return Outcome{}, badField("definition_id", "names no definition: there is none called %q", c.DefinitionID)
	}
	merged, err := mergeConfig(v.Definition.Config, c.Config, known)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Changes: true, Event: events.DomainAdded{
		DefinitionID: c.DefinitionID, DefinitionSeq: v.Definition.Seq, Config: merged,
		SubscriberName: c.SubscriberName, SubscriberOp: c.SubscriberOp,
	}}, nil
}

// Decide implements Command.
func (c RemoveDomain) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Domain == nil {
		return Outcome{}, noDomain(c.DomainID)
	}
	return Outcome{Event: events.DomainRemovalRequested{}, Changes: !v.Domain.Removed}, nil
}

// Decide implements Command.
func (c ReconfigureDomain) Decide(v View, known *engines.Registry) (Outcome, error) {
	if v.Domain == nil || v.Domain.Removed {
		return Outcome{}, noDomain(c.DomainID)
	}
	merged, err := mergeConfig(v.Domain.Config, c.Config, known)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Event: events.DomainReconfigured{Config: c.Config}, Changes: !merged.Equal(v.Domain.Config)}, nil
}

// Decide implements Command.
func (c SubscribeDomain) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Domain == nil || v.Domain.Removed {
		return Outcome{}, noDomain(c.DomainID)
	}
	same := slices.Contains(v.Domain.Subscribers, events.Subscriber{Name: c.SubscriberName, Op: c.SubscriberOp})
	if !same && len(v.Domain.Subscribers) >= MaxSubscribers && !v.subscribed(c.SubscriberName) {
		return Outcome{}, ErrTooLarge.With("domain %q has %d subscribers, at most %d are allowed", c.DomainID, len(v.Domain.Subscribers), MaxSubscribers)
	}
	return Outcome{
		Event:   events.DomainSubscribed{SubscriberName: c.SubscriberName, SubscriberOp: c.SubscriberOp},
		Changes: !same,
	}, nil
}

// Decide implements Command.
func (c UnsubscribeDomain) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Domain == nil || v.Domain.Removed {
		return Outcome{}, noDomain(c.DomainID)
	}
	return Outcome{Event: events.DomainUnsubscribed{SubscriberName: c.SubscriberName}, Changes: v.subscribed(c.SubscriberName)}, nil
}

// MaxSubscribers is the most that a domain may have: with its config they have to
// fit one document of the state bucket, 1 MiB.
const MaxSubscribers = 1000

func (v View) subscribed(name string) bool {
	return slices.ContainsFunc(v.Domain.Subscribers, func(s events.Subscriber) bool { return s.Name == name })
}

func domainKey(owner, name string) events.Key {
	return events.DomainID{Owner: owner, Name: name}.Key()
}

func lookDomain(s *events.State, owner, name string) View {
	id := events.DomainID{Owner: owner, Name: name}
	v := View{Domain: s.Domain(id)}
	if v.Domain != nil {
		v.Seq = v.Domain.Seq
	}
	if s.HasUnknown() {
		v.Unknown = s.Unknown(id.Key())
	}
	return v
}

func noDomain(name string) error {
	return ErrNotFound.With("you have no domain %q", name)
}

// checkPart checks a config that will be laid over another: each section for
// itself, and engine_conf where the engine is named along with it.
func checkPart(field string, c events.Config, known *engines.Registry) error {
	general, err := engines.ParseGeneral(c.General)
	if err != nil {
		return badConfig(field, err)
	}
	if general.EngineClass != "" {
		if err := known.Validate(c, false); err != nil {
			return badConfig(field, err)
		}
		return nil
	}
	if len(c.EngineConf) > 0 && jsontext.Value(c.EngineConf).Kind() != '{' {
		return badField(field+"."+engines.SectionEngineConf, "must be a JSON object")
	}
	if _, err := engines.ParseHealth(c.Health); err != nil {
		return badConfig(field, err)
	}
	return nil
}

// mergeConfig gives a domain's config, complete and within its limit.
func mergeConfig(base, over events.Config, known *engines.Registry) (events.Config, error) {
	merged, err := base.Merge(over)
	if err != nil {
		return merged, badField("config", "cannot be merged: each section must be a JSON object")
	}
	merged = merged.Filled()
	if err := known.Validate(merged, true); err != nil {
		return merged, badConfig("config", err)
	}
	if merged.Size() > MaxBytes {
		return merged, ErrTooLarge.With("the merged config has %d bytes, at most %d are allowed", merged.Size(), MaxBytes)
	}
	return merged, nil
}
