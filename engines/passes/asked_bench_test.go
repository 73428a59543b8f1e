package passes

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// BenchmarkAskedPass is a decide pass that somebody asks for, where passes are driven
// from outside: over 10,000 domains of the engine sensor of 10 instances. A metric of
// each instance is read first, and changes nothing.
func BenchmarkAskedPass(b *testing.B) {
	w := newIdle(b, events.Config{
		General: []byte(`{"engine_class":"sensor"}`),
		EngineConf: []byte(`{"minimum_vms":10,"maximum_vms":20,"scale_up_threshold":4,"scale_down_threshold":2,"sensor_data":[3],` +
			sensedKeys + `}`),
	}, 10_000, 10)
	w.term.ExternalDecide = true
	w.term.Sources, w.term.Samples = sensors.Sources{"mockcloudwatch": sensors.Mock{}}, &memorySamples{all: map[events.DomainID][]byte{}}
	var took []float64
	for b.Loop() {
		before := time.Now()
		result, err := w.term.decideAsked(b.Context())
		took = append(took, time.Since(before).Seconds()*1000)
		if err != nil || result.Errors != 0 || result.Domains != 10_000 {
			b.Fatalf("%+v, %v", result, err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "p50_ms")
	b.ReportMetric(took[len(took)-1], "max_ms")
}
