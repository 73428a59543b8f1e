package archive_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestJob_ForgedElsewhere: an archive that lacks what another one has cannot put right
// what was forged, though it begins with the log.
func TestJob_ForgedElsewhere(t *testing.T) {
	t.Parallel()
	w, one, two := newWorld(t, 27), t.TempDir(), t.TempDir()
	w.happen(20)
	w.append(events.DefinitionKey("alone"), events.DefinitionAdded{}, 0) // the last one of its key for ever
	w.read()
	w.told()
	w.run(one, 21, true)
	w.happen(20)
	w.run(two, 35, true)
	if _, err := w.js.Publish(t.Context(), "$KV.epum_purged.checkpoint", []byte(`{"seq":0}`)); err != nil {
		t.Fatal(err)
	}
	left := len(w.left())
	if _, err := w.job(one).Run(t.Context(), projections.Point{Seq: 22}, true); !errors.Is(err, archive.ErrIncomplete) || len(w.left()) != left {
		t.Errorf("%v, %d of %d events are left", err, len(w.left()), left)
	}
	// Nor what was deleted.
	if err := w.js.DeleteKeyValue(t.Context(), "epum_purged"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.job(one).Run(t.Context(), projections.Point{Seq: 22}, true); !errors.Is(err, archive.ErrIncomplete) || len(w.left()) != left {
		t.Errorf("without the bucket: %v, %d of %d events are left", err, len(w.left()), left)
	}
}

// TestJob_Deleted: without the bucket of the purge point, an archive that has all makes
// it anew.
func TestJob_Deleted(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 28), t.TempDir()
	w.happen(40)
	w.run(dir, 30, true)
	if err := w.js.DeleteKeyValue(t.Context(), "epum_purged"); err != nil {
		t.Fatal(err)
	}
	_, err := w.job(dir).Run(t.Context(), projections.Point{Seq: 21}, true)
	if !errors.Is(err, archive.ErrIncomplete) || !strings.HasSuffix(err.Error(), "--before 31") || w.point().Seq > 0 {
		t.Errorf("before what was purged: %v", err)
	}
	w.run(dir, 30, true) // as it says
	w.check(dir)
	w.run(dir, 40, true)
	w.check(dir)
	w.checkReplica()
}

// TestJob_OtherPoint: a purge point of another life of the log, as where the log alone was
// restored, is no reason to purge what no archive has.
func TestJob_OtherPoint(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 29), t.TempDir()
	w.happen(40)
	w.run(dir, 20, false)
	other := projections.PurgePoint{
		Checkpoint: projections.Checkpoint{Seq: 30, Time: w.all[29].Time, EventID: "another", Created: w.end().Created, FoldVersion: events.FoldVersion},
		Snapshot:   "v-30",
	}
	data, err := json.Marshal(other)
	if err == nil {
		_, err = w.cell.Purged().Write(t.Context(), nil, data, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, t.TempDir()} {
		if err := w.tryPurge(d); !errors.Is(err, archive.ErrOtherLog) && !errors.Is(err, archive.ErrIncomplete) {
			t.Errorf("purged: %v", err)
		}
	}
	if err := w.js.DeleteKeyValue(t.Context(), "epum_purged"); err != nil { // as it says
		t.Fatal(err)
	}
	w.run(dir, 40, true)
	w.check(dir)
}

// TestArchive_NoManifest: what it named is not taken for what an interrupted archive has
// left.
func TestArchive_NoManifest(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 30), t.TempDir()
	w.happen(40)
	w.run(dir, 30, true)
	path := filepath.Join(dir, "manifest.json")
	manifest, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, purge := range []bool{false, true} {
		_, err := w.job(dir).Run(t.Context(), projections.Point{Seq: 36}, purge)
		if !errors.Is(err, archive.ErrDamaged) || !strings.Contains(err.Error(), "manifest.json") {
			t.Errorf("%v", err)
		}
	}
	if err := os.WriteFile(path, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	w.check(dir)
	// Nor are files of what was archived elsewhere before.
	next := t.TempDir()
	w.run(next, 40, true)
	copied, err := filepath.Glob(filepath.Join(dir, "*.zst"))
	for _, file := range copied {
		data, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(next, filepath.Base(file)), data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := filepath.Glob(filepath.Join(next, "*.zst"))
	if err != nil {
		t.Fatal(err)
	}
	w.run(next, 40, true)
	if after, _ := filepath.Glob(filepath.Join(next, "*.zst")); len(after) != len(before) {
		t.Errorf("%d files, and then %d", len(before), len(after))
	}
}
