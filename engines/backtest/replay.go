package backtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
)

// replay decides again on each recorded decision of a range.
type replay struct {
	config    *Config
	survey    *survey
	recorded  *events.State
	replayed  *meter // folds the log with what is decided again in place of the records
	evaluator *passes.Evaluator
	next      int                       // of the survey's input sequences
	scene     *passes.Scene             // at the next of them, once the log is that far; nil: it is not
	versions  map[uint64]*events.Domain // by the sequence of their config: those that an engine may still have
	open      *again                    // the last decision; nil: none
	out       Replayed
	before    int // records that rest on what was before the history begins
	// so many more of them than on record
	launches, terminations int
}

// again is a decision that was made again.
type again struct {
	id         string // of its record
	difference Difference
	unknowable bool
	launches   []events.LaunchRequested // that are still to come
}

func newReplay(c *Config, s *survey, registry *engines.Registry) *replay {
	ids := 0
	newID := func() string { ids++; return fmt.Sprintf("again-%d", ids) }
	versions := map[uint64]*events.Domain{}
	if d := c.Known.Domain(c.Domain); d != nil {
		versions[d.ConfigSeq] = d
	}
	return &replay{
		config: c, survey: s, recorded: c.Known.Clone(), replayed: newMeter(c.Known), evaluator: passes.NewEvaluator(registry, newID, nil),
		versions: versions,
	}
}

// take takes the next event.
func (p *replay) take(env events.Envelope, ev events.Event) error {
	if !p.replayed.on && p.config.begun(env) {
		p.replayed.begin(p.survey.meter.from)
	}
	if p.scene == nil && p.next < len(p.survey.inputs) && env.Seq > p.survey.inputs[p.next] {
		p.look()
	}
	again := ev
	switch ev := ev.(type) {
	case events.DecisionMade:
		if p.replayed.on {
			p.close()
			again = p.decide(env, ev)
			p.next, p.scene = p.next+1, nil
		}
	case events.LaunchRequested:
		p.launched(env, ev)
	default:
	}
	events.Apply(p.recorded, env, ev)
	p.replayed.apply(env, again)
	if d := p.recorded.Domain(p.config.Domain); d != nil && p.versions[d.ConfigSeq] == nil {
		p.versions[d.ConfigSeq] = d
	}
	return nil
}

// look keeps what the leader saw for the next decision.
func (p *replay) look() {
	domain, decision, instances := p.recorded.Look(p.config.Domain)
	p.scene = &passes.Scene{Domain: domain, Decision: decision, Instances: slices.Clone(instances), Seq: p.survey.inputs[p.next]}
}

// decide decides again on a record, and gives what would be on record.
func (p *replay) decide(env events.Envelope, was events.DecisionMade) events.Event {
	p.open = &again{id: env.ID, difference: Difference{Seq: env.Seq, Time: env.Time}}
	saw, err := passes.DecodeSaw(was.Saw)
	if purged := p.purged(&was); purged || err != nil || saw.LeftOut > 0 || saw.LongAnswer > 0 {
		p.open.unknowable = true
		if purged {
			p.before++
		}
		return was
	}
	s := p.scene
	if s == nil { // its input sequence is not below its own
		p.open.differs("input_seq", strconv.FormatUint(was.InputSeq, 10), "below "+strconv.FormatUint(env.Seq, 10))
		return was
	}
	s.Now, s.Readings = was.Now, saw.Readings
	made, launches, err := p.evaluate(s, &was, saw.Given())
	switch {
	case s.Domain == nil:
		p.open.differs("domain", "there", "gone by then")
		return was
	case errors.Is(err, passes.ErrNoAnswer):
		p.open.unknowable = true
		return was
	case err != nil:
		p.open.differs("decision", was.Reason, "none: "+err.Error())
		return was
	}
	p.open.launches = launches
	p.launches += len(made.Launches) - len(was.Launches)
	p.terminations += len(made.Terminations) - len(was.Terminations)
	p.open.compare(&was, &made)
	return made
}

// purged reports whether a decision rests on what was before the history begins.
func (p *replay) purged(was *events.DecisionMade) bool {
	begins := p.config.Known.Seq
	return was.InputSeq < begins || was.RefusedSeq != 0 && was.ConfigSeq <= begins && p.versions[was.ConfigSeq] == nil
}

