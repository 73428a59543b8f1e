package engines_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

// FuzzParseSections: a section is read, or refused with the name of a field.
func FuzzParseSections(f *testing.F) {
	f.Add([]byte(`{"monitor_health":true,"boot_timeout":0.5,"missing_timeout":1e300,"really_missing_timeout":0,"zombie_seconds":null}`))
	f.Add([]byte(`{"engine_class":"x","chef_credential":"y","max_unhealthy_fraction":0.25}`))
	f.Add([]byte(`{"max_unhealthy_fraction":-1}`))
	f.Add([]byte(`{"boot_timeout":"5"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, section []byte) {
		health, err := engines.ParseHealth(section)
		if named(t, err) && (health.BootTimeout < 0 || health.MissingTimeout < 0 || health.ReallyMissingTimeout < 0 || health.Zombie < 0) {
			t.Fatalf("a time-out below zero: %+v", health)
		}
		general, err := engines.ParseGeneral(section)
		if named(t, err) && !(general.MaxUnhealthyFraction >= 0 && general.MaxUnhealthyFraction <= 1) {
			t.Fatalf("a fraction out of range: %+v", general)
		}
	})
}

// named reports whether there is no error; one that there is names its field.
func named(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" || field.Message == "" {
		t.Fatalf("refused with %#v", err)
	}
	return false
}
