package verify

import (
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// checkTransition checks that an event can happen to its aggregate as the fold has it.
func (c *checker) checkTransition(r *message) {
	if !r.named {
		c.wrong(r, KindTransition, "its subject names no aggregate")
		return
	}
	if kind := events.KindOf(r.Type); known(r.Event) && kind != r.Key.Kind() {
		c.wrong(r, KindTransition, "an event of a %s on the subject of a %s", kind, r.Key.Kind())
		return
	}
	if why := c.impossible(r, r.domain, r.name); why != "" {
		c.wrong(r, KindTransition, "%s: %s", strings.TrimPrefix(r.Type, "epum."), why)
	}
}

// impossible says why an event cannot have happened; "": it can.
func (c *checker) impossible(r *message, domain events.DomainID, name string) string {
	switch ev := r.Event.(type) {
	case events.DefinitionAdded:
		return unless(c.state.Definition(name) == nil, "the definition exists")
	case events.DefinitionUpdated, events.DefinitionRemoved:
		return unless(c.state.Definition(name) != nil, "there is no such definition")
	case events.LaunchRequested, events.StateChanged, events.TerminateRequested, events.HealthChanged, events.Reaped:
		return c.impossibleInstance(ev, domain, name)
	case events.DecisionMade:
		return c.impossibleDecision(r, ev, domain)
	case events.LeaderElected:
		return unless(ev.Process != "", "it names no process")
	case events.PassCommitted, events.Unknown, events.Foreign:
		return ""
	default:
		return impossibleDomain(c.state.Domain(domain), ev, len(c.state.Instances(domain)))
	}
}

// impossibleDomain is impossible for what happens to a domain (nil: there is none) with so
// many instances.
func impossibleDomain(d *events.Domain, ev events.Event, instances int) string {
	switch ev.(type) {
	case events.DomainAdded:
		return unless(d == nil, "the domain exists")
	case events.DomainRemovalRequested:
		return unless(d != nil, "there is no such domain")
	case events.DomainRemoved:
		return first(
			unless(d != nil && d.Removed, "there is no such domain, or nobody asked for its removal"),
			unless(instances == 0, "it has instances"),
		)
	default: // it is reconfigured, subscribed or unsubscribed
		return unless(d != nil && !d.Removed, "there is no such domain, or it is being removed")
	}
}

func (c *checker) impossibleDecision(r *message, ev events.DecisionMade, domain events.DomainID) string {
	d := c.state.Domain(domain)
	if d == nil {
		return "there is no such domain"
	}
	return first(
		unless(ev.DomainSeq == d.AddedSeq, "it is of another life of the domain's name"),
		unless(ev.InputSeq < r.Seq, "it saw what came later"),
		unless(ev.ConfigSeq <= d.ConfigSeq && ev.RefusedSeq <= d.ConfigSeq, "it has a config that came later"),
	)
}

// impossibleInstance is impossible for what happens to an instance.
func (c *checker) impossibleInstance(ev events.Event, domain events.DomainID, name string) string {
	i := c.state.Instance(name)
	if _, launch := ev.(events.LaunchRequested); launch {
		d := c.state.Domain(domain)
		return first(
			unless(d != nil && !d.Removed, "there is no such domain, or it is being removed"),
			unless(i == nil, "the instance exists"),
		)
	}
	if i == nil || i.Domain != domain {
		return "there is no such instance"
	}
	switch ev := ev.(type) {
	case events.StateChanged:
		switch {
		case !ev.State.Known():
			return "there is no state " + string(ev.State)
		case ev.State < i.State:
			return "it goes from " + string(i.State) + " back to " + string(ev.State)
		}
		return unless(ev.State > i.State || len(ev.Fields) > 0, "it changes nothing")
	case events.HealthChanged:
		switch ev.Health {
		case events.HealthUnknown, events.HealthOK, events.HealthMonitorError, events.HealthProcessError, events.HealthOutOfContact,
			events.HealthMissing, events.HealthZombie:
			return ""
		}
		return "there is no health " + string(ev.Health)
	case events.Reaped:
		if !i.State.Terminal() {
			return "the instance is " + string(i.State)
		}
		return ""
	default: // a termination may come after any report
		return ""
	}
}

func unless(holds bool, why string) string {
	if holds {
		return ""
	}
	return why
}

// first is the first reason that there is.
func first(reasons ...string) string {
	for _, why := range reasons {
		if why != "" {
			return why
		}
	}
	return ""
}
