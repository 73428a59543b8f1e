package engines_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

// FuzzParseSections: a section is read, or refused with the name of a field.
func FuzzParseSections(f *testing.F) {
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
