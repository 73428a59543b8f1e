package engines_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// countConf is the engine_conf of the engine that the tests know.
type countConf struct {
	N    *int                       `json:"n"`
	Vars map[string]json.RawMessage `json:"vars"`
}

func registry() *engines.Registry {
	return engines.NewRegistry("count", engines.Kind{
		Name: "count", Aliases: []string{"old.path.Count"},
		Validate: func(conf json.RawMessage, complete bool) error {
			var c countConf
			if err := engines.DecodeEngineConf(conf, &c); err != nil {
				return err
			}
			if complete && c.N == nil {
				return &engines.FieldError{Field: "engine_conf.n", Message: "is missing"}
			}
			return nil
		},
	})
}

func TestRegistry_Lookup(t *testing.T) {
	r := registry()
	for class, want := range map[string]string{"": "count", "count": "count", "old.path.Count": "count", "nope": ""} {
		kind, ok := r.Lookup(class)
		if kind.Name != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %q, %v; want %q", class, kind.Name, ok, want)
		}
	}
	if diff := cmp.Diff([]string{"count"}, r.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestNewRegistry_Panics(t *testing.T) {
	a := engines.Kind{Name: "a"}
	for name, make := range map[string]func(){
		"no default":  func() { engines.NewRegistry("b", a) },
		"given twice": func() { engines.NewRegistry("a", a, engines.Kind{Name: "b", Aliases: []string{"a"}}) },
		"empty name":  func() { engines.NewRegistry("a", a, engines.Kind{}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			make()
		})
	}
}

func TestRegistry_Validate(t *testing.T) {
	tests := []struct {
		name                        string
		general, engineConf, health string
		incomplete                  bool
		field, message              string // "": accepted
	}{
		{name: "the least", engineConf: `{"n":1}`},
		{name: "nothing, incomplete", incomplete: true},
		{
			name: "all", general: `{"engine_class":"old.path.Count","chef_credential":"c"}`, engineConf: `{"n":0,"vars":{"a":{"b":[]}}}`,
			health: `{"monitor_health":true,"boot_timeout":0,"missing_timeout":0.5,"really_missing_timeout":15,"zombie_seconds":1e2}`,
		},
		{name: "null is not given", general: `{"engine_class":null}`, engineConf: `{"n":1,"vars":null}`, health: `{"boot_timeout":null}`},
		{name: "null for a required key", engineConf: `{"n":null}`, field: "engine_conf.n", message: "missing"},
		{name: "missing key", engineConf: `{}`, field: "engine_conf.n", message: "missing"},
		{name: "unknown engine", general: `{"engine_class":"nope"}`, field: "general.engine_class", message: "use one of: count"},
		{name: "engine of a wrong type", general: `{"engine_class":1}`, field: "general.engine_class", message: "must be a string"},
		{name: "unknown general key", general: `{"engine":"count"}`, field: "general.engine", message: "not known"},
		{name: "dry run", general: `{"dry_run":true}`, engineConf: `{"n":1}`},
		{name: "dry run of no kind", general: `{"dry_run":"yes"}`, field: "general.dry_run", message: "must be true or false"},
		{name: "termination policy", general: `{"termination_policy":"oldest"}`, engineConf: `{"n":1}`},
		{name: "no termination policy", general: `{"termination_policy":"random"}`, field: "general.termination_policy", message: "one of: newest, oldest, unhealthy-first"},
		{name: "case matters", general: `{"Engine_Class":"count"}`, field: "general.Engine_Class", message: "not known"},
		{name: "section null", general: `null`, field: "general", message: "must be a JSON object"},
		{name: "section a list", health: `[]`, engineConf: `{"n":1}`, field: "health", message: "must be a JSON object"},
		{name: "section a string", engineConf: `"n"`, field: "engine_conf", message: "must be a JSON object"},
		{name: "negative seconds", engineConf: `{"n":1}`, health: `{"zombie_seconds":-1}`, field: "health.zombie_seconds", message: "at least 0"},
		{name: "not finite", engineConf: `{"n":1}`, health: `{"boot_timeout":1e999}`, field: "health.boot_timeout", message: "finite number"},
		{name: "seconds as text", engineConf: `{"n":1}`, health: `{"boot_timeout":"5"}`, field: "health.boot_timeout", message: "finite number"},
		{name: "monitor_health a number", engineConf: `{"n":1}`, health: `{"monitor_health":1}`, field: "health.monitor_health", message: "true or false"},
		{name: "unknown health key", engineConf: `{"n":1}`, health: `{"boot":1}`, field: "health.boot", message: "not known"},
		{name: "a fraction", engineConf: `{"n":1.5}`, field: "engine_conf.n", message: "integer"},
		{name: "given twice", engineConf: `{"n":1,"n":2}`, field: "engine_conf.n", message: "twice"},
		{name: "given twice, deep", engineConf: `{"n":1,"vars":{"a":{"b":1,"b":2}}}`, field: "engine_conf.vars.a.b", message: "twice"},
		{name: "no JSON", engineConf: `{"n":}`, field: "engine_conf", message: "not valid JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := events.Config{General: raw(tt.general), EngineConf: raw(tt.engineConf), Health: raw(tt.health)}
			err := registry().Validate(c, !tt.incomplete)
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused, ok := errors.AsType[*engines.FieldError](err)
			if !ok {
				t.Fatalf("got %v, want a FieldError", err)
			}
			if !strings.HasPrefix(refused.Field, tt.field) || !strings.Contains(refused.Message, tt.message) {
				t.Errorf("got %v, want %s: …%s…", refused, tt.field, tt.message)
			}
		})
	}
}

func TestParseHealth_Defaults(t *testing.T) {
	want := engines.Health{BootTimeout: 300 * time.Second, MissingTimeout: 120 * time.Second, ReallyMissingTimeout: 15 * time.Second, Zombie: 120 * time.Second}
	got, err := engines.ParseHealth(nil)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	got, err = engines.ParseHealth(raw(`{"monitor_health":true,"boot_timeout":1e300,"zombie_seconds":0.25}`))
	want.MonitorHealth, want.BootTimeout, want.Zombie = true, 1<<63-1, 250*time.Millisecond
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}
