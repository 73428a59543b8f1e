package explain

import (
	"slices"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// Hear takes the next event. Of an instance's story it has to hear the domain's,
// the decisions' and the instance's own.
func (s *Story) Hear(env events.Envelope, ev events.Event) {
	_, id, ok := env.Key.Parts()
	if !ok {
		return
	}
	events.Apply(s.state, env, ev)
	now := stamp{seq: env.Seq, time: env.Time, command: env.Key.Kind() == events.KindDomain}
	step := Step{Seq: env.Seq, Time: env.Time.UTC(), Who: env.Actor}
	step.Kind, step.What, step.Why = Tell(ev)
	if _, foreign := ev.(events.Foreign); foreign {
		s.hearForeign(step, env.Key.Kind(), id)
		return
	}
	switch env.Key.Kind() {
	case events.KindDomain:
		step.CommandID = commandID(env)
		s.hearCommand(step, ev, now)
	case events.KindDecision:
		if made, isDecision := ev.(events.DecisionMade); isDecision {
			s.hearDecision(step, made, env, now)
		}
		return
	case events.KindInstance:
		s.hearInstance(step, id, ev, env, now)
	case events.KindDefinition, events.KindLeader, events.KindPass:
		return
	}
	if env.Epoch == 0 || env.Type == events.TypeHealthChanged {
		s.news = append(s.news[max(0, len(s.news)-remembered):], now)
	}
}

// hearForeign tells of a message that is no event: nothing comes of it.
func (s *Story) hearForeign(step Step, on events.Kind, id string) {
	switch {
	case on == events.KindInstance:
		step.Instances = []string{id}
		s.add(step, nil)
	case on == events.KindDomain && s.instance == "":
		s.add(step, nil)
	}
}

// commandID is the caller's own id of a command; "" where there is none.
func commandID(env events.Envelope) string {
	if env.Epoch != 0 {
		return ""
	}
	_, id, _ := strings.Cut(env.CausationID, "/")
	return id
}

func (s *Story) hearCommand(step Step, ev events.Event, now stamp) {
	if _, removed := ev.(events.DomainRemoved); removed {
		s.gone = now
	}
	if s.instance == "" {
		s.add(step, nil)
		return
	}
	s.commands = append(s.commands[max(0, len(s.commands)-remembered):], step)
}

// hearDecision takes a decision; an instance's story has those that launched and
// terminated it, each behind the command that it was decided by.
func (s *Story) hearDecision(step Step, made events.DecisionMade, env events.Envelope, now stamp) {
	trigger := s.trigger(made)
	step.Saw = shownSaw(made.Saw)
	s.decision = decided{stamp: now, id: env.ID, made: made}
	if s.instance != "" {
		if !slices.Contains(made.Launches, s.instance) && !slices.Contains(made.Terminations, s.instance) {
			return
		}
		if command := s.commandOf(made); command != nil {
			s.add(*command, nil)
			if trigger == nil {
				trigger = &stamp{seq: command.Seq, time: command.Time}
			}
		}
	}
	s.add(step, trigger)
}

// trigger is the newest event that a decision saw and the one before did not, a
// command before all others; nil: it was made by the time, or by what was measured.
func (s *Story) trigger(made events.DecisionMade) (newest *stamp) {
	for n := range s.news {
		e := &s.news[n]
		if e.seq > made.InputSeq || e.seq <= s.decision.made.InputSeq {
			continue
		}
		if newest == nil || e.command || !newest.command {
			newest = e
		}
	}
	return newest
}

// commandOf is the command that gave a decision its config, or had the domain
// removed, where an instance's story does not have it yet.
func (s *Story) commandOf(made events.DecisionMade) *Step {
	for n := len(s.commands) - 1; n >= 0; n-- {
		c := &s.commands[n]
		if c.Seq > made.InputSeq || made.Engine != "" && c.Seq != made.ConfigSeq {
			continue
		}
		if c.Seq <= s.told {
			return nil
		}
		s.told = c.Seq
		return c
	}
	return nil
}

func (s *Story) hearInstance(step Step, id string, ev events.Event, env events.Envelope, now stamp) {
	step.Instances = []string{id}
	var follows *stamp
	if before, known := s.of[id]; known {
		follows = &before
	}
	if env.CausationID != "" && env.CausationID == s.decision.id {
		follows = &s.decision.stamp
	}
	if _, reaped := ev.(events.Reaped); reaped && s.instance == "" {
		delete(s.of, id)
	} else {
		s.of[id] = now
	}
	s.add(step, follows)
}

// add appends a step, or adds it to the last one where that says the same.
func (s *Story) add(step Step, follows *stamp) {
	if follows != nil && follows.seq > 0 {
		step.Follows = follows.seq
		step.After = max(0, step.Time.Sub(follows.time).Seconds())
	}
	if n := len(s.steps); n > 0 && s.instance == "" && same(&s.steps[n-1], &step) {
		s.steps[n-1].join(&step)
		return
	}
	if len(s.steps) >= mostSteps {
		s.steps = slices.Delete(s.steps, 0, 1)
		s.leftOut++
	}
	s.steps = append(s.steps, step)
}

// same reports whether two steps say the same of two instances.
func same(a, b *Step) bool {
	return len(a.Instances) > 0 && len(b.Instances) > 0 && a.Kind == b.Kind && a.What == b.What && a.Why == b.Why
}

func (a *Step) join(b *Step) {
	a.Count = max(a.Count, 1) + 1
	a.ToSeq = b.Seq
	a.After = max(a.After, b.After)
	if a.Follows != b.Follows {
		a.Follows = 0
	}
	if len(a.Instances) < mostNamed {
		a.Instances = append(a.Instances, b.Instances...)
	}
}
