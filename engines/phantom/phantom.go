// Package phantom is the reference's single-site phantom engine: it keeps a fixed
// number of instances at one site, and retires those first that it is told to.
package phantom

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed phantom.md
var doc string

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenLaunch
	Size      *int             `json:"domain_desired_size"`
	Retirable engines.NameList `json:"retirable_nodes"`
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name:    "phantom",
		Aliases: []string{"epu.decisionengine.impls.phantom.PhantomSingleSiteEngine"},
		Doc:     doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			f, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{f}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
	}
}

// parse reads an engine_conf section: it says all about the fleet.
func parse(given json.RawMessage, complete bool) (f engines.Fleet, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return f, err
	}
	switch {
	case s.Size == nil && complete:
		return f, engines.RefuseEngineConf("domain_desired_size", "is required: how many instances to keep, an integer of 0 or more")
	case s.Size == nil:
	case *s.Size < 0:
		return f, engines.RefuseEngineConf("domain_desired_size", fmt.Sprintf("is %d, but must be an integer of 0 or more", *s.Size))
	default:
		f.Wanted = *s.Size
	}
	f.Retirable = s.Retirable
	f.Launch, err = s.Launch(complete)
	return f, err
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct{ fleet engines.Fleet }

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	f, err := parse(given, true)
	if err == nil {
		e.fleet = f
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) { return v.Keep(e.fleet), nil }
