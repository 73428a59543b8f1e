package backtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
)

// simulation is a domain's life under another policy, in virtual time: reconfigures
// and readings come from the log, all else from what its decisions ask for.
type simulation struct {
	ctx       context.Context //nolint:containedctx // of the run
	config    *Config
	survey    *survey
	cloud     *cloud
	meter     *meter
	overlay   *engines.Overlay
	registry  *engines.Registry
	evaluator *passes.Evaluator
	agenda    agenda
	load      *load
	nextPass  time.Time
	wake      time.Time // decide then; zero: no need
	ids       int
	judged    uint64 // the last config that was laid over
	out       Simulated
}

func newSimulation(ctx context.Context, c *Config, s *survey, registry *engines.Registry, overlay *engines.Overlay) *simulation {
	m := &simulation{
		ctx: ctx, config: c, survey: s, cloud: s.cloud, meter: newMeter(c.Known), overlay: overlay, registry: registry, load: newLoad(),
	}
	m.evaluator = passes.NewEvaluator(registry, m.newID, c.Ask)
	return m
}

// newID gives ids that sort behind those of the log, which are UUIDs.
func (m *simulation) newID() string {
	m.ids++
	return fmt.Sprintf("simulated-%012d", m.ids)
}

// take takes the next event of the log.
func (m *simulation) take(env events.Envelope, ev events.Event) error {
	if made, ok := ev.(events.DecisionMade); ok {
		defer m.load.learn(&made)
	}
	if !m.meter.on {
		if !m.config.begun(env) {
			m.meter.apply(env, ev)
			return nil
		}
		if err := m.begin(); err != nil {
			return err
		}
	}
	if err := m.goOn(env.Time); err != nil {
		return err
	}
	switch ev := ev.(type) {
	case events.DomainAdded, events.DomainReconfigured, events.DomainRemovalRequested:
		m.happens(env.Key, ev)
		return m.decide()
	default: // the simulated domain has its own
		return nil
	}
}

// begin begins with what there is: instances that are on their way arrive, or not, and
// those that run may fail.
func (m *simulation) begin() error {
	m.meter.begin(m.survey.meter.from)
	m.nextPass = m.meter.now
	for _, i := range slices.Clone(m.instances()) {
		switch {
		case i.State.Terminal():
			m.ended(i.ID)
		case i.State == events.Terminating:
			m.terminated(i.ID)
		case i.State < events.Running:
			m.launched(i.ID, i.Site)
		case i.State == events.Running:
			m.runs(i.ID)
		}
	}
	return m.decide()
}

func (m *simulation) instances() []*events.Instance {
	return m.meter.state.Instances(m.config.Domain)
}

// happens folds an event of now.
func (m *simulation) happens(key events.Key, ev events.Event) {
	m.meter.apply(events.Envelope{Key: key, Type: ev.Type(), Seq: m.meter.state.Seq + 1, Time: m.meter.now}, ev)
}

// goOn lets time go on: what was on its way happens, and the domain is decided on
// whenever the leader would.
func (m *simulation) goOn(until time.Time) error {
	for {
		at := m.nextPass
		if !m.wake.IsZero() && m.wake.Before(at) {
			at = m.wake
		}
		at = m.agenda.next(at)
		if at.After(until) {
			m.meter.goOn(until)
			return nil
		}
		if err := m.ctx.Err(); err != nil {
			return err
		}
		m.meter.goOn(at)
		for _, o := range m.agenda.take(at) {
			m.occurs(o)
		}
		if !m.wake.After(at) {
			m.wake = time.Time{}
		}
		if !m.nextPass.After(at) {
			m.nextPass = at.Add(m.config.Every)
		}
		if err := m.decide(); err != nil {
			return err
		}
	}
}

// occurs has something happen to an instance that is there still, and can meet it.
func (m *simulation) occurs(o occurrence) {
	i := m.meter.state.Instance(o.instance)
	if i == nil {
		return
	}
	key := m.config.Domain.InstanceKey(i.ID)
	switch ev := o.event.(type) {
	case events.StateChanged:
		if ev.State <= i.State || i.State == events.Terminating && ev.State < events.Terminated {
			return
		}
		m.happens(key, ev)
		if ev.State == events.Running {
			m.runs(i.ID)
		} else if ev.State.Terminal() {
			m.ended(i.ID)
		}
	case events.HealthChanged:
		if i.State == events.Running {
			m.happens(key, ev)
		}
	default:
		m.happens(key, ev)
	}
}

// launched has come of a launch what comes of it.
func (m *simulation) launched(id, site string) {
	o := m.cloud.launch(site)
	m.later(o.after, id, events.StateChanged{State: o.state})
}

