package passes

import (
	"context"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// doctor watches over the health of instances: it keeps when each was last
// heard of, and when it is to be looked at next. It is made anew by every term,
// so after an election everybody's time-outs begin anew (design §6). A pass costs
// what is due; a heartbeat that is no news costs a look at the fold and a note.
type doctor struct {
	term *Term

	mu     sync.Mutex // guards what follows, as heartbeats come from another goroutine
	vitals map[string]*vital
	due    *calendar[*vital]
	news   map[string]heartbeat // by instance id, that change a health: the loop commits them
	ready  chan struct{}        // holds an element while there is news
	early  map[string]heartbeat // of instances that are not known, or not monitored, by the present fold
}

// vital is what the doctor knows of one instance.
type vital struct {
	instance *events.Instance
	config   *engines.Health // nil: nobody wants it looked at
	latest   time.Time       // when its last heartbeat came; zero: none has
	treated  uint64          // the instance's sequence by which its health was last changed here; 0: it never was
	heard    time.Time       // in the leader's time; zero: not since the election
	address  string          // of its agent; "": its own id
	at       time.Time       // when it is to be looked at; zero: not before something happens
	gone     bool            // its record is
}

// newDoctor starts with all instances that there are.
func newDoctor(t *Term) *doctor {
	d := &doctor{
		term: t, vitals: map[string]*vital{}, due: newCalendar[*vital](t.elected), ready: make(chan struct{}, 1),
		news: map[string]heartbeat{}, early: map[string]heartbeat{},
	}
	lost := []*vital{}
	t.Replica.View(func(s *events.State) {
		for domain := range s.Domains() {
			config := t.healthOf(domain)
			if !config.MonitorHealth {
				continue
			}
			for _, i := range s.Instances(domain.ID) {
				if v := d.see(i, config); i.Health == events.HealthOutOfContact && i.Valid() {
					lost = append(lost, v)
				}
			}
		}
	})
	for _, v := range lost { // the leader before may not have come to ask
		d.ask(v)
	}
	return d
}

// note takes the instances and domains that changed.
func (d *doctor) note(changed map[events.Key]uint64) {
	if len(changed) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term.Replica.View(func(s *events.State) {
		for key := range changed {
			id, name, _ := key.Parts()
			switch key.Kind() {
			case events.KindInstance:
				d.noteInstance(s, id, name)
			case events.KindDomain:
				d.noteDomain(s, id)
			}
		}
	})
}

func (d *doctor) noteInstance(s *events.State, domain events.DomainID, id string) {
	i := s.Instance(id)
	if i == nil {
		if v := d.vitals[id]; v != nil {
			v.gone = true
			delete(d.vitals, id)
		}
		return
	}
	if config := d.term.healthOf(s.Domain(domain)); config.MonitorHealth || d.vitals[id] != nil {
		d.see(i, config)
	}
}

// noteDomain gives all of a domain's instances its present config.
func (d *doctor) noteDomain(s *events.State, id events.DomainID) {
	domain := s.Domain(id)
	if domain == nil {
		return
	}
	config := d.term.healthOf(domain)
	for _, i := range s.Instances(id) {
		if v := d.vitals[i.ID]; config.MonitorHealth && (v == nil || v.config != config) || v != nil && v.config != nil && !config.MonitorHealth {
			d.see(i, config)
		}
	}
}

// see notes how an instance is, and plans the next look at it.
func (d *doctor) see(i *events.Instance, config *engines.Health) *vital {
	v := d.vitals[i.ID]
	if v == nil {
		v = &vital{heard: d.early[i.ID].at}
		d.vitals[i.ID] = v
	}
	v.instance, v.config = i, config
	if !config.MonitorHealth {
		v.config = nil
	}
	d.plan(v, d.term.now(time.Time{}))
	return v
}

// plan puts the next look at an instance down, unless an earlier one is there.
func (d *doctor) plan(v *vital, now time.Time) {
	if v.config == nil {
		return
	}
	health, at := diagnose(v.instance, v.heard, d.term.elected, now, v.config)
	if health != v.instance.Health {
		at = now
	}
	if at.IsZero() || !v.at.IsZero() && !at.Before(v.at) {
		return
	}
	v.at = at
	d.due.put(at, v)
}

// finding is a health that an instance has come to.
type finding struct {
	vital    *vital
	instance *events.Instance
	health   events.Health
}

// look looks at all that are due, and gives what has changed.
func (d *doctor) look(now time.Time) (findings []finding, looked int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := d.due.take(now)
	for _, v := range due {
		if v.at.IsZero() || v.at.After(now) {
			continue // put down for another time since
		}
		v.at = time.Time{}
		if v.gone || v.config == nil {
			continue
		}
		looked++
		health, again := diagnose(v.instance, v.heard, d.term.elected, now, v.config)
		if health != v.instance.Health {
			findings = append(findings, finding{v, v.instance, health})
			v.treated = v.instance.Seq
		} else if !again.IsZero() {
			v.at = again
			d.due.put(again, v)
		}
	}
	return findings, looked
}

// ask has an agent tell how its instance is.
func (d *doctor) ask(v *vital) {
	address := v.address
	if address == "" {
		address = v.instance.ID
	}
	if err := d.term.Sender.Send(d.term.Prefix.OUAgent(address), nil, []byte("{}")); err != nil {
		d.term.Logger.Warn("agent not asked", "instance", v.instance.ID, "error", err)
	}
}

// examine runs the doctor pass: the instances that are due to be looked at.
func (t *Term) examine(ctx context.Context) (Result, error) {
	result := Result{Pass: PassDoctor}
	if err := t.treat(ctx); err != nil { // what was said goes before what was not
		return result, err
	}
	t.passTime.Store(t.Clock().UnixNano())
	defer t.passTime.Store(0)
	if err := t.catchUp(ctx); err != nil {
		return result, err
	}
	findings, _ := t.doctor.look(t.now(time.Time{}))
	domains := map[events.DomainID]bool{}
	p := &packer{term: t, pass: PassDoctor, result: &result}
	for _, f := range findings {
		domains[f.instance.Domain] = true
		u := t.healthUnit(f.instance, events.HealthChanged{Health: f.health})
		u.done = func(landed bool) { t.doctor.found(f, landed) }
		if err := p.add(ctx, outcome{id: u.domain, unit: u}); err != nil {
			return result, err
		}
	}
	result.Domains = len(domains)
	if err := p.flush(ctx); err != nil {
		return result, err
	}
	result.Seq = max(t.lastAppend.Load(), t.Replica.Applied())
	return result, nil
}

// found follows a finding that is in the log, or that came too late since the
// instance has moved on: then it is looked at again.
func (d *doctor) found(f finding, landed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.term.now(time.Time{})
	if !landed {
		d.plan(f.vital, now)
		return
	}
	d.term.Logger.Info("health changed", "instance", f.instance.ID, "owner", f.instance.Domain.Owner, "domain", f.instance.Domain.Name,
		"from", string(f.instance.Health), "to", string(f.health))
	if f.health == events.HealthOutOfContact {
		f.vital.heard = now
		d.ask(f.vital)
	}
}

// healthUnit is a change of health, guarded by its instance.
func (t *Term) healthUnit(i *events.Instance, ev events.HealthChanged) *unit {
	key := i.Domain.InstanceKey(i.ID)
	return &unit{domain: i.Domain, drafts: []events.Draft{t.draft(key, ev, events.Guard{Key: key, Seq: i.Seq}, "")}, changed: 1}
}
