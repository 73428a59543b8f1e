package tests

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// life is what a domain of an engine goes through.
type life struct {
	class  string
	conf   map[string]any
	metric string // whose value changes it; "": its config does
	first  int    // instances that it begins with
	high   any    // of the metric, or of the key that it is changed by
	more   int    // instances then
	low    any
	fewer  int
	key    string // by which it is reconfigured
	value  any
	then   int            // instances then
	spread map[string]int // site → instances of the more; nil: all at one
}

// measuredBy are the keys of an engine that reads a metric as it was last pushed.
func measuredBy(keys map[string]any) map[string]any {
	all := map[string]any{"sensor_type": "nats", "metric": "load", "monitor_domain_sensors": []string{"load"}, "sample_function": "Series"}
	maps.Copy(all, keys)
	return all
}

func lives() map[string]life {
	steps := func(key string) []map[string]any { return []map[string]any{{"from": 0, key: 2}} }
	every := func(keys map[string]any) []map[string]any {
		entry := map[string]any{"cron": "* * * * *"}
		maps.Copy(entry, keys)
		return []map[string]any{entry}
	}
	sites := func(a, b int) []map[string]any {
		return []map[string]any{{"site_name": "a", "size": a}, {"site_name": "b", "size": b}}
	}
	return map[string]life{
		"simplest": {
			class: "simplest", conf: map[string]any{"preserve_n": 2},
			first: 2, high: 4, more: 4, low: 1, fewer: 1, key: "preserve_n", value: 3, then: 3,
		},
		"needy": {
			class: "needy", conf: map[string]any{"preserve_n": 2, "unique_key": "rack", "unique_values": []string{"a", "b", "c", "d"}},
			first: 2, high: 4, more: 4, low: 1, fewer: 1, key: "preserve_n", value: 3, then: 3,
		},
		"sensor": {
			class: "sensor", conf: measuredBy(map[string]any{"minimum_vms": 1, "maximum_vms": 4, "scale_up_threshold": 4, "scale_down_threshold": 2, "cooldown_period": 0}),
			metric: "load", first: 1, high: 9.0, more: 4, low: 0.0, fewer: 1, key: "minimum_vms", value: 3, then: 3,
		},
		"target_tracking": {
			class: "target_tracking", conf: measuredBy(map[string]any{
				"minimum_vms": 1, "maximum_vms": 5, "target_value": 10, "scale_out_cooldown": 0, "stabilization_window": 0,
			}),
			metric: "load", first: 1, high: 38.0, more: 4, low: 12.0, fewer: 2, key: "minimum_vms", value: 3, then: 3,
		},
		"step": {
			class: "step", conf: measuredBy(map[string]any{
				"minimum_vms": 1, "maximum_vms": 5, "threshold_out": 60, "steps_out": steps("add"), "threshold_in": 20, "steps_in": steps("remove"),
				"cooldown_out": 0, "cooldown_in": 0,
			}),
			metric: "load", first: 1, high: 70.0, more: 5, low: 10.0, fewer: 1, key: "minimum_vms", value: 3, then: 3,
		},
		"schedule over simplest": {
			class: "schedule", conf: map[string]any{"engine_conf": map[string]any{"preserve_n": 7}, "schedules": every(map[string]any{"size": 2})},
			first: 2, high: every(map[string]any{"size": 4}), more: 4, low: every(map[string]any{"size": 1}), fewer: 1,
			key: "schedules", value: every(map[string]any{"size": 3}), then: 3,
		},
		"schedule over sensor": {
			class: "schedule", conf: map[string]any{
				"engine_class": "sensor", "schedules": every(map[string]any{"maximum": 3}),
				"engine_conf": measuredBy(map[string]any{
					"minimum_vms": 1, "maximum_vms": 9, "scale_up_threshold": 4, "scale_down_threshold": 2, "cooldown_period": 0,
					"iaas_site": "s", "iaas_allocation": "small", "deployable_type": "w",
				}),
			},
			metric: "load", first: 1, high: 9.0, more: 3, low: 0.0, fewer: 1, key: "schedules", value: every(map[string]any{"minimum": 2}), then: 2,
		},
		"phantom": {
			class: "phantom", conf: map[string]any{"domain_desired_size": 2},
			first: 2, high: 4, more: 4, low: 1, fewer: 1, key: "domain_desired_size", value: 3, then: 3,
		},
		"phantom_multi": {
			class: "phantom_multi", conf: map[string]any{"clouds": sites(1, 1)},
			first: 2, high: sites(3, 1), more: 4, spread: map[string]int{"a": 3, "b": 1}, low: sites(0, 1), fewer: 1,
			key: "clouds", value: sites(2, 1), then: 3,
		},
		"phantom_multi_site_overflow": {
			class: "phantom_multi_site_overflow", conf: measuredBy(map[string]any{
				"minimum_vms": 1, "maximum_vms": 5, "scale_up_threshold": 4, "scale_down_threshold": 2, "cooldown_period": 0, "clouds": sites(2, -1),
			}),
			metric: "load", first: 1, high: 9.0, more: 5, spread: map[string]int{"a": 2, "b": 3}, low: 0.0, fewer: 1,
			key: "minimum_vms", value: 3, then: 3,
		},
		"external": {
			class: "external", conf: map[string]any{"subject": "decide.here", "settings": map[string]any{"keep": 2}},
			first: 2, high: map[string]any{"keep": 4}, more: 4, low: map[string]any{"keep": 1}, fewer: 1,
			key: "settings", value: map[string]any{"keep": 3}, then: 3,
		},
	}
}

