package service

import (
	"fmt"
	"strings"
)

// ConfigError is one thing that is wrong with the configuration.
type ConfigError struct {
	Key     string // as in Keys, or the unknown one
	Source  string // where it was given, such as "epum.yaml line 3", "EPUM_LEASE_TTL" or "--lease_ttl"
	Value   string // as it was given; "": not to the point
	Allowed string // what is allowed, as the end of a sentence about the value
}

func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s (%s) %s", e.Key, e.Source, e.Allowed)
	}
	const longest = 60 // bytes of a value that are worth showing
	value := e.Value
	if len(value) > longest {
		value = value[:longest] + "…"
	}
	return fmt.Sprintf("%s %q (%s) %s", e.Key, value, e.Source, e.Allowed)
}

// ConfigErrors is everything that is wrong with the configuration; never empty
// where it is returned.
type ConfigErrors []*ConfigError

func (e ConfigErrors) Error() string {
	lines := make([]string, len(e))
	for n, err := range e {
		lines[n] = err.Error()
	}
	return "config: " + strings.Join(lines, "; ")
}
