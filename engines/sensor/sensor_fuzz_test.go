package sensor_test

import (
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensor"
)

// FuzzConf: an engine_conf that is accepted makes an engine that decides, also with
// a memory that nobody wrote; one that is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := sensor.Kind()
	f.Fuzz(func(t *testing.T, conf, memory []byte) {
		err := kind.Validate(conf, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" || field.Message == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		e, made := kind.New(conf, memory)
		if (made == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, made)
		}
		if kind.Validate(conf, false) != nil && err == nil {
			t.Fatal("complete, but not as a template")
		}
		if err != nil {
			return
		}
		high := map[string]engines.Reading{engines.OfDomain: {Value: 1e9, Time: noon}}
		v := &engines.View{Now: noon, Memory: memory, MaxActions: 5, Readings: engines.Readings{kind.Sensing(conf).Source: high, "load": high}}
		d, err := e.Decide(v)
		if err != nil || d.Reason == "" || d.Target < 0 || len(d.Launches) > 5 || len(d.Terminations) > 0 {
			t.Fatalf("decides %+v, %v", d, err)
		}
	})
}
