// Package sensor is the engine that scales by the average of a metric: up above
// one threshold, down below another, by steps and with a cool-down after each.
package sensor

import (
	_ "embed"
	"encoding/json"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed sensor.md
var doc string

// section is engine_conf as it is given.
type section struct {
	engines.GivenFleet
	engines.GivenThresholds
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	engines.Thresholds
	fleet engines.Fleet // but for the wanted number
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name:    "sensor",
		Aliases: []string{"epu.decisionengine.impls.sensor.SensorEngine"},
		Doc:     doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) { // the memory comes with each view
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
		Sensing: func(given json.RawMessage) engines.Sensing {
			c, _ := parse(given, false) // which Validate has accepted
			return c.Sensing
		},
	}
}

// parse checks a config. With complete false, keys may be missing that it needs.
func parse(given json.RawMessage, complete bool) (c conf, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return c, err
	}
	if c.fleet, err = s.Fleet(complete); err != nil {
		return c, err
	}
	c.Thresholds, err = s.Thresholds(complete)
	return c, err
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct {
	conf conf
}

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	f := e.conf.Follow(v, engines.Recall[engines.Stepped](v))
	return v.Size(e.conf.fleet, f.Wanted, f.Reason, f.Kept, f)
}