// TestEngines_Lives has a domain of each engine launched, scaled out and in, healed,
// reconfigured and removed.
func TestEngines_Lives(t *testing.T) {
	t.Parallel()
	for name, l := range lives() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEpum(t)
			p := e.provisioner()
			e.decider("decide.here", keeps)
			change := func(to any) {
				if value, ok := to.(float64); ok && l.metric != "" {
					e.push("al", "web", "-", l.metric, value)
					return
				}
				e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{EngineConf: section(map[string]any{l.key: to})}})
			}
			e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: engineConf(l.class, l.conf)})
			e.comesTo("al", "web", l.first)
			if d := e.describe("al", "web"); d.EngineState != events.EngineStable {
				t.Errorf("engine state %s", d.EngineState)
			}
			change(l.high)
			e.comesTo("al", "web", l.more)
			dead := e.dead("al", "web")
			e.comesTo("al", "web", l.more)
			if i, known := e.instance("al", "web", dead); known && i.State < events.Terminating {
				t.Errorf("the dead one is %s", i.State)
			}
			if l.class == "needy" {
				e.apart("rack", l.more)
			}
			if diff := cmp.Diff(l.spread, e.spread("al", "web")); l.spread != nil && diff != "" {
				t.Error(diff)
			}
			change(l.low)
			e.comesTo("al", "web", l.fewer)
			e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{EngineConf: section(map[string]any{l.key: l.value})}})
			e.comesTo("al", "web", l.then)
			launches, _, _ := p.heard()
			seen := map[string]bool{}
			for _, launch := range launches {
				for _, id := range launch.InstanceIDs {
					seen[id] = true
				}
			}
			if want := l.launches(); len(seen) != want {
				t.Errorf("%d instances were launched in all, want %d", len(seen), want)
			}
			e.do("al", commands.RemoveDomain{DomainID: "web"})
			eventually(t, "the domain is gone", func() bool {
				e.decide()
				e.carryOut("al", "web")
				_, err := e.as("al").DescribeDomain(e.ctx(), "web", "", 0)
				return isNotFound(err)
			})
			e.reproduces("al", "web")
		})
	}
}

// TestEngines_LivesOfAll: there is a life of each engine that the service knows, which
// it says where one is asked for that it does not know.
func TestEngines_LivesOfAll(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	_, err := e.as("al").Do(e.ctx(), commands.AddDefinition{DefinitionID: "d", Definition: ofEngine("nobody")})
	if err == nil {
		t.Fatal("an engine is taken that nobody knows")
	}
	_, known, _ := strings.Cut(err.Error(), "use one of: ")
	lived := map[string]bool{}
	for _, l := range lives() {
		lived[l.class] = true
	}
	classes := strings.Split(known, ", ")
	for _, class := range classes {
		if !lived[class] {
			t.Errorf("no life of %q", class)
		}
	}
	if len(classes) != len(lived) {
		t.Errorf("%q are known", classes)
	}
}

// launches is how many instances a life has in all.
func (l *life) launches() int { return l.more + 1 + l.then - l.fewer }

// spread is how many instances that count are at each site.
func (e *epum) spread(owner, domain string) map[string]int {
	e.t.Helper()
	at := map[string]int{}
	for _, i := range e.live(owner, domain) {
		at[i.Site]++
	}
	return at
}

// apart checks that live instances have values of their own.
func (e *epum) apart(key string, want int) {
	e.t.Helper()
	values := map[string]bool{}
	for _, i := range e.live("al", "web") {
		var vars map[string]string
		if err := json.Unmarshal(i.ExtraVars, &vars); err != nil {
			e.t.Errorf("extravars %s: %v", i.ExtraVars, err)
		}
		values[vars[key]] = true
	}
	if len(values) != want {
		e.t.Errorf("values %v", values)
	}
}
