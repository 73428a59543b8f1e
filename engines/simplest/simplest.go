// Package simplest is the engine that keeps a fixed number of instances: it
// launches what is missing, terminates what is too much, and replaces what is
// unhealthy.
package simplest

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

//go:embed simplest.md
var doc string

// Defaults of the engine's configuration (design §7).
const (
	DefaultSite       = "ec2-east"
	DefaultType       = "epu_work_consumer"
	DefaultAllocation = "small"
)

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	PreserveN  *int                       `json:"preserve_n"`
	Site       *string                    `json:"force_site"`
	Type       *string                    `json:"epuworker_type"`
	Allocation *string                    `json:"epuworker_allocation"`
	Vars       map[string]json.RawMessage `json:"provisioner_vars"` // the outbox reads them
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	preserveN  *int // nil: not given
	site       string
	deployable string // type
	allocation string
}

// Kind is the engine as a registry takes it. defaultSite is where a config that
// names no force_site launches.
func Kind(defaultSite string) engines.Kind {
	parse := func(given json.RawMessage, complete bool) (conf, error) {
		var s section
		if err := engines.DecodeEngineConf(given, &s); err != nil {
			return conf{}, err
		}
		c := conf{
			preserveN: s.PreserveN, site: or(s.Site, defaultSite), deployable: or(s.Type, DefaultType),
			allocation: or(s.Allocation, DefaultAllocation),
		}
		return c, c.check(complete)
	}
	return engines.Kind{
		Name:    "simplest",
		Aliases: []string{"epu.decisionengine.impls.simplest.SimplestEngine"},
		Doc:     doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{parse: parse, conf: c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
	}
}

func or(given *string, otherwise string) string {
	if given == nil {
		return otherwise
	}
	return *given
}

func (c conf) check(complete bool) error {
	if c.preserveN == nil {
		if complete {
			return refuse("preserve_n", "is required: how many instances to keep, an integer of 0 or more")
		}
	} else if *c.preserveN < 0 {
		return refuse("preserve_n", fmt.Sprintf("is %d, but must be an integer of 0 or more", *c.preserveN))
	}
	if err := events.CheckName(c.site); err != nil {
		return refuse("force_site", "must be a name: "+err.Error())
	}
	if err := events.CheckName(c.deployable); err != nil {
		return refuse("epuworker_type", "must be a name: "+err.Error())
	}
	if err := events.CheckName(c.allocation); err != nil && c.allocation != "" {
		return refuse("epuworker_allocation", "must be a name: "+err.Error())
	}
	return nil
}

func refuse(key, message string) error {
	return &engines.FieldError{Field: engines.SectionEngineConf + "." + key, Message: message}
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct {
	parse func(json.RawMessage, bool) (conf, error)
	conf  conf
}

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := e.parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	return v.Keep(engines.Fleet{
		Wanted: *e.conf.preserveN,
		Launch: engines.Launch{DeployableType: e.conf.deployable, Site: e.conf.site, Allocation: e.conf.allocation},
	}), nil
}
