package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
)

// FuzzLoadTypes: a file of types is read, or refused; each type that is read has
// a command.
func FuzzLoadTypes(f *testing.F) {
	path := filepath.Join(f.TempDir(), "types.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		types, err := agent.LoadTypes(path)
		if err == nil && len(types) == 0 {
			t.Fatal("no types, and no error")
		}
		for name, d := range types {
			if len(d.Command) == 0 {
				t.Fatalf("type %q has no command", name)
			}
		}
	})
}