// runs lets an instance live, and maybe fail or fall ill.
func (m *simulation) runs(id string) {
	if after, ok := m.cloud.until(m.cloud.failures.seen); ok {
		m.later(after, id, events.StateChanged{State: m.cloud.failures.draw(m.cloud.random)})
	}
	if m.cloud.firstOK.seen > 0 {
		m.later(m.cloud.firstOK.draw(m.cloud.random), id, events.HealthChanged{Health: events.HealthOK})
	}
	if after, ok := m.cloud.until(m.cloud.ills.seen); ok {
		m.later(after, id, events.HealthChanged{Health: m.cloud.ills.draw(m.cloud.random)})
	}
}

// terminated lets an instance end that is to.
func (m *simulation) terminated(id string) {
	m.later(m.cloud.endings.draw(m.cloud.random), id, events.StateChanged{State: events.Terminated})
}

// ended has the record of an instance go in time.
func (m *simulation) ended(id string) { m.later(m.config.ReapAge, id, events.Reaped{}) }

func (m *simulation) later(after time.Duration, id string, ev events.Event) {
	m.agenda.put(occurrence{at: m.meter.now.Add(after), instance: id, event: ev})
}

// mostRounds bounds how often one time is decided on, as in the leader.
const mostRounds = 100

// decide decides on the domain as it is now, and does what is decided.
func (m *simulation) decide() error {
	for range mostRounds {
		domain, decision, instances := m.meter.state.Look(m.config.Domain)
		if domain == nil {
			return nil
		}
		laid, err := m.lay(domain)
		if err != nil {
			return err
		}
		e, err := m.evaluator.Evaluate(&passes.Scene{
			Domain: laid, Decision: decision, Instances: instances, Seq: m.meter.state.Seq, Now: m.meter.now,
			Readings: m.load.readings(instances, m.meter.now),
		}, nil, false)
		if err != nil {
			if m.out.Failures++; m.out.Failures == 1 {
				m.out.Failure = err.Error()
			}
			return nil
		}
		if !e.Wake.IsZero() && (m.wake.IsZero() || e.Wake.Before(m.wake)) {
			m.wake = e.Wake
		}
		m.do(e.Drafts)
		if !e.Again {
			return nil
		}
	}
	return nil
}

// lay gives the domain with the other config. A reconfigure that the service would
// have refused on top of that changes nothing.
func (m *simulation) lay(d *events.Domain) (*events.Domain, error) {
	laid, err := m.overlay.Domain(d)
	if laid == nil {
		return nil, err
	}
	if err != nil && m.judged != d.ConfigSeq {
		m.out.Refused++
	}
	m.judged = d.ConfigSeq
	return laid, nil
}

// do does what was decided.
func (m *simulation) do(drafts []events.Draft) {
	for _, d := range drafts {
		m.happens(d.Key, d.Event)
		_, id, _ := d.Key.Parts()
		switch ev := d.Event.(type) {
		case events.LaunchRequested:
			m.launched(id, ev.Site)
		case events.TerminateRequested:
			m.terminated(id)
		default:
		}
	}
}

// finish goes on to the end of the range and gives what came of it.
func (m *simulation) finish(r *Result) error {
	if !m.meter.on {
		if err := m.begin(); err != nil {
			return err
		}
	}
	if err := m.goOn(r.To); err != nil {
		return err
	}
	m.meter.end(r.To)
	r.Candidate, r.Simulated = m.meter.side(), &m.out
	r.Policy = policyOf(m.meter.state.Decision(m.config.Domain))
	r.Notes = append(r.Notes, m.notes()...)
	return nil
}

// notes say what this history in particular does not tell.
func (m *simulation) notes() (notes []string) {
	if m.cloud.all.seen == 0 {
		notes = append(notes, "no recorded launch came to anything: simulated ones run at once")
	}
	if d := m.meter.state.Domain(m.config.Domain); d != nil {
		laid, _ := m.overlay.Domain(d)
		if laid == nil {
			return notes
		}
		if general, err := engines.ParseGeneral(laid.Config.General); err == nil && general.DryRun {
			notes = append(notes, "the domain is a dry run, so nothing is done in the simulation either: lay general.dry_run=false over it to see what would be")
		}
		kind, err := m.registry.Kind(laid.Config)
		if err != nil || kind.Sensing == nil {
			return notes
		}
		sensing := kind.Sensing(laid.Config.EngineConf)
		for _, metric := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(sensing.Domain, sensing.Instances)))) {
			if !m.load.ever[metric] {
				notes = append(notes, fmt.Sprintf("the log has no reading of the metric %q: it was missing throughout", metric))
			}
		}
	}
	return notes
}
