// Package phantommulti is the reference's phantom engine for several sites: it
// keeps a fixed number of instances at each of them.
package phantommulti

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

//go:embed phantommulti.md
var doc string

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenClouds
	Retirable engines.NameList `json:"retirable_nodes"`
}

// conf is engine_conf as the engine takes it.
type conf struct {
	clouds    []engines.Cloud // by rank
	launch    engines.Launch  // but for its site
	retirable []string
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name:    "phantom_multi",
		Aliases: []string{"epu.decisionengine.impls.phantom_multi.PhantomMultiNEngine"},
		Doc:     doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
	}
}

func parse(given json.RawMessage, complete bool) (c conf, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return c, err
	}
	c.retirable = s.Retirable
	if c.clouds, err = s.Clouds(complete, false); err != nil {
		return c, err
	}
	c.launch, err = s.Launch(complete)
	return c, err
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct{ conf conf }

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine: each site is kept for itself.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	all := engines.Decision{State: events.EngineStable}
	keep := func(site, note string, wanted int) {
		launch := e.conf.launch
		launch.Site = site
		d := v.At(site, v.MaxActions-len(all.Launches)-len(all.Terminations)).
			Keep(engines.Fleet{Wanted: wanted, Launch: launch, Retirable: e.conf.retirable})
		all.Launches = append(all.Launches, d.Launches...)
		all.Terminations = append(all.Terminations, d.Terminations...)
		all.Target += d.Target
		if d.State != events.EngineStable {
			all.State = d.State
		}
		if all.Reason != "" {
			all.Reason += "; "
		}
		all.Reason += fmt.Sprintf("site %s%s: %s", site, note, d.Reason)
	}
	for _, site := range v.OtherSites(e.conf.clouds) {
		keep(site, ", which is not in clouds", 0)
	}
	for _, c := range e.conf.clouds {
		keep(c.Site, "", c.Size)
	}
	return all, nil
}
