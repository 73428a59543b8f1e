package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/events"
)

func TestAgent_TrimsOutput(t *testing.T) {
	h := newHarness(t)
	h.start()
	vars := logVar(t)
	h.provision("i1", "chatty", vars)
	h.await("i1", events.Running, 0)
	h.poll("9 MB written", func() bool { return lines(vars["log"].(string)) == 1 })
	h.poll("cut", func() bool {
		info, err := os.Stat(filepath.Join(h.dir, "i1", "stdout"))
		return err == nil && info.Size() < 1_000_000
	})
}

func TestAgent_Prune(t *testing.T) {
	h := newHarness(t)
	stop := h.start()
	h.terminate("old", "young")
	h.settled("old")
	h.settled("young")
	stop()
	h.rewrite("old", func(rec map[string]any) { rec["ended"] = time.Now().Add(-agent.TombstoneAge - time.Hour) })
	h.start()
	h.poll("removal of the old tombstone", func() bool { return h.record("old") == nil })
	if h.record("young") == nil {
		t.Error("the young tombstone has gone")
	}
}

func TestAgent_Open(t *testing.T) {
	h := newHarness(t)
	stop := h.start()
	t.Run("locked", func(t *testing.T) {
		if _, err := agent.Open(h.nc, h.config()); !errors.Is(err, agent.ErrLocked) || !strings.Contains(err.Error(), h.dir) {
			t.Errorf("error %v", err)
		}
	})
	stop()
	t.Run("other people's directories", func(t *testing.T) {
		theirs, empty := filepath.Join(h.dir, "lost+found", "file"), filepath.Join(h.dir, "begun")
		if err := errors.Join(os.MkdirAll(theirs, 0o700), os.Mkdir(empty, 0o700)); err != nil {
			t.Fatal(err)
		}
		h.start()()
		if _, err := os.Stat(theirs); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(empty); err == nil {
			t.Error("the home of a launch that never began is still there")
		}
	})
	t.Run("damaged record", func(t *testing.T) {
		path := filepath.Join(h.dir, "i1", "record.json")
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("{"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.Open(h.nc, h.config()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want %s in it", err, path)
		}
	})
	t.Run("bad site", func(t *testing.T) {
		if _, err := agent.Open(h.nc, agent.Config{Site: "..", Dir: t.TempDir()}); !errors.Is(err, events.ErrName) {
			t.Errorf("error %v", err)
		}
	})
}