// evaluate makes the decision. Where it would be no news, that is a difference, too.
func (p *replay) evaluate(s *passes.Scene, was *events.DecisionMade, given *engines.Answer) (made events.DecisionMade, launches []events.LaunchRequested, err error) {
	if s.Domain == nil {
		return made, nil, nil
	}
	if then := p.versions[was.ConfigSeq]; was.RefusedSeq != 0 && then != nil {
		if err := p.evaluator.Configure(then, s.Decision); err != nil {
			return made, nil, err
		}
	}
	for seq := range p.versions {
		if seq < was.ConfigSeq {
			delete(p.versions, seq)
		}
	}
	e, err := p.evaluator.Evaluate(s, given, false)
	if err == nil && len(e.Drafts) == 0 {
		p.open.differs("news", "yes", "no")
		e, err = p.evaluator.Evaluate(s, given, true)
	}
	if err != nil {
		return made, nil, err
	}
	for _, d := range e.Drafts {
		switch ev := d.Event.(type) {
		case events.DecisionMade:
			if made, err = logged(ev); err != nil {
				return made, nil, err
			}
		case events.LaunchRequested:
			launches = append(launches, ev)
		default:
		}
	}
	return made, launches, nil
}

// logged is a record as the log would give it back.
func logged(made events.DecisionMade) (events.DecisionMade, error) {
	body, err := events.Encode(made)
	if err != nil {
		return made, err
	}
	back, ok := events.Decode(events.TypeDecisionMade, body).(events.DecisionMade)
	if !ok {
		return made, errors.New("backtest: the decision cannot be read back")
	}
	return back, nil
}

// launched compares a recorded launch with that of the decision made again.
func (p *replay) launched(env events.Envelope, was events.LaunchRequested) {
	a := p.open
	if a == nil || a.unknowable || env.CausationID != a.id || len(a.launches) == 0 {
		return
	}
	made := a.launches[0]
	a.launches = a.launches[1:]
	made.LaunchID = was.LaunchID
	a.differs("launch", show(was), show(made))
}

// close counts the last decision.
func (p *replay) close() {
	a := p.open
	p.open = nil
	switch {
	case a == nil:
	case a.unknowable:
		p.out.Unknowable++
	case len(a.difference.Fields) == 0:
		p.out.Same++
	default:
		if p.out.Differing++; len(p.out.Differences) < mostDifferences {
			p.out.Differences = append(p.out.Differences, a.difference)
		}
	}
}

// finish gives what came of it.
func (p *replay) finish(r *Result) {
	p.close()
	p.replayed.end(p.survey.meter.to)
	r.Candidate, r.Replayed = p.replayed.side(), &p.out
	r.Candidate.Launches += p.launches
	r.Candidate.Terminations += p.terminations
	r.Policy = policyOf(p.recorded.Decision(p.config.Domain))
	if p.before > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d decisions rest on what was purged: nobody can decide the same again on these", p.before))
	}
	if n := p.out.Unknowable - p.before; n > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf(
			"%d decision records leave out readings or an answer, since they had too many for one message: nobody can decide the same again on these", n))
	}
}

// policyOf is the engine of a decision; "" where there is none.
func policyOf(d *events.Decision) string {
	if d == nil {
		return ""
	}
	return d.Engine
}

// mostDifferences is how many are kept to be shown.
const mostDifferences = 100

// Difference is a recorded decision that comes out otherwise.
type Difference struct {
	Seq    uint64 // of the record
	Time   time.Time
	Fields []FieldDifference
}

// FieldDifference is one field of both decisions.
type FieldDifference struct {
	Field              string
	Recorded, Replayed string
}

// differs notes a field's difference, if it is one.
func (a *again) differs(field, was, made string) {
	if was != made {
		a.difference.Fields = append(a.difference.Fields, FieldDifference{Field: field, Recorded: was, Replayed: made})
	}
}

// compare compares all that a record has but the ids of new instances.
func (a *again) compare(was, made *events.DecisionMade) {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	a.differs("engine", was.Engine, made.Engine)
	a.differs("domain_seq", number(was.DomainSeq), number(made.DomainSeq))
	a.differs("config_seq", number(was.ConfigSeq), number(made.ConfigSeq))
	a.differs("refused_seq", number(was.RefusedSeq), number(made.RefusedSeq))
	a.differs("seed", number(uint64(was.Seed)), number(uint64(made.Seed)))
	a.differs("reason", was.Reason, made.Reason)
	a.differs("engine_state", string(was.EngineState), string(made.EngineState))
	a.differs("memory", plain(was.Memory), plain(made.Memory))
	a.differs("saw", plain(was.Saw), plain(made.Saw))
	a.differs("launches", strconv.Itoa(len(was.Launches)), strconv.Itoa(len(made.Launches)))
	a.differs("terminations", fmt.Sprint(was.Terminations), fmt.Sprint(made.Terminations))
}

// show is an event as the log has it.
func show(ev events.Event) string {
	body, err := events.Encode(ev)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// plain is a JSON value of the log; "" where it says nothing.
func plain(v json.RawMessage) string {
	if string(v) == "null" {
		return ""
	}
	return string(v)
}
