package events

import (
	"slices"
	"strings"
)

// Apply folds one event into the state. It is total and does nothing but change
// the state: an event that is not above the state's or its document's sequence
// is skipped, one that creates nothing is ignored where there is no document,
// and an Unknown or Foreign only moves its document's sequence. An event changes no
// other document than its own subject's: one that is of another kind than its
// subject counts as unknown.
func Apply(s *State, env Envelope, ev Event) { //nolint:gocyclo // one case for each event type: splitting would hide that it is exhaustive
	if env.Seq <= s.Seq {
		return
	}
	s.Seq = env.Seq
	s.Digest = digest(s.Digest, env)
	if env.Time.After(s.Time) {
		s.Time = env.Time
	}
	domain, name, ok := env.Key.Parts()
	if !ok {
		s.doubt(env.Key, ev)
		return
	}
	kind := env.Key.Kind()
	if env.Seq <= s.seqOf(kind, domain, name) {
		return
	}
	if !happensTo(ev, kind) {
		ev = Unknown{Name: ev.Type()}
	}
	switch ev := ev.(type) {
	case DefinitionAdded:
		s.setDefinition(name, ev.Definition, env.Seq)
	case DefinitionUpdated:
		s.setDefinition(name, ev.Definition, env.Seq)
	case DefinitionRemoved:
		delete(s.definitions, name)
	case DomainAdded:
		s.addDomain(domain, ev, env.Seq)
	case DomainReconfigured, DomainSubscribed, DomainUnsubscribed, DomainRemovalRequested:
		s.changeDomain(domain, ev, env.Seq)
	case DomainRemoved:
		if e := s.domains[domain]; e != nil {
			e.domain = nil
			s.drop(domain, e)
		}
	case LaunchRequested:
		s.addInstance(domain, name, ev, env)
	case StateChanged, TerminateRequested, HealthChanged:
		s.changeInstance(domain, name, ev, env)
	case Reaped:
		if i := s.instanceOf(domain, name); i != nil {
			s.dropInstance(i)
		}
	case DecisionMade:
		ev.Memory = present(ev.Memory)
		ev.Saw = nil // history has it; the fold needs only what the next decision does
		ev.Launches, ev.Terminations = nil, nil
		e := s.entry(domain)
		e.decision = &Decision{Domain: domain, ID: env.ID, Time: env.Time, decisionBody: decisionBody(ev), Seq: env.Seq}
	case LeaderElected:
		s.leader = Leader{Process: ev.Process, Epoch: env.Seq, Time: s.Time, Seq: env.Seq}
	case PassCommitted:
	case Unknown, Foreign:
		s.doubt(env.Key, ev)
		s.pass(env, ev, domain, name)
	}
}

// doubt notes what this program does not know of an aggregate.
func (s *State) doubt(k Key, ev Event) {
	if !isForeign(ev) {
		s.unknown[k] = ev.Type()
	}
}

func isForeign(ev Event) bool {
	_, foreign := ev.(Foreign)
	return foreign
}

// happensTo reports whether an event is one of a kind of aggregate, which is the
// second word of its wire name. An Unknown or Foreign may be one of any.
func happensTo(ev Event, kind Kind) bool {
	if _, unknown := ev.(Unknown); unknown || isForeign(ev) {
		return true
	}
	return KindOf(ev.Type()) == kind
}

// KindOf gives the kind of aggregates that events of a type are of, also of one that
// this version does not know: the second word of its name.
func KindOf(typ string) Kind {
	rest, _ := strings.CutPrefix(typ, "epum.")
	word, _, _ := strings.Cut(rest, ".")
	return Kind(word)
}

func (s *State) setDefinition(name string, c Config, seq uint64) {
	name = strings.Clone(name)
	s.definitions[name] = &Definition{Name: name, Config: c, Seq: seq}
}

func (s *State) addDomain(id DomainID, ev DomainAdded, seq uint64) {
	d := &Domain{
		ID:           DomainID{Owner: s.word(id.Owner), Name: strings.Clone(id.Name)},
		DefinitionID: s.word(ev.DefinitionID),
		Config:       ev.Config.Filled(),
		AddedSeq:     seq,
		ConfigSeq:    seq,
		Seq:          seq,
	}
	if ev.SubscriberName != "" {
		d.Subscribers = []Subscriber{{Name: ev.SubscriberName, Op: ev.SubscriberOp}}
	}
	s.entry(d.ID).domain = d
}

