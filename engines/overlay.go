package engines

import (
	"encoding/json"

	"github.com/seed-524e47bf/epum/events"
)

// Overlay is another config for a domain, laid over the one that it has: what a
// backtest or a shadow decides with. It is not safe for concurrent use.
type Overlay struct {
	registry *Registry
	over     events.Config
	unnamed  events.Config // over without the engine's name

	of    *events.Domain // the last one that was overlaid
	laid  *events.Domain
	added uint64 // which life of its name
}

// NewOverlay lays a config over a domain's, key by key in each section, as a
// reconfigure does. Where it names another engine, engine_conf is its own alone: keys
// of the engine before mean nothing to it. It fails with a *FieldError where its general
// section is refused.
func NewOverlay(registry *Registry, over events.Config) (*Overlay, error) {
	if _, err := registry.Kind(over); err != nil {
		return nil, err
	}
	unnamed, err := withoutEngine(over)
	return &Overlay{registry: registry, over: over, unnamed: unnamed}, err
}

// withoutEngine is a config without the name of its engine, where it gives one.
func withoutEngine(c events.Config) (events.Config, error) {
	general, err := ParseGeneral(c.General)
	if err != nil || general.EngineClass == "" { // a null stands for the default engine
		return c, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(c.General, &keys); err != nil {
		return c, err
	}
	delete(keys, "engine_class")
	c.General, err = json.Marshal(keys)
	return c, err
}

// Config is a config with the other one laid over it. It fails with a *FieldError
// where the service would refuse it.
func (o *Overlay) Config(c events.Config) (events.Config, error) {
	over := o.unnamed // by whatever name a config calls its engine, it is the same one
	if o.otherEngine(c) {
		c.EngineConf, over = json.RawMessage(`{}`), o.over
	}
	merged, err := c.Merge(over)
	if err != nil {
		return c, err
	}
	return merged, o.registry.Validate(merged, true)
}

// otherEngine reports whether the overlay names another engine than a config.
func (o *Overlay) otherEngine(c events.Config) bool {
	general, err := ParseGeneral(o.over.General)
	if err != nil || general.EngineClass == "" {
		return false
	}
	other, err := o.registry.Kind(o.over)
	if err != nil {
		return false
	}
	own, err := o.registry.Kind(c)
	return err != nil || own.Name != other.Name
}

// Domain is a domain with the other config. Where the service would refuse that, it is
// the domain with the last one that it would not, with an error; nil where there was
// none in this life of the domain.
func (o *Overlay) Domain(d *events.Domain) (*events.Domain, error) {
	if o.of == d {
		return o.laid, nil
	}
	config, err := o.Config(d.Config)
	last := o.laid
	if last != nil && o.added != d.AddedSeq {
		last = nil
	}
	laid := *d
	switch {
	case err == nil && (last == nil || last.ConfigSeq != d.ConfigSeq):
		laid.Config = config
	case last == nil:
		return nil, err
	default:
		laid.Config, laid.ConfigSeq = last.Config, last.ConfigSeq
	}
	o.of, o.laid, o.added = d, &laid, d.AddedSeq
	return o.laid, err
}
