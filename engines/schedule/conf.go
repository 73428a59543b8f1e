// Package schedule is the engine that puts sizes by the clock over another
// engine: cron expressions in a time zone say from when on which one holds.
package schedule

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed schedule.md
var doc string

const (
	// name is the engine's name, which engine_class here may not be.
	name         = "schedule"
	defaultClass = "simplest"
	// mostEntries bounds how many entries there are; a decide asks each one.
	mostEntries = 100
)

// sizeKeys are how engines name a fixed number of instances.
var sizeKeys = []string{"preserve_n", "domain_desired_size"}

// Lookup gives the engine of a name or an alias, as engines.Registry does.
type Lookup func(class string) (engines.Kind, bool)

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	Schedules []entry                    `json:"schedules"`
	Class     *string                    `json:"engine_class"`
	Conf      map[string]json.RawMessage `json:"engine_conf"`
	Vars      map[string]json.RawMessage `json:"provisioner_vars"` // the outbox reads them
}

type entry struct {
	Cron    *string `json:"cron"`
	Zone    *string `json:"time_zone"`
	Size    *int    `json:"size"`
	Minimum *int    `json:"minimum"`
	Maximum *int    `json:"maximum"`
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	kind    engines.Kind    // the inner engine
	base    json.RawMessage // the inner engine's engine_conf; nil: not given
	entries []parsed
}

type parsed struct {
	clock
	text string          // for people
	conf json.RawMessage // the inner engine's, with the entry's sizes
}

// Kind is the engine as a registry takes it. lookup finds the inner engine; it is
// not called before the registry is there.
func Kind(lookup Lookup) engines.Kind {
	return engines.Kind{
		Name: name,
		Doc:  doc,
		New: func(given, memory json.RawMessage) (engines.Engine, error) {
			e := &engine{lookup: lookup}
			if err := e.take(given, memory); err != nil {
				return nil, err
			}
			return e, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(lookup, given, complete)
			return err
		},
		Sensing: func(given json.RawMessage) engines.Sensing {
			c, err := parse(lookup, given, true)
			if err != nil || c.kind.Sensing == nil {
				return engines.Sensing{}
			}
			return c.kind.Sensing(c.base)
		},
		Question: func(given json.RawMessage) engines.Question {
			c, err := parse(lookup, given, true)
			if err != nil || c.kind.Question == nil {
				return engines.Question{}
			}
			return c.kind.Question(c.base)
		},
	}
}

func parse(lookup Lookup, given json.RawMessage, complete bool) (c conf, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return c, err
	}
	class := defaultClass
	if s.Class != nil {
		class = *s.Class
	}
	var ok bool
	if c.kind, ok = lookup(class); !ok || class == "" {
		return c, engines.RefuseEngineConf("engine_class", fmt.Sprintf("names no engine: there is no %q", class))
	}
	if c.kind.Name == name {
		return c, engines.RefuseEngineConf("engine_class", "is this engine itself; name the one that the schedules are put over")
	}
	if _, there := s.Conf["provisioner_vars"]; there {
		return c, engines.RefuseEngineConf("engine_conf.provisioner_vars", "is not read here; give it beside engine_conf")
	}
	if s.Conf != nil {
		c.base = encode(s.Conf)
	}
	if err := c.kind.Validate(c.base, complete); err != nil {
		return c, inside(err)
	}
	switch {
	case complete && len(s.Schedules) == 0:
		return c, engines.RefuseEngineConf("schedules", "is required: a list of at least one entry")
	case len(s.Schedules) > mostEntries:
		return c, engines.RefuseEngineConf("schedules", fmt.Sprintf("has %d entries, at most %d are allowed", len(s.Schedules), mostEntries))
	}
	for n, one := range s.Schedules {
		p, err := one.parse(fmt.Sprintf("schedules.%d", n), &c, s.Conf, complete)
		if err != nil {
			return c, err
		}
		c.entries = append(c.entries, p)
	}
	return c, nil
}

// inside names a key of the inner engine's conf as it stands in this one's.
func inside(err error) error {
	if refused, ok := errors.AsType[*engines.FieldError](err); ok {
		return &engines.FieldError{Field: engines.SectionEngineConf + "." + refused.Field, Message: refused.Message}
	}
	return err
}

func encode(conf map[string]json.RawMessage) json.RawMessage {
	data, _ := json.Marshal(conf) // its values were read as JSON; sorted by key
	return data
}

// parse checks an entry, key being where it stands.
func (one *entry) parse(key string, c *conf, inner map[string]json.RawMessage, complete bool) (p parsed, err error) {
	if one.Cron == nil {
		return p, engines.RefuseEngineConf(key+".cron", "is required: minute, hour, day of the month, month, day of the week")
	}
	if p.expr, err = readCron(*one.Cron); err != nil {
		return p, engines.RefuseEngineConf(key+".cron", err.Error())
	}
	zone := "UTC"
	if one.Zone != nil {
		zone = *one.Zone
	}
	if p.zone, err = time.LoadLocation(zone); err != nil || zone == "" || zone == "Local" {
		return p, engines.RefuseEngineConf(key+".time_zone", fmt.Sprintf("is %q, which is no known time zone; give one such as %q", zone, "Europe/Berlin"))
	}
	p.text = strings.Join(strings.Fields(*one.Cron), " ") + " " + zone
	sizes, err := one.sizes(key, c.kind)
	if err != nil {
		return p, err
	}
	overlaid := maps.Clone(inner)
	if overlaid == nil {
		overlaid = map[string]json.RawMessage{}
	}
	maps.Copy(overlaid, sizes)
	p.conf = encode(overlaid)
	if err := c.kind.Validate(p.conf, complete); err != nil {
		return p, engines.RefuseEngineConf(key, "does not go with engine_conf: "+err.Error())
	}
	return p, nil
}

// sizes are the keys of the inner engine that an entry sets.
func (one *entry) sizes(key string, kind engines.Kind) (map[string]json.RawMessage, error) {
	sizes := map[string]json.RawMessage{}
	for _, f := range []struct {
		key   string
		given *int
		names []string // what the inner engine may call it
	}{
		{"size", one.Size, sizeKeys},
		{"minimum", one.Minimum, []string{"minimum_vms"}},
		{"maximum", one.Maximum, []string{"maximum_vms"}},
	} {
		if f.given == nil {
			continue
		}
		if *f.given < 0 {
			return nil, engines.RefuseEngineConf(key+"."+f.key, fmt.Sprintf("is %d, but must be an integer of at least 0", *f.given))
		}
		known := slices.IndexFunc(f.names, func(name string) bool { return knows(kind, name) })
		if known < 0 {
			return nil, engines.RefuseEngineConf(key+"."+f.key, fmt.Sprintf("cannot be set: the engine %q has no %s", kind.Name, strings.Join(f.names, " or ")))
		}
		sizes[f.names[known]], _ = json.Marshal(*f.given)
	}
	switch {
	case len(sizes) == 0:
		return nil, engines.RefuseEngineConf(key, "sets nothing; give size, or minimum or maximum or both")
	case one.Size != nil && len(sizes) > 1:
		return nil, engines.RefuseEngineConf(key+".size", "cannot be given with minimum or maximum; give either")
	}
	return sizes, nil
}

// knows reports whether an engine has a key for a number.
func knows(kind engines.Kind, key string) bool {
	err := kind.Validate(encode(map[string]json.RawMessage{key: json.RawMessage("1")}), false)
	refused, ok := errors.AsType[*engines.FieldError](err)
	return !ok || refused.Field != engines.SectionEngineConf+"."+key
}
