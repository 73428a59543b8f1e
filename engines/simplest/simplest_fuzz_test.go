package simplest_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/simplest"
)

// FuzzConf: an engine_conf that is accepted makes an engine, one that is not is
// refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := simplest.Kind(simplest.DefaultSite)
	f.Fuzz(func(t *testing.T, conf []byte) {
		err := kind.Validate(conf, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		if _, made := kind.New(conf, nil); (made == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, made)
		}
		if kind.Validate(conf, false) != nil && err == nil {
			t.Fatal("complete, but not as a template")
		}
	})
}
