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

// mostLaunchBytes leaves room in an instance's 64 KiB (design §5) for reports.
const mostLaunchBytes = 32 << 10

// runner is one domain's engine in one term.
type runner struct {
	addedSeq   uint64 // which life of the domain's name
	configSeq  uint64 // the config that the engine has
	refusedSeq uint64 // the config that it refused; 0: none
	kind       string
	question   engines.Question // what the engine wants answered first
	engine     engines.Engine
	busy       atomic.Bool // called and not back: nobody else may touch it
}

// prepare gives the domain's engine its config, where that changed, and the view
// the engine's memory.
func (r *runner) prepare(registry *engines.Registry, l *look) error {
	if err := r.configure(registry, l); err != nil {
		return err
	}
	if l.decision == nil || l.decision.Engine != r.kind {
		l.view.Memory = nil // none, or of another engine
	}
	return nil
}

// decide gives the domain's engine the view. A panic is an error.
func (r *runner) decide(l *look) (d engines.Decision, err error) {
	defer recovered(&err)
	d, err = r.engine.Decide(&l.view)
	if err != nil {
		return d, fmt.Errorf("decide: %w", err)
	}
	return d, check(&d, l)
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("passes: engine panicked: %v\n%s", p, debug.Stack())
	}
}

// configure makes the engine, or tells it of a new config. A config that is
// refused leaves the domain with the engine that it had, and is not offered again.
func (r *runner) configure(registry *engines.Registry, l *look) error {
	d := l.domain
	if r.engine != nil && (r.configSeq == d.ConfigSeq || r.refusedSeq == d.ConfigSeq) {
		return nil
	}
	err := r.take(registry, l)
	switch {
	case err == nil:
		r.configSeq, r.refusedSeq = d.ConfigSeq, 0
	case r.engine == nil:
		return fmt.Errorf("initialize: %w", err)
	default:
		r.refusedSeq = d.ConfigSeq // which goes on record
	}
	return nil
}

// take makes the engine of the domain's config, or tells the one there is of it.
func (r *runner) take(registry *engines.Registry, l *look) (err error) {
	defer recovered(&err)
	conf := l.domain.Config
	kind, err := registry.Kind(conf)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			r.question = engines.Question{}
			if kind.Question != nil {
				r.question = kind.Question(conf.EngineConf)
			}
		}
	}()
	if r.engine != nil && r.kind == kind.Name {
		return r.engine.Reconfigure(conf.EngineConf)
	}
	memory := l.view.Memory
	if l.decision == nil || l.decision.Engine != kind.Name {
		memory = nil
	}
	engine, err := kind.New(conf.EngineConf, memory)
	if err == nil {
		r.engine, r.kind = engine, kind.Name
	}
	return err
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
	for _, launch := range d.Launches {
		if err := events.CheckName(launch.Site); err != nil {
			return fmt.Errorf("passes: the engine launches at no site: %w", err)
		}
		if size := len(launch.DeployableType) + len(launch.Allocation) + len(launch.ExtraVars); size > mostLaunchBytes {
			return fmt.Errorf("passes: the engine's launch has %d bytes, at most %d are allowed", size, mostLaunchBytes)
		}
		if extra := map[string]json.RawMessage(nil); launch.ExtraVars != nil && json.Unmarshal(launch.ExtraVars, &extra) != nil {
			return errors.New("passes: the extravars of the engine's launch are no JSON object")
		}
	}
	if len(d.Terminations) == 0 {
		return nil
	}
	return checkTerminations(d, l)
}

// checkTerminations refuses to terminate what is no instance of the domain, and
// leaves out what is going or gone already, or was named before.
func checkTerminations(d *engines.Decision, l *look) error {
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
