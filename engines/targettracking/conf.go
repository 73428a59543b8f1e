// Package targettracking is the engine that keeps a metric at a target: as many
// instances as bring its average there, as the Kubernetes HPA computes it.
package targettracking

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed targettracking.md
var doc string

// What metric_scope may be: whose the metric is.
const (
	scopeInstance = "instance" // each instance's own; their average is kept at the target
	scopeDomain   = "domain"   // a total, such as the length of a queue; its part for one instance is
)

// Defaults of the engine's configuration.
const (
	defaultTolerance   = 0.1
	defaultOutCooldown = 60 * time.Second
	defaultWindow      = 300 * time.Second
)

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenFleet
	engines.GivenScaling
	Scope       *string         `json:"metric_scope"`
	Target      *float64        `json:"target_value"`
	Tolerance   *float64        `json:"tolerance"`
	OutCooldown *float64        `json:"scale_out_cooldown"`
	InCooldown  *float64        `json:"scale_in_cooldown"`
	Window      *float64        `json:"stabilization_window"`
	MaxOut      json.RawMessage `json:"max_step_out"`
	MaxIn       json.RawMessage `json:"max_step_in"`
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	engines.Scaling
	fleet       engines.Fleet // but for the wanted number
	target      float64
	tolerance   float64
	outCooldown time.Duration
	inCooldown  time.Duration
	window      time.Duration
	maxOut      *engines.Amount // nil: any
	maxIn       *engines.Amount // nil: any
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name: "target_tracking",
		Doc:  doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{conf: c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
		Sensing: func(given json.RawMessage) engines.Sensing {
			c, _ := parse(given, true) // which Validate has accepted
			return c.Sensing
		},
	}
}

func parse(given json.RawMessage, complete bool) (conf, error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return conf{}, err
	}
	c := conf{tolerance: defaultTolerance, outCooldown: defaultOutCooldown, window: defaultWindow}
	var err error
	if c.fleet, err = s.Fleet(complete); err != nil {
		return conf{}, err
	}
	if c.Scaling, err = s.Scaling(complete, "maximum_vms", "metric", "sensor_type"); err != nil {
		return conf{}, err
	}
	if err := cmp.Or(
		c.setScope(s.Scope, complete),
		c.setTarget(&s, complete),
		engines.TakeSeconds("scale_out_cooldown", s.OutCooldown, &c.outCooldown),
		engines.TakeSeconds("scale_in_cooldown", s.InCooldown, &c.inCooldown),
		engines.TakeSeconds("stabilization_window", s.Window, &c.window),
	); err != nil {
		return conf{}, err
	}
	if c.maxOut, err = engines.ParseAmount("max_step_out", s.MaxOut); err != nil {
		return conf{}, err
	}
	c.maxIn, err = engines.ParseAmount("max_step_in", s.MaxIn)
	return c, err
}

// setScope decides whose the metric is: by default whose it is read as.
func (c *conf) setScope(given *string, complete bool) error {
	m := &c.Metric
	switch {
	case given == nil:
		if complete && m.Domain && m.Instances {
			return engines.RefuseEngineConf("metric_scope", fmt.Sprintf("is required, as %q is read both of the instances and of the domain: %q or %q",
				m.Name, scopeInstance, scopeDomain))
		}
	case !slices.Contains([]string{scopeInstance, scopeDomain}, *given):
		return engines.RefuseEngineConf("metric_scope", fmt.Sprintf("is %q, but must be %q or %q", *given, scopeInstance, scopeDomain))
	case complete && *given == scopeInstance && !m.Instances:
		return engines.RefuseEngineConf("metric_scope", fmt.Sprintf("is %q, but %q is not in monitor_sensors; name it there", *given, m.Name))
	case complete && *given == scopeDomain && !m.Domain:
		return engines.RefuseEngineConf("metric_scope", fmt.Sprintf("is %q, but %q is not in monitor_domain_sensors; name it there", *given, m.Name))
	default:
		m.Domain, m.Instances = *given == scopeDomain, *given == scopeInstance
	}
	return nil
}

func (c *conf) setTarget(s *section, complete bool) error {
	switch {
	case s.Target != nil:
		if c.target = *s.Target; !(c.target > 0) {
			return engines.RefuseEngineConf("target_value", fmt.Sprintf("is %g, but must be a number above 0", c.target))
		}
	case complete:
		return engines.RefuseEngineConf("target_value", "is required: what the metric of one instance is to be, a number above 0")
	}
	if t := s.Tolerance; t != nil {
		if c.tolerance = *t; !(c.tolerance >= 0 && c.tolerance < 1) {
			return engines.RefuseEngineConf("tolerance", fmt.Sprintf("is %g, but must be a number of at least 0 and below 1", c.tolerance))
		}
	}
	return nil
}
