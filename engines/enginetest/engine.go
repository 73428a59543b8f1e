package enginetest

import (
	"encoding/json"
	"fmt"

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
