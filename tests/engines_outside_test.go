package tests

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/events"
)

// outside adds a domain that somebody else decides for, who is asked to keep two.
func (e *epum) outside(domain string, keys map[string]any) {
	e.t.Helper()
	all := map[string]any{"subject": "decide.here", "settings": map[string]any{"keep": 2}}
	maps.Copy(all, keys)
	e.do("al", commands.AddDefinition{DefinitionID: domain}, commands.AddDomain{DomainID: domain, DefinitionID: domain, Config: engineConf("external", all)})
}

// TestEngines_OutsideUnsound has somebody decide who is not there, says nothing, or
// what cannot be done: the domain stays as it is, and the record says why.
func TestEngines_OutsideUnsound(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	e.outside("web", map[string]any{"timeout": 0.2})
	stays := func(why string) {
		t.Helper()
		var last events.DecisionMade
		defer func() {
			if t.Failed() {
				t.Logf("%s: %q instead of %q", last.EngineState, last.Reason, why)
			}
		}()
		eventually(t, "the domain stays as it is: "+why, func() bool { // on a busy machine, an answer may come too late
			if r := e.decide(); r.Launched+r.Terminated != 0 {
				t.Fatalf("%+v", r)
			}
			last = e.lastDecision("al", "web")
			return contains(last.Reason, why) && last.EngineState == events.EngineUnknown
		})
	}
	stays("the domain stays as it is") // nobody is there
	d := e.decider("decide.here", nil)
	stays("no answer in time")
	for why, answer := range map[string]any{
		"no decision":               []byte("hello"),
		"no reason":                 engines.WireDecision{Launches: make([]engines.Launch, 1)},
		"I am tired":                map[string]any{"error": "I am tired"},
		"actions, at most":          engines.WireDecision{Launches: make([]engines.Launch, 1000), Reason: "more"},
		"no instance of the domain": engines.WireDecision{Terminations: []string{"i"}, Reason: "fewer"},
	} {
		d.says(func(*enginetest.Question) any { return answer })
		stays(why)
	}
	p.provisions(0)
	d.says(keeps)
	e.comesTo("al", "web", 2)
	p.provisions(2)
	d.says(func(*enginetest.Question) any { return []byte("hello") })
	stays("no decision")
	p.terminations(0)
	e.reproduces("al", "web")
}

// TestEngines_OutsideLong has somebody answer what is six times as long on record: that
// is left out, and the decision goes on record.
func TestEngines_OutsideLong(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.provisioner()
	e.outside("web", nil)
	e.decider("decide.here", func(*enginetest.Question) any { return []byte(strings.Repeat("\x01", 200<<10)) })
	e.decide()
	if d := e.lastDecision("al", "web"); !contains(d.Reason, "no decision") {
		t.Errorf("%+v", d)
	}
	if r := e.backtest("al", "web", nil); r.Replayed.Unknowable != 1 || r.Replayed.Differing > 0 {
		t.Errorf("%+v", r.Replayed)
	}
}

// TestEngines_OutsideSees: who decides outside is shown what was pushed, and gets its
// memory back.
func TestEngines_OutsideSees(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.outside("web", map[string]any{"sensor_type": "nats", "monitor_domain_sensors": []string{"queue"}, "sample_function": "Series"})
	e.decider("decide.here", func(view *enginetest.Question) any {
		d := view.Keep()
		n := len(view.Instances)
		queue := view.Readings["queue"][engines.OfDomain].Value
		d.Launches = make([]engines.Launch, max(int(queue)-n, 0))
		d.Terminations, d.Target, d.Memory = nil, max(int(queue), n), section(map[string]any{"before": view.Memory, "had": n})
		if contains(string(view.Memory), "before") {
			d.Memory = section(map[string]any{"had": n})
		}
		return d
	})
	e.push("al", "web", "-", "queue", 3)
	e.comesTo("al", "web", 3)
	if d := e.lastDecision("al", "web"); !contains(string(d.Memory), `"had":3`) {
		t.Errorf("memory %s", d.Memory)
	}
	if shown := series(e.describe("al", "web").SensorData, "queue"); !slices.Equal(shown, []float64{3}) {
		t.Errorf("shown %v", shown)
	}
}

// TestEngines_OutsideSilent: who decides outside and does not answer holds up no
// other domain.
func TestEngines_OutsideSilent(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven)
	d := e.decider("decide.here", nil)
	e.outside("web", map[string]any{"timeout": patience.Seconds()})
	eventually(t, "it is asked", func() bool { return d.questions() > 0 })
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "fixed", DefinitionID: "d", Config: preserve(2)})
	if took := e.soonHas("al", "fixed", 2); took > patience/4 {
		t.Errorf("after %s", took)
	}
	if n := len(e.decisions("al", "web")); n != 0 {
		t.Errorf("%d decisions without an answer", n)
	}
}
