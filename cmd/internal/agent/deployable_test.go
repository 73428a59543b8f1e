package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
)

func TestTypes_Load(t *testing.T) {
	load := func(t *testing.T, content string) (agent.Types, error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "types.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return agent.LoadTypes(path)
	}
	t.Run("all keys", func(t *testing.T) {
		got, err := load(t, "web:\n  command: [run, '{{.x}}']\n  env: {PORT: 8080, A: b}\n  dir: /tmp\n  grace: 3s\n  start_after: 250ms\n  check: [ask, '{{.x}}']\n  check_timeout: 2s\n")
		if err != nil {
			t.Fatal(err)
		}
		want := agent.Types{"web": {
			Command: []string{"run", "{{.x}}"}, Env: map[string]string{"PORT": "8080", "A": "b"}, Dir: "/tmp",
			Grace: 3 * time.Second, StartAfter: 250 * time.Millisecond,
			Check: []string{"ask", "{{.x}}"}, CheckTimeout: 2 * time.Second,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	for name, c := range map[string]struct{ content, want string }{
		"unknown key":  {"web: {command: [run], colour: red}", "colour"},
		"doubled key":  {"web: {command: [run]}\nweb: {command: [walk]}", "web"},
		"wrong type":   {"web: {command: {a: b}}", "command"},
		"duration":     {"web: {command: [run], grace: soon}", "soon"},
		"negative":     {"web: {command: [run], grace: -1s}", "web: grace"},
		"no command":   {"web: {dir: /tmp}", "web: command"},
		"bad template": {"web: {command: [run, '{{.x']}", "command[1]"},
		"bad check":    {"web: {command: [run], check: [ask, '{{']}", "check[1]"},
		"check's time": {"web: {command: [run], check: [ask], check_timeout: -1s}", "web: check_timeout"},
		"bad variable": {"web: {command: [run], env: {'A=B': c}}", "A=B"},
		"empty":        {"", "no deployable type"},
		"no mapping":   {"- web", "types.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := load(t, c.content); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		if _, err := agent.LoadTypes(filepath.Join(t.TempDir(), "none")); err == nil {
			t.Error("no error")
		}
	})
}
