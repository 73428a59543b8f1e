package passes

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// errBusy is returned when an engine has not come back from an earlier call.
var errBusy = errors.New("passes: the engine has not returned from an earlier decide")

// runner is one domain's engine in one term.
type runner struct {
	addedSeq   uint64 // which life of the domain's name
	configSeq  uint64 // the config that the engine has
	refusedSeq uint64 // the config that it refused; 0: none
	kind       string
	engine     engines.Engine
	busy       atomic.Bool // called and not back: nobody else may touch it
}

// decide gives the domain's engine its config, where that changed, and the
// view. A panic is an error.
func (r *runner) decide(registry *engines.Registry, l *look) (d engines.Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("passes: engine panicked: %v\n%s", p, debug.Stack())
		}
	}()
	if err := r.configure(registry, l.domain, l.view.Memory); err != nil {
		return engines.Decision{}, err
	}
	d, err = r.engine.Decide(&l.view)
	if err != nil {
		return d, fmt.Errorf("decide: %w", err)
	}
	return d, check(&d, l)
}

// configure makes the engine, or tells it of a new config. A config that it
// refuses leaves it with the old one and is not offered again.
func (r *runner) configure(registry *engines.Registry, d *events.Domain, memory json.RawMessage) error {
	if r.engine != nil && (r.configSeq == d.ConfigSeq || r.refusedSeq == d.ConfigSeq) {
		return nil
	}
	kind, err := registry.Kind(d.Config)
	if err != nil {
		return err
	}
	if r.engine == nil || r.kind != kind.Name {
		engine, err := kind.New(d.Config.EngineConf, memory)
		if err != nil {
			return fmt.Errorf("initialize: %w", err)
		}
		r.engine, r.kind, r.configSeq, r.refusedSeq = engine, kind.Name, d.ConfigSeq, 0
		return nil
	}
	if r.takes(d.Config.EngineConf) {
		r.configSeq, r.refusedSeq = d.ConfigSeq, 0
	} else {
		r.refusedSeq = d.ConfigSeq
	}
	return nil
}

// takes reports whether the engine takes a new config; a panic is a refusal.
func (r *runner) takes(conf json.RawMessage) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return r.engine.Reconfigure(conf) == nil
}

// check refuses a decision that breaks the engine API and takes out of it what
// would change nothing.
func check(d *engines.Decision, l *look) error {
	if len(d.Memory) > events.MaxMemoryBytes {
		return fmt.Errorf("passes: the engine's memory has %d bytes, at most %d are kept", len(d.Memory), events.MaxMemoryBytes)
	}
	for _, raw := range []json.RawMessage{d.Memory, d.Saw} {
		if raw != nil && !json.Valid(raw) {
			return errors.New("passes: the engine's memory or what it saw is no JSON")
		}
	}
	if d.Reason == "" {
		return errors.New("passes: the engine gave no reason")
	}
	if len(d.Terminations) == 0 {
		return nil
	}
	open := make(map[string]bool, len(l.instances))
	for _, i := range l.instances {
		open[i.ID] = i.Valid()
	}
	wanted := d.Terminations[:0]
	for _, id := range d.Terminations {
		known, ok := open[id]
		if !ok {
			return fmt.Errorf("passes: the engine wants to terminate %q, which is no instance of its domain", id)
		}
		if known {
			open[id] = false
			wanted = append(wanted, id)
		}
	}
	d.Terminations = wanted
	return nil
}
