package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
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
	s.tellOf(&step, ev)
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
		s.add(step, s.last)
		return
	}
	s.commands = append(s.commands[max(0, len(s.commands)-remembered):], step)
}

// hearDecision takes a decision; an instance's story has those that launched and
// terminated it, each behind the command that it was decided by.
func (s *Story) hearDecision(step Step, made events.DecisionMade, env events.Envelope, now stamp) {
	trigger := s.trigger(made)
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
	s.last = &stamp{seq: step.Seq, time: step.Time}
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

// tellOf says what an event is, and why as far as the event says it.
func (s *Story) tellOf(step *Step, ev events.Event) {
	switch ev := ev.(type) {
	case events.DomainAdded:
		step.Kind, step.What = KindCommand, fmt.Sprintf("added from definition %q (event %d) with %s", ev.DefinitionID, ev.DefinitionSeq, settings(ev.Config))
	case events.DomainReconfigured:
		step.Kind, step.What = KindCommand, "reconfigured: "+settings(ev.Config)
	case events.DomainSubscribed:
		step.Kind, step.What = KindCommand, fmt.Sprintf("%q is told of its instances, as %q", ev.SubscriberName, ev.SubscriberOp)
	case events.DomainUnsubscribed:
		step.Kind, step.What = KindCommand, fmt.Sprintf("%q is told no more", ev.SubscriberName)
	case events.DomainRemovalRequested:
		step.Kind, step.What = KindCommand, "to be removed"
	case events.DomainRemoved:
		step.Kind, step.What = KindRemoved, "the domain is gone"
	case events.LaunchRequested:
		step.Kind, step.What, step.Why = KindLaunch, launched(ev), launchedFor(ev)
	case events.StateChanged:
		step.Kind, step.What, step.Why = KindReport, reported(ev), clip(plain(ev.Fields["error"]))
	case events.TerminateRequested:
		step.Kind, step.What = KindTermination, "asked to terminate"
	case events.HealthChanged:
		step.Kind, step.What = KindHealth, string(ev.Health)
		if n := len(ev.Errors); n > 0 {
			step.Why = clip(plain(ev.Errors[n-1]))
		}
	case events.Reaped:
		step.Kind, step.What = KindReaped, "its record is gone"
	case events.DecisionMade:
		step.Kind, step.What, step.Why, step.Saw = KindDecision, decides(ev), clip(ev.Reason), shownSaw(ev.Saw)
	case events.Unknown:
		step.Kind, step.What = KindUnknown, fmt.Sprintf("an event of the type %q, which this version does not know or cannot read", ev.Name)
	case events.Foreign:
		step.Kind, step.What = KindUnknown, "a message that is no event; it changes nothing"
	case events.DefinitionAdded, events.DefinitionUpdated, events.DefinitionRemoved, events.LeaderElected, events.PassCommitted:
	}
}

// settings are the keys of a config with their values.
func settings(c events.Config) string {
	var all []string
	for _, section := range []struct {
		name string
		keys json.RawMessage
	}{{"general", c.General}, {"engine_conf", c.EngineConf}, {"health", c.Health}} {
		var keys map[string]json.RawMessage
		_ = json.Unmarshal(section.keys, &keys) // what is no object sets nothing
		for key, value := range keys {
			all = append(all, section.name+"."+key+"="+string(value))
		}
	}
	slices.Sort(all)
	return clip(cmp.Or(strings.Join(all, ", "), "nothing of its own"))
}

func launched(ev events.LaunchRequested) string {
	return fmt.Sprintf("asked site %s for %s %s", ev.Site, ev.Allocation, ev.DeployableType)
}

func launchedFor(ev events.LaunchRequested) string {
	var why []string
	if ev.Replaces != "" {
		why = append(why, "in place of "+ev.Replaces)
	}
	if ev.Attempt > 0 {
		why = append(why, fmt.Sprintf("attempt %d, since launches before it failed", ev.Attempt))
	}
	return strings.Join(why, "; ")
}

// reported is the state that was reported, and where the instance is.
func reported(ev events.StateChanged) string {
	what := string(ev.State)
	for _, name := range []string{"exit_code", "exit_signal"} {
		if value := plain(ev.Fields[name]); value != "" {
			what += fmt.Sprintf(", %s %s", strings.ReplaceAll(name, "_", " "), clip(value))
		}
	}
	return what
}

func decides(ev events.DecisionMade) string {
	who := cmp.Or(ev.Engine, "the leader")
	var does []string
	add := func(verb string, n int) {
		switch {
		case n == 1:
			does = append(does, verb+" 1 instance")
		case n > 1:
			does = append(does, fmt.Sprintf("%s %d instances", verb, n))
		}
	}
	add("launches", len(ev.Launches))
	add("terminates", len(ev.Terminations))
	if saw := seen(ev.Saw); saw.DryRun != nil {
		add("would launch", len(saw.DryRun.Launches))
		add("would terminate", len(saw.DryRun.Terminations))
	}
	return who + " " + cmp.Or(strings.Join(does, " and "), "does nothing")
}

// plain is a JSON value as a text: a string without quotes, nothing for null.
func plain(value json.RawMessage) string {
	var text string
	switch {
	case len(value) == 0 || string(value) == "null":
		return ""
	case json.Unmarshal(value, &text) == nil:
		return text
	}
	return string(value)
}

func clip(text string) string {
	if len(text) <= mostText {
		return text
	}
	return strings.ToValidUTF8(text[:mostText], "") + "…"
}
