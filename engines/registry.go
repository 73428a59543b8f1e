package engines

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Kind is one engine as the registry knows it.
type Kind struct {
	Name    string
	Aliases []string // further names that general.engine_class may give, as the reference's class paths
	Doc     string   // Markdown: what the engine does and each key of its engine_conf
	// New makes the engine of one domain from its engine_conf section and the
	// memory of its last recorded decision (nil: it never decided).
	New func(conf, memory json.RawMessage) (Engine, error)
	// Validate checks an engine_conf section (nil: absent). With complete false,
	// as for a definition, required keys may be missing. It fails with a
	// *FieldError.
	Validate func(conf json.RawMessage, complete bool) error
	// Sensing says which metrics are to be read for a domain with an engine_conf
	// section that Validate has accepted. nil: the engine reads none.
	Sensing func(conf json.RawMessage) Sensing
	// Question says whom to ask before a decide, by an engine_conf section that
	// Validate has accepted. nil: the engine decides alone.
	Question func(conf json.RawMessage) Question
}

// Question is what an engine wants answered before it decides: the view, as JSON
// (EncodeView), put to a subject.
type Question struct {
	Subject  string // "": nobody is asked
	Timeout  time.Duration
	Settings json.RawMessage // told with the view; nil: none
}

// Registry is the engines that a process knows. It never changes and is safe
// for concurrent use.
type Registry struct {
	byName      map[string]Kind // name or alias → engine
	names       []string        // sorted, without aliases
	defaultName string
}

// NewRegistry makes a registry of the kinds; defaultName is the engine of a
// config that names none. It panics where a name is given twice or the default
// is not among the kinds, which is a fault of the program that wires it.
func NewRegistry(defaultName string, kinds ...Kind) *Registry {
	r := &Registry{byName: map[string]Kind{}, defaultName: defaultName}
	for _, k := range kinds {
		r.names = append(r.names, k.Name)
		for _, name := range append([]string{k.Name}, k.Aliases...) {
			if _, taken := r.byName[name]; taken || name == "" {
				panic(fmt.Sprintf("engines: engine name %q is empty or given twice", name))
			}
			r.byName[name] = k
		}
	}
	if _, ok := r.byName[defaultName]; !ok {
		panic(fmt.Sprintf("engines: the default engine %q is not among %q", defaultName, slices.Sorted(maps.Keys(r.byName))))
	}
	slices.Sort(r.names)
	return r
}

// Lookup gives the engine that a name or an alias means; "" means the default.
func (r *Registry) Lookup(class string) (Kind, bool) {
	if class == "" {
		class = r.defaultName
	}
	k, ok := r.byName[class]
	return k, ok
}

// Names are the names of all engines, sorted, without aliases.
func (r *Registry) Names() []string { return slices.Clone(r.names) }
