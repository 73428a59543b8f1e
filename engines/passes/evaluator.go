package passes

import (
	"errors"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// ErrNoAnswer is returned by Evaluate for a domain whose engine wants a question
// answered first, where nothing answers.
var ErrNoAnswer = errors.New("passes: the engine wants a question answered, and nothing answers here")

// Evaluator decides as the leader does, and appends nothing: it is for whoever has a
// state of its own, recorded, made up, or somebody else's. It keeps the domains'
// engines from one decision to the next. It is not safe for concurrent use.
type Evaluator struct {
	decider decider
	general sections[engines.General]
	ask     func(q engines.Question, body []byte) *engines.Answer
	given   *engines.Answer // for the decision that is being made; nil: it is asked for
	look    look
}

// NewEvaluator makes an evaluator without engines yet. newID names records and
// instances, as Config.NewID. ask answers what an engine wants answered first; nil:
// nothing does.
func NewEvaluator(registry *engines.Registry, newID func() string, ask func(q engines.Question, body []byte) *engines.Answer) *Evaluator {
	e := &Evaluator{general: sections[engines.General]{parse: engines.ParseGeneral}, ask: ask}
	e.decider = decider{registry: registry, general: &e.general, newID: newID, runners: map[events.DomainID]*runner{}, answer: e.answer}
	e.decider.draft = func(key events.Key, ev events.Event, guard events.Guard, causation string) events.Draft {
		return events.Draft{ID: newID(), Key: key, Event: ev, Guard: guard, CausationID: causation}
	}
	return e
}

// Evaluation is what was decided on a domain.
type Evaluation struct {
	Drafts []events.Draft // as the leader appends them, the record first; none: there is no news
	Again  bool           // there is more to decide once they are folded
	Wake   time.Time      // decide again then; zero: no need
}

// Evaluate decides on a domain that is there. With always a decision is on record
// though it is no news. given is the answer to the engine's question where that is
// known; nil: it is asked for. It fails as an engine does in the leader, and with
// ErrNoAnswer.
func (e *Evaluator) Evaluate(s *Scene, given *engines.Answer, always bool) (Evaluation, error) {
	e.given = given
	e.decider.see(&e.look, s)
	e.look.always = always
	u, err := e.decider.evaluate(&e.look, e.decider.runner(s.Domain))
	if err != nil || u == nil {
		return Evaluation{}, err
	}
	return Evaluation{Drafts: u.drafts, Again: u.again, Wake: u.wake}, nil
}

// Configure has a domain's engine take the config of the domain as it was at some
// time, before it is told of a later one. It fails where the engine does.
func (e *Evaluator) Configure(d *events.Domain, last *events.Decision) error {
	e.decider.see(&e.look, &Scene{Domain: d, Decision: last})
	return e.decider.runner(d).configure(e.decider.registry, &e.look)
}

// answer gives the answer that is given, or asks for one.
func (e *Evaluator) answer(l *look, q engines.Question) (*engines.Answer, error) {
	if e.given != nil {
		return e.given, nil
	}
	if e.ask == nil {
		return nil, ErrNoAnswer
	}
	body, err := engines.EncodeView(&l.view, q.Settings)
	if err != nil {
		return nil, err
	}
	return e.ask(q, body), nil
}
