package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// tryPurge purges all, and checks that nothing is gone if that is refused.
func (w *world) tryPurge(dir string) error {
	w.t.Helper()
	_, err := w.job(dir).Run(w.t.Context(), projections.Point{Seq: uint64(len(w.all)) + 1}, true)
	if err != nil && len(w.left()) != len(w.all) {
		w.t.Fatalf("refused (%v), but events are gone", err)
	}
	return err
}

// TestArchive_Damaged changes an archive in every way that a disk or a person may: it
// is found, the file is named, and nothing is purged.
func TestArchive_Damaged(t *testing.T) {
	t.Parallel()
	w, whole := newWorld(t, 20), t.TempDir()
	w.happen(40)
	w.run(whole, 40, false)
	files, err := filepath.Glob(filepath.Join(whole, "*.zst"))
	if err != nil || len(files) != 6 {
		t.Fatalf("%v, %v", files, err)
	}
	damages := map[string]func(name string, data []byte) []byte{
		"a bit": func(_ string, data []byte) []byte {
			data[w.rand.IntN(len(data))] ^= 1 << w.rand.IntN(8)
			return data
		},
		"cut short":  func(_ string, data []byte) []byte { return data[:w.rand.IntN(len(data))] },
		"longer":     func(_ string, data []byte) []byte { return append(data, 0) },
		"missing":    func(string, []byte) []byte { return nil },
		"another":    func(string, []byte) []byte { data, _ := os.ReadFile(files[0]); return data },
		"two blocks": func(_ string, data []byte) []byte { return append(data, data...) },
	}
	for name, damage := range damages {
		for _, file := range files[1:] {
			for range 5 {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, filepath.Base(file))
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if data = damage(path, data); data == nil {
					err = os.Remove(path)
				} else {
					err = os.WriteFile(path, data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				r, err := archive.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				given := 0
				err = r.Read(t.Context(), r.Manifest.Files[1].First, 40, func(rec *events.Recorded) error {
					w.sameAs(rec) // what it gives before is as it was
					given++
					return nil
				})
				if !errors.Is(err, archive.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(file)) {
					t.Errorf("%s: read %d: %v", name, given, err)
				}
				if err := w.tryPurge(dir); !errors.Is(err, archive.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(file)) {
					t.Errorf("%s: purge: %v", name, err)
				}
			}
		}
	}
}

// TestArchive_DamagedManifest has a manifest that does not say what there is.
func TestArchive_DamagedManifest(t *testing.T) {
	t.Parallel()
	w, whole := newWorld(t, 21), t.TempDir()
	w.happen(40)
	w.run(whole, 40, false)
	changes := map[string]func(m *archive.Manifest){
		"format":       func(m *archive.Manifest) { m.Format = 2 },
		"created":      func(m *archive.Manifest) { m.Created = m.Created.Add(time.Second) },
		"prefix":       func(m *archive.Manifest) { m.Prefix = "other" },
		"first gone":   func(m *archive.Manifest) { m.Files = m.Files[1:] },
		"one gone":     func(m *archive.Manifest) { m.Files = append(m.Files[:2], m.Files[3:]...) },
		"sum":          func(m *archive.Manifest) { m.Files[2].SHA256 = m.Files[3].SHA256 },
		"bytes":        func(m *archive.Manifest) { m.Files[2].Bytes++ },
		"range":        func(m *archive.Manifest) { m.Files[2].First++ },
		"id":           func(m *archive.Manifest) { m.Files[2].LastID = "x" },
		"last id":      func(m *archive.Manifest) { m.Files[5].LastID = "x" },
		"name":         func(m *archive.Manifest) { m.Files[2].Name = "../" + m.Files[2].Name },
		"two the same": func(m *archive.Manifest) { m.Files[2] = m.Files[1] },
	}
	for name, change := range changes {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		var m archive.Manifest
		data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		change(&m)
		if err == nil {
			data, err = json.Marshal(m)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.tryPurge(dir); err == nil {
			t.Errorf("%s: purged", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(whole, "manifest.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.tryPurge(whole); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("no JSON: %v", err)
	}
}

// TestArchive_OtherContent has an archive whose checksums hold, of a log that has not
// quite the same events.
func TestArchive_OtherContent(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, 22), newWorld(t, 22)
	w.happen(30)
	other.happen(30)
	dir := t.TempDir()
	other.run(dir, 30, false)
	if err := w.tryPurge(dir); !errors.Is(err, archive.ErrOtherLog) {
		t.Errorf("of another stream: %v", err)
	}
	path := filepath.Join(dir, "manifest.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _ := other.end().Created.MarshalText()
	ours, _ := w.end().Created.MarshalText()
	if err := os.WriteFile(path, bytes.ReplaceAll(data, theirs, ours), 0o600); err != nil {
		t.Fatal(err)
	}
	// The ids are the same: the stream's times are not.
	if err := w.tryPurge(dir); !errors.Is(err, archive.ErrOtherLog) || !strings.Contains(err.Error(), "event 1 ") {
		t.Errorf("of the same stream: %v", err)
	}
}

// TestJob_Twice runs two at once.
func TestJob_Twice(t *testing.T) {
	t.Parallel()
	w, one, two := newWorld(t, 23), t.TempDir(), t.TempDir()
	w.happen(40)
	j := w.job(one)
	j.Step = func(what string) error {
		switch what {
		case "create":
			_, err := w.job(one).Run(t.Context(), projections.Point{Seq: 20}, false)
			if !errors.Is(err, archive.ErrLocked) {
				t.Errorf("into the same directory: %v", err)
			}
		case "snapshot": // another directory, at the worst time
			w.run(two, 20, true)
			w.check(one, two)
		}
		return nil
	}
	_, err := j.Run(t.Context(), projections.Point{Seq: 31}, true)
	w.check(one, two)
	if err != nil {
		t.Errorf("behind an earlier point: %v", err)
	}
	// One that lags behind what another has purged cannot go on, and says why.
	w.happen(10)
	w.run(one, 45, true)
	w.check(one, two)
	if _, err := w.job(two).Run(t.Context(), projections.Point{Seq: 50}, false); !errors.Is(err, archive.ErrIncomplete) || !strings.Contains(err.Error(), "events 20 to 45") &&
		!strings.Contains(err.Error(), "events 21 to 45") {
		t.Errorf("one that lags: %v", err)
	}
	if _, err := archive.Join(t.Context(), w.cell, two); !errors.Is(err, archive.ErrIncomplete) {
		t.Errorf("read one that lags: %v", err)
	}
	// A new one begins behind the purge point.
	three := t.TempDir()
	if r := w.run(three, 50, true); r.First != 46 {
		t.Errorf("%+v", r)
	}
	w.check(one, two, three)
}

// TestJob_Needed: what somebody still needs is not purged.
func TestJob_Needed(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 24), t.TempDir()
	w.happen(20)
	w.append(events.DomainID{Owner: "al", Name: "x"}.InstanceKey("i"), events.LaunchRequested{}, 1)
	w.read()
	purge := func(upTo uint64) error {
		t.Helper()
		j := w.job(dir)
		j.Patience = 200 * time.Millisecond
		_, err := j.Run(t.Context(), projections.Point{Seq: upTo + 1}, true)
		w.check(dir)
		return err
	}
	if err := purge(21); !errors.Is(err, archive.ErrNeeded) || !strings.Contains(err.Error(), "subscribers") || w.point().Seq > 0 {
		t.Errorf("untold: %v, at %d", err, w.point().Seq)
	}
	before, _, _ := strings.Cut(strings.SplitAfter(purge(21).Error(), "--before ")[1], " ")
	if n, err := strconv.ParseUint(before, 10, 64); err != nil || purge(n-1) != nil {
		t.Errorf("as it says: %s, %v", before, err)
	}
	w.told()
	if err := purge(21); err != nil {
		t.Errorf("told: %v", err)
	}
	command := &nats.Msg{Subject: "epum.inbox.al.add_domain", Header: nats.Header{"Nats-Msg-Id": {"c1"}}}
	if _, err := w.js.PublishMsg(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	w.happen(5)
	if err := purge(25); !errors.Is(err, archive.ErrNeeded) || !strings.Contains(err.Error(), "durable command") || w.point().Seq != 21 {
		t.Errorf("a command waits: %v, at %d", err, w.point().Seq)
	}
	inbox, err := w.js.Stream(t.Context(), "epum_inbox")
	if err == nil {
		err = inbox.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := purge(25); err != nil {
		t.Errorf("no command waits: %v", err)
	}
}

// TestJob_FoldVersion: a snapshot of another version of the fold is made anew from the
// archive, and from nothing else.
func TestJob_FoldVersion(t *testing.T) {
	t.Parallel()
	w, dir, other := newWorld(t, 25), t.TempDir(), t.TempDir()
	w.happen(30)
	w.run(dir, 25, true)
	purged, err := w.js.KeyValue(t.Context(), "epum_purged")
	if err != nil {
		t.Fatal(err)
	}
	age := func() {
		t.Helper()
		e, err := purged.Get(t.Context(), "checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		old := bytes.ReplaceAll(e.Value(), fmt.Appendf(nil, `"fold_version":%d`, events.FoldVersion), []byte(`"fold_version":1`))
		old = bytes.ReplaceAll(old, fmt.Appendf(nil, `"snapshot":"v%d-`, events.FoldVersion), []byte(`"snapshot":"v1-`))
		if _, err := w.cell.Purged().Write(t.Context(), nil, old, e.Revision()); err != nil {
			t.Fatal(err)
		}
	}
	age()
	if _, err := w.job(other).Run(t.Context(), projections.Point{Seq: 29}, true); err == nil {
		t.Error("made anew from an archive that has not all")
	}
	w.run(dir, 25, true)
	w.check(dir)
	w.checkReplica()
	age()
	w.run(dir, 28, true)
	w.check(dir)
	// As is one that lacks a document.
	keys, err := purged.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if strings.Contains(k, "domain") {
			if err := purged.Purge(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	w.run(dir, 28, true)
	w.check(dir)
	w.checkReplica()
	// And one that has more.
	if _, err := purged.PutString(t.Context(), w.point().Snapshot+".domain.al.more", "{}"); err != nil {
		t.Fatal(err)
	}
	w.run(dir, 28, true)
	w.check(dir)
	w.checkReplica()
}

// TestJob_Forged: a message that takes the place of the purge point, as an answer that
// was sent there may, makes nobody take the log for a whole one. The archive puts it
// right.
func TestJob_Forged(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 26), t.TempDir()
	w.happen(40)
	w.run(dir, 30, true)
	w.happen(10)
	if _, err := w.js.Publish(t.Context(), "$KV.epum_purged.checkpoint", []byte(`{"seq":0}`)); err != nil {
		t.Fatal(err)
	}
	origin := projections.NewOrigin(w.cell.Purged())
	if p, err := origin.Point(t.Context(), w.end().Created); !errors.Is(err, projections.ErrForged) {
		t.Errorf("%+v, %v", p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := projections.NewReplica(w.log, w.cell.State(), w.cell.Purged(), quiet)
	_ = r.Run(ctx, func() { t.Error("a replica starts from it") })
	if _, err := w.job(t.TempDir()).Run(t.Context(), projections.Point{Seq: 45}, true); !errors.Is(err, projections.ErrForged) {
		t.Errorf("a new archive: %v", err)
	}
	w.run(dir, 20, true)
	w.check(dir)
	w.checkReplica()
	w.run(dir, 45, true)
	w.check(dir)
}
