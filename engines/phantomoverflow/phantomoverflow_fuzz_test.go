package phantomoverflow_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
)

// FuzzConf: an engine_conf that is accepted makes an engine which decides, one that
// is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := phantomoverflow.Kind()
	f.Fuzz(func(t *testing.T, conf []byte) {
		err := kind.Validate(conf, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" || field.Message == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		engine, made := kind.New(conf, nil)
		if (made == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, made)
		}
		if kind.Validate(conf, false) != nil && err == nil {
			t.Fatal("complete, but not as a template")
		}
		if made != nil {
			return
		}
		d, err := engine.Decide(&engines.View{MaxActions: 10})
		if err != nil || d.Reason == "" || len(d.Launches) > 10 || len(d.Launches) > d.Target {
			t.Fatalf("decides %+v, %v", d, err)
		}
	})
}
