// Package needy is the engine that keeps a fixed number of instances, of which
// each can have a value of its own, and which can be told whom to let go first.
package needy

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed needy.md
var doc string

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenFleet
	PreserveN *int `json:"preserve_n"`
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name:    "needy",
		Aliases: []string{"epu.decisionengine.impls.needy.NeedyEngine"},
		Doc:     doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			e := &engine{}
			if err := e.Reconfigure(given); err != nil {
				return nil, err
			}
			return e, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
	}
}

// parse gives the fleet of a config.
func parse(given json.RawMessage, complete bool) (f engines.Fleet, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return f, err
	}
	switch {
	case s.PreserveN == nil && complete:
		return f, engines.RefuseEngineConf("preserve_n", "is required: how many instances to keep, an integer of 0 or more")
	case s.PreserveN != nil && *s.PreserveN < 0:
		return f, engines.RefuseEngineConf("preserve_n", fmt.Sprintf("is %d, but must be an integer of 0 or more", *s.PreserveN))
	}
	if f, err = s.Fleet(complete); s.PreserveN != nil {
		f.Wanted = *s.PreserveN
	}
	return f, err
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct {
	fleet engines.Fleet
}

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	f, err := parse(given, true)
	if err == nil {
		e.fleet = f
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	return v.Keep(e.fleet), nil
}
