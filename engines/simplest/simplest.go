// Package simplest is the engine that keeps a fixed number of instances: it
// launches what is missing, terminates what is too much, and replaces what is
// unhealthy.
package simplest

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

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

// conf is the engine_conf section.
type conf struct {
	PreserveN  *int                       `json:"preserve_n"`
	Site       string                     `json:"force_site"`
	Type       string                     `json:"epuworker_type"`
	Allocation string                     `json:"epuworker_allocation"`
	Vars       map[string]json.RawMessage `json:"provisioner_vars"` // the outbox reads them
}

// Kind is the engine as a registry takes it. defaultSite is where a config that
// names no force_site launches.
func Kind(defaultSite string) engines.Kind {
	parse := func(section json.RawMessage, complete bool) (conf, error) {
		c := conf{Site: defaultSite, Type: DefaultType, Allocation: DefaultAllocation}
		if err := engines.DecodeEngineConf(section, &c); err != nil {
			return c, err
		}
		return c, c.check(complete)
	}
	return engines.Kind{
		Name:    "simplest",
		Aliases: []string{"epu.decisionengine.impls.simplest.SimplestEngine"},
		Doc:     doc,
		New: func(section, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(section, true)
			if err != nil {
				return nil, err
			}
			return &engine{parse: parse, conf: c}, nil
		},
		Validate: func(section json.RawMessage, complete bool) error {
			_, err := parse(section, complete)
			return err
		},
	}
}

func (c conf) check(complete bool) error {
	if c.PreserveN == nil {
		if complete {
			return refuse("preserve_n", "is required: how many instances to keep, an integer of 0 or more")
		}
	} else if *c.PreserveN < 0 {
		return refuse("preserve_n", fmt.Sprintf("is %d, but must be an integer of 0 or more", *c.PreserveN))
	}
	if err := events.CheckName(c.Site); err != nil {
		return refuse("force_site", "must be a name: "+err.Error())
	}
	if err := events.CheckName(c.Type); err != nil {
		return refuse("epuworker_type", "must be a name: "+err.Error())
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
func (e *engine) Reconfigure(section json.RawMessage) error {
	c, err := e.parse(section, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	wanted := *e.conf.PreserveN
	d := engines.Decision{Target: wanted, State: events.EnginePending}
	healthy, running := 0, 0
	for _, i := range v.Instances {
		switch {
		case !i.Valid():
		case i.Unhealthy():
			d.Terminations = append(d.Terminations, i.ID)
		default:
			healthy++
			if i.State == events.Running {
				running++
			}
		}
	}
	unhealthy := len(d.Terminations)
	d.Terminations = d.Terminations[:min(unhealthy, v.MaxActions)]
	room := v.MaxActions - len(d.Terminations)
	switch {
	case healthy < wanted:
		d.Launches = e.launches(min(wanted-healthy, room))
		d.Reason = fmt.Sprintf("%d of %d wanted instances are there: launch %d", healthy, wanted, len(d.Launches))
	case healthy > wanted:
		surplus := min(healthy-wanted, room)
		d.Terminations = append(d.Terminations, victims(v.Instances, surplus)...)
		d.Reason = fmt.Sprintf("%d instances are there and %d are wanted: terminate %d", healthy, wanted, surplus)
	case running < wanted:
		d.Reason = fmt.Sprintf("all %d wanted instances are there, %d of them running", wanted, running)
	default:
		d.State = events.EngineStable
		d.Reason = fmt.Sprintf("all %d wanted instances are running", wanted)
	}
	if unhealthy > 0 {
		d.State = events.EnginePending
		d.Reason += fmt.Sprintf("; terminate %d unhealthy", min(unhealthy, v.MaxActions))
	}
	return d, nil
}

func (e *engine) launches(n int) []engines.Launch {
	launches := make([]engines.Launch, n)
	for i := range launches {
		launches[i] = engines.Launch{DeployableType: e.conf.Type, Site: e.conf.Site, Allocation: e.conf.Allocation}
	}
	return launches
}

// victims chooses n healthy instances to terminate: those that do not run yet
// first, then the newest.
func victims(instances []*events.Instance, n int) []string {
	var candidates []*events.Instance
	for _, i := range instances {
		if i.Valid() && !i.Unhealthy() {
			candidates = append(candidates, i)
		}
	}
	slices.SortFunc(candidates, func(a, b *events.Instance) int {
		if aRuns, bRuns := a.State >= events.Running, b.State >= events.Running; aRuns != bRuns {
			if bRuns {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.ID, a.ID)
	})
	ids := make([]string, n)
	for i := range ids {
		ids[i] = candidates[i].ID
	}
	return ids
}