func (s *State) changeDomain(id DomainID, ev Event, seq uint64) {
	old := s.Domain(id)
	if old == nil {
		return
	}
	d := *old
	d.Seq = seq
	switch ev := ev.(type) {
	case DomainReconfigured:
		// What cannot be merged was never accepted; the fold stays total.
		if merged, err := d.Config.Merge(ev.Config); err == nil && !merged.Equal(d.Config) {
			d.Config, d.ConfigSeq = merged, seq
		}
	case DomainSubscribed:
		d.Subscribers = withSubscriber(d.Subscribers, Subscriber{Name: ev.SubscriberName, Op: ev.SubscriberOp})
	case DomainUnsubscribed:
		d.Subscribers = slices.DeleteFunc(slices.Clone(d.Subscribers), func(x Subscriber) bool { return x.Name == ev.SubscriberName })
	case DomainRemovalRequested:
		d.Removed = true
	default: // an Unknown or Foreign: only Seq moves
	}
	s.domains[id].domain = &d
}

func withSubscriber(subs []Subscriber, sub Subscriber) []Subscriber {
	subs = slices.Clone(subs)
	for n := range subs {
		if subs[n].Name == sub.Name {
			subs[n].Op = sub.Op
			return subs
		}
	}
	return append(subs, sub)
}

func (s *State) addInstance(domain DomainID, id string, ev LaunchRequested, env Envelope) {
	s.putInstance(&Instance{
		ID:             strings.Clone(id),
		Domain:         s.domainID(domain),
		LaunchID:       ev.LaunchID,
		DeployableType: s.word(ev.DeployableType),
		Site:           s.word(ev.Site),
		Allocation:     s.word(ev.Allocation),
		ExtraVars:      present(ev.ExtraVars),
		State:          Requesting,
		StateTime:      env.Time,
		Attempt:        ev.Attempt,
		Replacement:    ev.Replaces != "",
		Health:         HealthUnknown,
		Seq:            env.Seq,
	})
}

func (s *State) changeInstance(domain DomainID, id string, ev Event, env Envelope) {
	known := s.instanceOf(domain, id)
	if known == nil {
		return
	}
	i := *known
	i.Seq = env.Seq
	switch ev := ev.(type) {
	case StateChanged:
		i.enter(ev.State, env)
		i.Fields = i.Fields.with(ev.Fields, s.word)
	case TerminateRequested:
		// What its provisioner has called failed is only cleared away: where it never
		// ran, it is a launch that failed.
		i.Unwanted = i.Unwanted || i.State != RunningFailed
		i.enter(Terminating, env)
	case HealthChanged:
		i.Health = Health(s.word(string(ev.Health)))
		i.thrive(env)
		if ev.Errors != nil {
			i.Errors = ev.Errors
		}
		if ev.ErrorTime != nil {
			i.ErrorTime = ev.ErrorTime
		}
	default: // an Unknown or Foreign: only Seq moves
	}
	s.putInstance(&i)
}

// enter moves the instance on to a higher state; a lower or equal one is no
// news, so terminations commute with reports.
func (i *Instance) enter(state InstanceState, env Envelope) {
	n := slices.Index(InstanceStates, state)
	if n < 0 || state <= i.State {
		return
	}
	i.State, i.StateTime = InstanceStates[n], env.Time
	if state == Running {
		i.RunningTime = env.Time
		i.thrive(env)
	}
	if state >= Terminating {
		i.Health = HealthUnknown
	}
}

// thrive notes that the instance has come to be RUNNING and OK, if it has.
func (i *Instance) thrive(env Envelope) {
	if i.State == Running && i.Health == HealthOK {
		i.HealthyTime = env.Time
	}
}

// pass moves the sequence of what an Unknown or Foreign is about, and nothing else.
func (s *State) pass(env Envelope, ev Event, domain DomainID, name string) {
	switch env.Key.Kind() {
	case KindDefinition:
		if old := s.definitions[name]; old != nil {
			d := *old
			d.Seq = env.Seq
			s.definitions[name] = &d
		}
	case KindDomain:
		s.changeDomain(domain, ev, env.Seq)
	case KindInstance:
		s.changeInstance(domain, name, ev, env)
	case KindDecision:
		d := Decision{Domain: s.domainID(domain)}
		old := s.Decision(domain)
		if old != nil {
			d = *old
		}
		d.Seq = env.Seq
		// Where no decision was made yet, a document of none counts as a guard only,
		// like that of a domain that has gone: what else would guard the first one?
		if old != nil || isForeign(ev) {
			s.entry(domain).decision = &d
		}
	case KindLeader:
		if s.leader.Epoch > 0 {
			s.leader.Seq = env.Seq
		}
	case KindPass:
	}
}

// domainID gives the shared copy of a domain's name.
func (s *State) domainID(id DomainID) DomainID {
	if d := s.Domain(id); d != nil {
		return d.ID
	}
	return DomainID{Owner: s.word(id.Owner), Name: s.word(id.Name)}
}
