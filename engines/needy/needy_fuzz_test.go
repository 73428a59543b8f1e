package needy_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/needy"
)

// FuzzConf: an engine_conf that is accepted makes an engine that decides, one that
// is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := needy.Kind()
	f.Fuzz(func(t *testing.T, conf []byte) {
		err := kind.Validate(conf, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" || field.Message == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		e, made := kind.New(conf, nil)
		if (made == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, made)
		}
		if kind.Validate(conf, false) != nil && err == nil {
			t.Fatal("complete, but not as a template")
		}
		if err != nil {
			return
		}
		if d, err := e.Decide(&engines.View{MaxActions: 5}); err != nil || d.Reason == "" || len(d.Launches) > 5 || len(d.Launches) > d.Target {
			t.Fatalf("decides %+v, %v", d, err)
		}
	})
}
