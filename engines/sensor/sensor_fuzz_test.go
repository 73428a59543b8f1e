package sensor_test

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/sensor"
)

// FuzzConf is that of every engine, with a memory that nobody wrote and a load that
// asks for more.
func FuzzConf(f *testing.F) {
	kind := sensor.Kind()
	high := map[string]engines.Reading{engines.OfDomain: {Value: 1e9, Time: enginetest.Start}}
	f.Fuzz(func(t *testing.T, conf, memory []byte) {
		if e := enginetest.Accepted(t, kind, conf); e != nil {
			enginetest.Begins(t, e, &engines.View{
				Now: enginetest.Start, Memory: memory, MaxActions: 5, Readings: engines.Readings{kind.Sensing(conf).Source: high, "load": high},
			})
		}
	})
}
