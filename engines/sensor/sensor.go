// Package sensor is the engine that scales by the average of a metric: up above
// one threshold, down below another, by steps and with a cool-down after each.
package sensor

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed sensor.md
var doc string

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
			return c.sensing
		},
	}
}

// memory is what must survive a failover.
type memory struct {
	Wanted   int       `json:"wanted"`
	ScaledAt time.Time `json:"scaled_at,omitzero"` // of the last scale action; zero: there was none
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
	c := &e.conf
	if !c.scales() {
		return c.keep(v, c.minimum, fmt.Sprintf("no threshold is given: keep the minimum of %d", c.minimum)), nil
	}
	kept := c.remember(v)
	s := c.look(v, kept)
	if s.Wanted != s.From {
		kept = memory{Wanted: s.Wanted, ScaledAt: v.Now}
	}
	d := c.keep(v, s.Wanted, s.reason)
	var err error
	if d.Memory, err = json.Marshal(kept); err != nil {
		return d, fmt.Errorf("encode the memory: %w", err)
	}
	if d.Saw, err = json.Marshal(s); err != nil {
		return d, fmt.Errorf("encode what was seen: %w", err)
	}
	return d, nil
}

// keep keeps a number; healing goes on whatever the metric says.
func (c *conf) keep(v *engines.View, wanted int, reason string) engines.Decision {
	fleet := c.fleet
	fleet.Wanted = wanted
	d := v.Keep(fleet)
	d.Reason = reason + "; " + d.Reason
	return d
}

// remember is what the last decision kept, within the limits of now. A domain
// without a past begins with what it has.
func (c *conf) remember(v *engines.View) memory {
	kept := memory{Wanted: v.Healthy()}
	if v.Memory != nil {
		if err := json.Unmarshal(v.Memory, &kept); err != nil { // of no version of this engine
			kept = memory{Wanted: v.Healthy()}
		}
	}
	kept.Wanted = c.clamp(kept.Wanted)
	return kept
}
