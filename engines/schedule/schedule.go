package schedule

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// none is the entry in force where none has fired.
const none = -1

// memory is what survives between decides.
type memory struct {
	Entry *int            `json:"entry,omitempty"` // in force; nil: none
	Class string          `json:"class"`           // of the inner engine
	Inner json.RawMessage `json:"inner,omitempty"` // the inner engine's memory
}

// engine has the inner engine with the config of the entry in force, which follows
// from the time of the view alone.
type engine struct {
	lookup  Lookup
	conf    conf
	inner   engines.Engine
	inForce int // the entry whose config the inner engine has
}

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error { return e.take(given, nil) }

// take makes the inner engine anew, at first with its own config.
func (e *engine) take(given, memory json.RawMessage) error {
	c, err := parse(e.lookup, given, true)
	if err != nil {
		return err
	}
	inner, err := c.kind.New(c.base, c.remembered(memory))
	if err != nil {
		return inside(err)
	}
	e.conf, e.inner, e.inForce = c, inner, none
	return nil
}

// remembered is the inner engine's memory; nil where it is another engine's.
func (c *conf) remembered(kept json.RawMessage) json.RawMessage {
	var m memory
	if len(kept) == 0 || json.Unmarshal(kept, &m) != nil || m.Class != c.kind.Name {
		return nil
	}
	return m.Inner
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	entry, since := e.conf.inForce(v.Now)
	if err := e.use(entry); err != nil {
		return engines.Decision{}, err
	}
	view := *v
	view.Memory = e.conf.remembered(v.Memory)
	d, err := e.inner.Decide(&view)
	if err != nil {
		return d, err
	}
	kept := memory{Class: e.conf.kind.Name, Inner: d.Memory}
	saw := struct {
		Entry *int            `json:"entry"` // nil: none
		Since *time.Time      `json:"since,omitempty"`
		Class string          `json:"class"`
		Inner json.RawMessage `json:"inner,omitempty"`
	}{nil, nil, e.conf.kind.Name, d.Saw}
	if entry == none {
		d.Reason = "no schedule has begun: " + d.Reason
	} else {
		kept.Entry, saw.Entry, saw.Since = &entry, &entry, &since
		d.Reason = fmt.Sprintf("schedule %d (%s) holds since %s: %s", entry, e.conf.entries[entry].text, since.Format(time.RFC3339), d.Reason)
	}
	if d.Memory, err = json.Marshal(kept); err != nil {
		return d, err
	}
	d.Saw, err = json.Marshal(saw)
	return d, err
}

// inForce is the entry that fired last, and when; of several that fired at once the
// last of the list.
func (c *conf) inForce(now time.Time) (entry int, since time.Time) {
	entry = none
	for n := range c.entries {
		if fired := c.entries[n].last(now); !fired.IsZero() && !fired.Before(since) {
			entry, since = n, fired
		}
	}
	return entry, since
}

// use gives the inner engine the config of an entry.
func (e *engine) use(entry int) error {
	if entry == e.inForce {
		return nil
	}
	conf := e.conf.base
	if entry != none {
		conf = e.conf.entries[entry].conf
	}
	if err := e.inner.Reconfigure(conf); err != nil {
		return fmt.Errorf("the engine's config of schedule %d: %w", entry, err)
	}
	e.inForce = entry
	return nil
}
