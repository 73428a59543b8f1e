package explain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// Tell says in words what an event is, and why, as far as the event itself says so.
func Tell(ev events.Event) (kind, what, why string) { //nolint:gocyclo // one case for each event type
	switch ev := ev.(type) {
	case events.DefinitionAdded:
		return KindCommand, "definition added: " + settings(ev.Definition), ""
	case events.DefinitionUpdated:
		return KindCommand, "definition replaced: " + settings(ev.Definition), ""
	case events.DefinitionRemoved:
		return KindCommand, "definition removed", ""
	case events.DomainAdded:
		return KindCommand, fmt.Sprintf("added from definition %q (event %d): %s", ev.DefinitionID, ev.DefinitionSeq, settings(ev.Config)), ""
	case events.DomainReconfigured:
		return KindCommand, "reconfigured: " + settings(ev.Config), ""
	case events.DomainSubscribed:
		return KindCommand, fmt.Sprintf("%q is told of its instances, as %q", ev.SubscriberName, ev.SubscriberOp), ""
	case events.DomainUnsubscribed:
		return KindCommand, fmt.Sprintf("%q is told no more", ev.SubscriberName), ""
	case events.DomainRemovalRequested:
		return KindCommand, "to be removed", ""
	case events.DomainRemoved:
		return KindRemoved, "the domain is gone", ""
	case events.LaunchRequested:
		return KindLaunch, fmt.Sprintf("asked site %s for %s %s", ev.Site, ev.Allocation, ev.DeployableType), launchedFor(ev)
	case events.StateChanged:
		return KindReport, reported(ev), clip(plain(ev.Fields.Get("error")))
	case events.TerminateRequested:
		return KindTermination, "asked to terminate", ""
	case events.HealthChanged:
		if n := len(ev.Errors); n > 0 {
			why = clip(plain(ev.Errors[n-1]))
		}
		return KindHealth, string(ev.Health), why
	case events.Reaped:
		return KindReaped, "its record is gone", ""
	case events.DecisionMade:
		return KindDecision, decides(ev), clip(ev.Reason)
	case events.LeaderElected:
		return KindLeader, fmt.Sprintf("%s leads", ev.Process), ""
	case events.PassCommitted:
		return KindPass, committed(ev), ""
	case events.Unknown:
		return KindUnknown, fmt.Sprintf("an event of the type %q, which this version does not know or cannot read", ev.Name), ""
	case events.Foreign:
	}
	return KindUnknown, "a message that is no event; it changes nothing", ""
}

func committed(ev events.PassCommitted) string {
	what := []string{ev.Pass + " pass"}
	for _, part := range []struct {
		n    int
		what string
	}{{ev.Domains, "domains"}, {ev.Launched, "launched"}, {ev.Terminated, "terminated"}, {ev.Changed, "changed"}} {
		if part.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return strings.Join(what, ", ")
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

// reported is the state that was reported, and how a process ended.
func reported(ev events.StateChanged) string {
	what := []string{string(ev.State)}
	for _, name := range []string{"exit_code", "exit_signal"} {
		if value := plain(ev.Fields.Get(name)); value != "" {
			what = append(what, strings.ReplaceAll(name, "_", " ")+" "+clip(value))
		}
	}
	return strings.Join(what, ", ")
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
	if len(does) > 0 || !bytes.Contains(ev.Saw, []byte(`"dry_run"`)) {
		return who + " " + cmp.Or(strings.Join(does, " and "), "does nothing")
	}
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

func clip(text string) string { return cut(text, mostText) }

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
