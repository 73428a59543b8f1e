package archive_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestJob_Property archives and purges random histories again and again, up to random
// points: the fold of what is left is that of all, the archive and the log together have
// each event once, and no command id of the last two minutes is forgotten.
func TestJob_Property(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t, seed), filepath.Join(t.TempDir(), "archive")
			for range 5 {
				w.happen(20 + w.rand.IntN(60))
				upTo := uint64(w.rand.IntN(len(w.all))) + 1
				r := w.run(dir, upTo, w.rand.IntN(3) > 0)
				if r.Last < upTo || r.First > 1 {
					t.Fatalf("up to %d: %+v", upTo, r)
				}
				w.check(dir)
				w.checkReplica()
				w.checkJoined(dir)
			}
			// All of it: then the log has one event a key.
			w.run(dir, uint64(len(w.all)), true)
			w.check(dir)
			keys := map[events.Key]int{}
			for _, r := range w.left() {
				if keys[r.Key]++; keys[r.Key] > 1 {
					t.Errorf("%s has %d events left", r.Key, keys[r.Key])
				}
			}
			w.happen(10)
			w.check(dir)
			w.checkJoined(dir)
		})
	}
}

// checkJoined reads the archive and the log as one.
func (w *world) checkJoined(dir string) {
	w.t.Helper()
	all := w.joined(dir, projections.Query{})
	for n := range all {
		w.sameAs(&all[n])
	}
	if diff := cmp.Diff(seqs(w.all), seqs(all)); diff != "" {
		w.t.Fatal(diff)
	}
	keys := [][]events.Key{nil, {"domain.>"}, {events.LeaderKey, "instance.al.*.*"}, {events.AllDomains("b o"), "decision.*.*"}, {"nothing"}}
	for range 20 {
		some := keys[w.rand.IntN(len(keys))]
		from, to := w.rand.Uint64N(uint64(len(w.all)))+1, w.rand.Uint64N(uint64(len(w.all)))+1
		var want []uint64
		for _, r := range w.all {
			if r.Seq >= from && r.Seq <= to && (some == nil || matchesAny(some, r.Key)) {
				want = append(want, r.Seq)
			}
		}
		q := projections.Query{Keys: some, From: projections.Point{Seq: from}, To: projections.Point{Seq: to}}
		if w.rand.IntN(2) == 0 && from <= to {
			q.From, q.To = projections.Point{Time: w.all[from-1].Time}, projections.Point{Time: w.all[to-1].Time}
		}
		if got := w.joined(dir, q); fmt.Sprint(seqs(got)) != fmt.Sprint(want) {
			w.t.Fatalf("%+v: %v, want %v", q, seqs(got), want)
		}
	}
}

func matchesAny(patterns []events.Key, k events.Key) bool {
	for _, p := range patterns {
		want, got := strings.Split(string(p), "."), strings.Split(string(k), ".")
		for n := range want {
			if want[n] == ">" && n < len(got) || n == len(want)-1 && len(got) == len(want) && (want[n] == "*" || want[n] == got[n]) {
				return true
			}
			if n >= len(got) || want[n] != "*" && want[n] != got[n] {
				break
			}
		}
	}
	return false
}

var errKilled = errors.New("killed")

// TestJob_KilledAtEachStep ends an archive with a purge before each of its changes, of
// the directory and of the cell: nothing is lost at any of them, and the next one makes
// up for it.
func TestJob_KilledAtEachStep(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 7), t.TempDir()
	w.happen(20)
	seen := map[string]int{}
	steps := []string{"write", "remove", "create", "sync", "remove", "rename", "sync-directory", "remove", "snapshot", "purge", "tidy"}
	for round := range 4 * len(steps) {
		w.happen(1 + w.rand.IntN(12))
		upTo := uint64(len(w.all)) - uint64(w.rand.IntN(5))
		j, last, times, dead := w.job(dir), steps[round%len(steps)], round/len(steps)%3, false
		j.Step = func(what string) error {
			if what == last {
				dead = dead || times == 0
				times--
			}
			if dead {
				seen[what]++
				return errKilled
			}
			return nil
		}
		_, err := j.Run(t.Context(), projections.Point{Seq: upTo + 1}, true)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		w.check(dir)
		if round%4 == 3 { // else the next one finds what several have left
			w.run(dir, upTo, true)
			w.check(dir)
			w.checkReplica()
			w.checkJoined(dir)
		}
	}
	for _, what := range steps {
		if seen[what] == 0 {
			t.Errorf("never ended before %q: %v", what, seen)
		}
	}
}

// TestJob_MakesDirectory: a directory that an archive makes is on the disk for good, and
// so is each above it, before anything is in it.
func TestJob_MakesDirectory(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 9), filepath.Join(t.TempDir(), "backup", "epum")
	w.happen(5)
	var done []string
	j := w.job(dir + string(filepath.Separator))
	j.Step = func(what string) error {
		if done = append(done, what); len(done) == 3 {
			return errKilled
		}
		return nil
	}
	if _, err := j.Run(t.Context(), projections.Point{Seq: 4}, false); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if _, err := j.Run(t.Context(), projections.Point{Seq: 4}, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"make", "sync-parent", "make", "make", "sync-parent", "create"}, done[:6]); diff != "" {
		t.Error(diff)
	}
	w.check(dir)
}

func TestJob_FullDisk(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, 8), t.TempDir()
	w.happen(50)
	full := errors.New("no space left on device")
	for n := range 30 {
		j, writes := w.job(dir), 0
		j.Step = func(what string) error {
			if what == "write" {
				if writes++; writes > n/3 {
					return full
				}
			}
			return nil
		}
		if _, err := j.Run(t.Context(), projections.Point{Seq: uint64(len(w.all))}, true); err != nil && !errors.Is(err, full) {
			t.Fatal(err)
		}
		w.happen(rand.IntN(3))
		w.check(dir)
	}
	w.run(dir, uint64(len(w.all)), true)
	w.check(dir)
	w.checkReplica()
}
