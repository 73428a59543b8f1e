package passes

import (
	"os"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Played is the log that a script of testdata has led to, and whose domain it is about.
func Played(t *testing.T, script string) (events.DomainID, []events.Recorded) {
	t.Helper()
	source, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	s.play(string(source))
	return dom, s.recorded
}

// Registry is the engines of the scripts.
func Registry() *engines.Registry { return registry() }
