package enginetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Made is an engine of a config and of the memory of its last decision (nil: none).
func Made(t rapid.TB, kind engines.Kind, conf string, memory json.RawMessage) engines.Engine {
	t.Helper()
	e, err := kind.New(json.RawMessage(conf), memory)
	if err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	return e
}

// Decided is what an engine makes of a view.
func Decided(t rapid.TB, e engines.Engine, v *engines.View) engines.Decision {
	t.Helper()
	d, err := e.Decide(v)
	if err != nil {
		t.Fatalf("decide: %v", err)
	}
	return d
}

// measured is how many decisions Measure makes for one figure.
const measured = 40

// Measure is a benchmark of an engine's decision on a view: it reports what one takes, the
// median of many after the first, which finds nothing in the processor's caches.
func Measure(b *testing.B, e engines.Engine, v *engines.View) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		for range measured {
			began := time.Now()
			Decided(b, e, v)
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "us/decision")
	b.ReportMetric(0, "ns/op")
}

// ID is that of the n-th instance, from 0: i00000, i00001, …
func ID(n int) string { return fmt.Sprintf("i%05d", n) }

// Running are so many instances that run and are well, with the ids of ID.
func Running(n int) []*events.Instance {
	list := make([]*events.Instance, n)
	for n := range list {
		list[n] = &events.Instance{ID: ID(n), State: events.Running, Health: events.HealthOK}
	}
	return list
}
