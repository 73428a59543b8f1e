package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Config is a domain's or a definition's config (design §1). Each section is a
// JSON object as it was given, or nil where there is none.
type Config struct {
	General    json.RawMessage `json:"general,omitempty"`
	EngineConf json.RawMessage `json:"engine_conf,omitempty"`
	Health     json.RawMessage `json:"health,omitempty"`
}

// Merge lays over on top of c, key by key in each section, one level deep. A
// null is kept as null. It fails only where a section is no JSON object.
func (c Config) Merge(over Config) (Config, error) {
	var err error
	merge := func(name string, a, b json.RawMessage) json.RawMessage {
		m, mergeErr := mergeObjects(a, b)
		if mergeErr != nil && err == nil {
			err = fmt.Errorf("events: merge %s: %w", name, mergeErr)
		}
		return m
	}
	return Config{
		General:    merge("general", c.General, over.General),
		EngineConf: merge("engine_conf", c.EngineConf, over.EngineConf),
		Health:     merge("health", c.Health, over.Health),
	}, err
}

// Filled is c with an empty object for each absent section, as a domain's
// config is shown.
func (c Config) Filled() Config {
	fill := func(section json.RawMessage) json.RawMessage {
		if len(section) == 0 {
			return json.RawMessage("{}")
		}
		return section
	}
	return Config{General: fill(c.General), EngineConf: fill(c.EngineConf), Health: fill(c.Health)}
}

// Size is the number of bytes of the sections.
func (c Config) Size() int { return len(c.General) + len(c.EngineConf) + len(c.Health) }

// Equal reports whether both configs say the same: the same sections with equal
// values, whatever the order of keys and the white space.
func (c Config) Equal(d Config) bool {
	return equalJSON(c.General, d.General) && equalJSON(c.EngineConf, d.EngineConf) && equalJSON(c.Health, d.Health)
}

func mergeObjects(a, b json.RawMessage) (json.RawMessage, error) {
	if len(b) == 0 {
		return a, nil
	}
	if !isObject(b) || len(a) > 0 && !isObject(a) {
		return nil, errors.New("a section is no JSON object")
	}
	if len(a) == 0 {
		return b, nil
	}
	merged := map[string]json.RawMessage{}
	if err := json.Unmarshal(a, &merged); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &merged); err != nil {
		return nil, err
	}
	return marshal(merged)
}

// isObject reports whether a JSON value is an object.
func isObject(v json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimLeft(v, " \t\r\n"), []byte("{"))
}

// equalJSON compares two JSON values; numbers are compared as they are written.
func equalJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	// Without an escape, a member or space a value can be written in one way only:
	// nearly all that a report says.
	const ambiguous = "\\{[ \t\r\n"
	if len(a) == 0 || len(b) == 0 || !bytes.ContainsAny(a, ambiguous) && !bytes.ContainsAny(b, ambiguous) {
		return false
	}
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func canonical(v json.RawMessage) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(v))
	dec.UseNumber()
	var x any
	if err := dec.Decode(&x); err != nil {
		return nil, err
	}
	return marshal(x)
}
