package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed-524e47bf/epum/events"
)

// FieldError is returned when a config is refused. It names the field and says
// what to do.
type FieldError struct {
	Field   string // dotted path from the config, such as "engine_conf.preserve_n"
	Message string // one sentence without the field's name, such as "must be an integer of at least 0"
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// The names of a config's sections, as they stand in a FieldError.
const (
	SectionGeneral    = "general"
	SectionEngineConf = "engine_conf"
	SectionHealth     = "health"
)

// Validate checks a whole config: its general and health sections and, by the
// engine that it names, its engine_conf. With complete false, as for a
// definition, required keys of engine_conf may be missing. It fails with a
// *FieldError. A null stands for a key that is not given.
func (r *Registry) Validate(c events.Config, complete bool) error {
	kind, err := r.Kind(c)
	if err != nil {
		return err
	}
	if _, err := ParseHealth(c.Health); err != nil {
		return err
	}
	return kind.Validate(c.EngineConf, complete)
}

// Kind gives the engine that a config names, the default one where it names
// none. It fails with a *FieldError where the general section is refused.
func (r *Registry) Kind(c events.Config) (Kind, error) {
	general, err := ParseGeneral(c.General)
	if err != nil {
		return Kind{}, err
	}
	kind, ok := r.Lookup(general.EngineClass)
	if !ok {
		return Kind{}, &FieldError{
			Field:   SectionGeneral + ".engine_class",
			Message: fmt.Sprintf("names no engine: there is no %q; use one of: %s", general.EngineClass, strings.Join(r.names, ", ")),
		}
	}
	return kind, nil
}

// General is the general section of a config (design §1).
type General struct {
	EngineClass    string // "": the default engine
	ChefCredential string // "": none
	// MaxUnhealthyFraction is the part of a domain that may be replaced for
	// health at a time, [0, 1]; one instance always may.
	MaxUnhealthyFraction float64
	TerminationPolicy    string // one of Policies, or PolicyDefault
	DryRun               bool   // the engine decides and records, and nothing is done
}

// defaultUnhealthyFraction is max_unhealthy_fraction where it is not given.
const defaultUnhealthyFraction = 0.5

// ParseGeneral reads a general section; nil gives the defaults. It fails with a
// *FieldError.
func ParseGeneral(section json.RawMessage) (General, error) {
	var given struct {
		EngineClass          string   `json:"engine_class"`
		ChefCredential       string   `json:"chef_credential"`
		MaxUnhealthyFraction *float64 `json:"max_unhealthy_fraction"`
		TerminationPolicy    *string  `json:"termination_policy"`
		DryRun               bool     `json:"dry_run"`
	}
	if err := DecodeSection(SectionGeneral, section, &given); err != nil {
		return General{}, err
	}
	g := General{
		EngineClass: given.EngineClass, ChefCredential: given.ChefCredential, MaxUnhealthyFraction: defaultUnhealthyFraction,
		DryRun: given.DryRun,
	}
	if f := given.MaxUnhealthyFraction; f != nil {
		if g.MaxUnhealthyFraction = *f; *f < 0 || *f > 1 {
			return g, &FieldError{Field: SectionGeneral + ".max_unhealthy_fraction", Message: "must be a number from 0 to 1"}
		}
	}
	if p := given.TerminationPolicy; p != nil {
		if g.TerminationPolicy = *p; !slices.Contains(Policies, *p) {
			return g, &FieldError{
				Field:   SectionGeneral + ".termination_policy",
				Message: fmt.Sprintf("is %q, but must be one of: %s; leave it out for the default", *p, strings.Join(Policies, ", ")),
			}
		}
	}
	return g, nil
}

// Health is the health section of a config (design §1), with the defaults
// filled in.
type Health struct {
	MonitorHealth        bool
	BootTimeout          time.Duration
	MissingTimeout       time.Duration
	ReallyMissingTimeout time.Duration
	Zombie               time.Duration // zombie_seconds
}

// ParseHealth reads a health section; nil gives the defaults. It fails with a
// *FieldError.
func ParseHealth(section json.RawMessage) (Health, error) {
	var given struct {
		MonitorHealth        bool     `json:"monitor_health"`
		BootTimeout          *float64 `json:"boot_timeout"`
		MissingTimeout       *float64 `json:"missing_timeout"`
		ReallyMissingTimeout *float64 `json:"really_missing_timeout"`
		ZombieSeconds        *float64 `json:"zombie_seconds"`
	}
	if err := DecodeSection(SectionHealth, section, &given); err != nil {
		return Health{}, err
	}
	h := Health{
		MonitorHealth: given.MonitorHealth, BootTimeout: 300 * time.Second, MissingTimeout: 120 * time.Second,
		ReallyMissingTimeout: 15 * time.Second, Zombie: 120 * time.Second,
	}
	for _, f := range []struct {
		key     string
		seconds *float64
		into    *time.Duration
	}{
		{"boot_timeout", given.BootTimeout, &h.BootTimeout},
		{"missing_timeout", given.MissingTimeout, &h.MissingTimeout},
		{"really_missing_timeout", given.ReallyMissingTimeout, &h.ReallyMissingTimeout},
		{"zombie_seconds", given.ZombieSeconds, &h.Zombie},
	} {
		if f.seconds == nil {
			continue
		}
		if *f.seconds < 0 {
			return Health{}, &FieldError{Field: SectionHealth + "." + f.key, Message: "must be a number of seconds, at least 0"}
		}
		*f.into = seconds(*f.seconds)
	}
	return h, nil
}

// seconds is a duration; one too long for the type becomes the longest.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

// DecodeEngineConf reads an engine_conf section strictly into a struct with
// json tags, see DecodeSection.
func DecodeEngineConf(conf json.RawMessage, into any) error {
	return DecodeSection(SectionEngineConf, conf, into)
}

// DecodeSection reads a section strictly into a struct with json tags: an
// unknown or doubled key, a wrong type, a number out of range or a section that
// is no JSON object is a *FieldError that names the key. A null leaves its field
// zero, as does a key that is absent: take a pointer where that matters. An
// absent section (nil) leaves all as it is.
func DecodeSection(section string, data json.RawMessage, into any) error {
	if len(data) == 0 {
		return nil
	}
	if jsontext.Value(data).Kind() != '{' {
		return &FieldError{Field: section, Message: "must be a JSON object"}
	}
	err := jsonv2.Unmarshal(data, into, jsonv2.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
		return &FieldError{Field: dotted(section, wrong.JSONPointer), Message: semanticMessage(wrong)}
	}
	if bad, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		message := "is not valid JSON"
		if errors.Is(bad, jsontext.ErrDuplicateName) {
			message = "is given twice; give it once"
		}
		return &FieldError{Field: dotted(section, bad.JSONPointer), Message: message}
	}
	return &FieldError{Field: section, Message: "cannot be read"}
}

// wantedError is returned by a type that reads its own JSON: what it wants.
type wantedError string

func (w wantedError) Error() string { return "must be " + string(w) }

func semanticMessage(e *jsonv2.SemanticError) string {
	if errors.Is(e, jsonv2.ErrUnknownName) {
		return "is not known; leave it out"
	}
	if wanted, ok := errors.AsType[wantedError](e.Err); ok {
		return wanted.Error()
	}
	want := "another type"
	if e.GoType != nil {
		switch e.GoType.Kind().String() {
		case "bool":
			want = "true or false"
		case "string":
			want = "a string"
		case "float64":
			want = "a finite number"
		case "int", "int64", "int32":
			want = "an integer"
		case "uint", "uint64", "uint32":
			want = "an integer of at least 0"
		case "map", "struct":
			want = "a JSON object"
		case "slice", "array":
			want = "a JSON array"
		}
	}
	return "must be " + want
}

// dotted is the path of a JSON pointer below a section.
func dotted(section string, pointer jsontext.Pointer) string {
	var path strings.Builder
	path.WriteString(section)
	for token := range pointer.Tokens() {
		path.WriteByte('.')
		path.WriteString(token)
	}
	return path.String()
}
