package tests

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// program is a run of the client against a cell.
func (e *epum) program(args ...string) *exec.Cmd {
	e.t.Helper()
	path, err := binary()
	if err != nil {
		e.t.Fatal(err)
	}
	return exec.Command(path, append([]string{"--server", e.url, "--prefix", string(e.prefix)}, args...)...)
}

// archived runs `epum archive` over the whole log; it has to work.
func (e *epum) archived(dir string, more ...string) {
	e.t.Helper()
	info, err := e.eventStream().Info(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	args := append([]string{"archive", "--to", dir, "--before", strconv.FormatUint(info.State.LastSeq+1, 10)}, more...)
	if out, err := e.program(args...).CombinedOutput(); err != nil {
		e.t.Fatalf("epum %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// archivedEvents reads an archive by its description alone: the manifest, its checksums,
// and a CloudEvent a line.
func archivedEvents(t *testing.T, dir string) map[uint64]string {
	t.Helper()
	var manifest struct {
		Files []struct {
			Name        string
			First, Last uint64
			SHA256      string
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint64]string{}
	for _, f := range manifest.Files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Fatalf("%s: its SHA-256 is not the manifest's", f.Name)
		}
		zip, err := zstd.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		lines, next := bufio.NewScanner(zip), f.First
		lines.Buffer(nil, 4<<20)
		for ; lines.Scan(); next++ {
			r, err := events.DefaultPrefix.ParseCloudEvent(lines.Bytes())
			if err != nil || r.Seq != next {
				t.Fatalf("%s: event %d where %d is due: %v", f.Name, r.Seq, next, err)
			}
			all[r.Seq] = lines.Text()
		}
		zip.Close()
		if lines.Err() != nil || next != f.Last+1 {
			t.Fatalf("%s ends before event %d: %v", f.Name, next, lines.Err())
		}
	}
	return all
}

// recorded gives the log as it is now, by sequence.
func (e *epum) recorded() map[uint64]string {
	e.t.Helper()
	all := map[uint64]string{}
	for _, l := range e.log() {
		r := e.prefix.Record(e.prefix.Event(l.key), l.seq, l.time.UTC(), l.header, l.body)
		all[l.seq] = string(r.AppendCloudEvent(nil))
	}
	return all
}

// TestArchive_Life archives and purges the whole log of a service at work, and deletes
// its state bucket: nobody notices, neither the processes that run nor new ones.
func TestArchive_Life(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	dir := filepath.Join(t.TempDir(), "archive")
	e.do("al", subscribe("s", "op"), commands.AddDefinition{DefinitionID: "gone"}, commands.RemoveDefinition{DefinitionID: "gone"},
		commands.AddDomain{DomainID: "old", DefinitionID: "d", Config: preserve(0)}, commands.RemoveDomain{DomainID: "old"})
	e.decide()
	first := e.askID("al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":5}}}`, "five")
	left := e.leave("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(4)})
	outcome := e.outcome("al", left)
	e.projected()
	whole, before := e.recorded(), e.describe("al", "web")
	documents := e.documents()

	e.archived(dir, "--purge")
	kept := e.recorded()
	if len(kept) >= len(whole)/2 {
		t.Errorf("%d of %d events are left", len(kept), len(whole))
	}
	for seq, text := range archivedEvents(t, dir) {
		if whole[seq] != text || kept[seq] != "" && kept[seq] != text {
			t.Errorf("event %d is %s in the archive, was %s, is %s", seq, text, whole[seq], kept[seq])
		}
		delete(whole, seq)
	}
	if len(whole) > 0 {
		t.Errorf("not in the archive: %v", whole)
	}
	works := func(where string, n int) {
		t.Helper()
		now := e.describe("al", "web")
		now.AsOf = before.AsOf
		if diff := cmp.Diff(before, now); diff != "" {
			t.Errorf("%s: %s", where, diff)
		}
		if again := e.askID("al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":5}}}`, "five"); again.seq != first.seq || again.code != 200 {
			t.Errorf("%s: a repeat is %+v, want %+v", where, again, first)
		}
		e.refused("al", commands.AddDomain{DomainID: "web", DefinitionID: "d"}, commands.ErrWriteConflict)
		e.refused("al", commands.RemoveDefinition{DefinitionID: "gone"}, commands.ErrNotFound)
		if n > 0 {
			return
		}
		if r := e.outcome("al", left); r.Seq != outcome.Seq {
			t.Errorf("%s: the outcome is %+v, was %+v", where, r, outcome)
		}
	}
	works("behind the purge", 0)
	for n := range 3 {
		e.stopAll()
		if err := e.js.DeleteKeyValue(e.ctx(), "epum_state"); err != nil {
			t.Fatal(err)
		}
		e.process()
		works("anew", n)
		e.projected()
		now := e.documents()
		delete(now, events.LeaderKey)
		delete(documents, events.LeaderKey)
		if diff := cmp.Diff(documents, now); diff != "" {
			t.Errorf("the bucket made anew: %s", diff)
		}
		e.archived(dir, "--purge")
	}
	// Names that were removed before are guarded by what is left of them, and
	// subscribers are told by what was purged.
	e.do("al", commands.AddDefinition{DefinitionID: "gone"}, commands.AddDomain{DomainID: "old", DefinitionID: "d", Config: preserve(0)})
	told := len(e.notifications())
	for _, i := range before.Instances {
		if i.State < events.Running {
			e.reportState("al", "web", i.InstanceID, events.Running)
			told++
		}
	}
	e.told(told)
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(1)}, commands.RemoveDomain{DomainID: "old"})
	e.decide()
	e.archived(dir, "--purge")
	if n := len(archivedEvents(t, dir)); n != int(e.eventStream().CachedInfo().State.LastSeq) {
		t.Errorf("%d events in the archive", n)
	}
}

// TestArchive_Killed kills 'epum archive --purge' again and again with -9, and one time
// in four with Ctrl-C, while a service writes: each event is in the archive or in the log.
func TestArchive_Killed(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven, func(c *service.Config) { c.DeciderLoopInterval = 50 * time.Millisecond })
	dir := t.TempDir()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3)})
	whole, mu := map[uint64]string{}, sync.Mutex{}
	reader, log := e.writer("reader")
	go func() {
		_ = log.History(t.Context(), projections.Query{Follow: true}, func(r *events.Recorded) error {
			mu.Lock()
			defer mu.Unlock()
			whole[r.Seq] = string(r.AppendCloudEvent(nil))
			return nil
		})
	}()
	killed, interrupted, ended := 0, 0, 0
	took := time.Minute // of one that nobody kills
	for round := range 40 {
		for n := range 20 {
			e.do("al", commands.UpdateDefinition{DefinitionID: "d", Definition: preserve(round*100 + n)}, commands.AddDefinition{DefinitionID: fmt.Sprint("d", round, n)},
				commands.SubscribeDomain{DomainID: "web", SubscriberName: fmt.Sprint("s", n), SubscriberOp: fmt.Sprint(round)})
		}
		cmd := e.program("archive", "--purge", "--to", dir, "--before", fmt.Sprint(reader.Applied()+1))
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sig := syscall.SIGKILL
		if round%4 == 0 {
			sig = syscall.SIGINT
		}
		began := time.Now()
		timer := time.AfterFunc(rand.N(took)*5/4, func() { _ = cmd.Process.Signal(sig) })
		err := cmd.Wait()
		if timer.Stop() {
			took = min(took, time.Since(began))
		}
		exit, failed := errors.AsType[*exec.ExitError](err)
		switch {
		case !failed:
			ended++
		case exit.ExitCode() == 130:
			interrupted++
		case exit.ExitCode() == -1: // by a signal
			killed++
		default:
			t.Fatalf("exit code %d: %s", exit.ExitCode(), &said)
		}
	}
	t.Logf("%d killed, %d interrupted, %d ended, in %s", killed, interrupted, ended, took)
	if killed == 0 || ended == 0 {
		t.Error("all were killed, or none")
	}
	e.stopAll()
	last := e.eventStream().CachedInfo().State.LastSeq
	eventually(t, "all is read", func() bool { mu.Lock(); defer mu.Unlock(); return len(whole) == int(last) })
	e.archived(dir, "--purge")
	archived := archivedEvents(t, dir)
	mu.Lock()
	if diff := cmp.Diff(whole, archived); diff != "" {
		t.Error(diff)
	}
	state := events.NewState()
	for seq := range last {
		r, err := e.prefix.ParseCloudEvent([]byte(whole[seq+1]))
		if err != nil {
			t.Fatal(err)
		}
		events.Apply(state, r.Envelope, r.Event)
	}
	mu.Unlock()
	want := map[events.Key]string{}
	for k, d := range state.Documents() {
		want[k] = string(d.AppendJSON(nil))
	}
	got := map[events.Key]string{}
	if err := e.js.DeleteKeyValue(e.ctx(), "epum_state"); err != nil {
		t.Fatal(err)
	}
	fresh, _ := e.writer("fresh")
	fresh.View(func(s *events.State) {
		for k, d := range s.Documents() {
			got[k] = string(d.AppendJSON(nil))
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the fold of what is left: %s", diff)
	}
}

// TestArchive_FullDisk archives to a disk that is full, and then no longer.
func TestArchive_FullDisk(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	disk := newDisk(t)
	random := make([]byte, 60<<10)
	for n := range 40 {
		for i := range random {
			random[i] = "0123456789abcdef"[rand.IntN(16)]
		}
		e.do("al", commands.AddDefinition{DefinitionID: fmt.Sprint("d", n), Definition: events.Config{General: fmt.Appendf(nil, `{"chef_credential":%q}`, random)}})
	}
	dir := filepath.Join(disk.dir, "archive")
	before := e.recorded()
	disk.fill()
	out, err := e.program("archive", "--purge", "--to", dir, "--before", "41").CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !contains(string(out), "no space left on device") {
		t.Errorf("full: %v: %s", err, out)
	}
	if diff := cmp.Diff(before, e.recorded()); diff != "" {
		t.Errorf("purged: %s", diff)
	}
	disk.free()
	e.archived(dir, "--purge")
	left, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if diff := cmp.Diff(before, archivedEvents(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestArchive_Refused has what the command refuses, and what it says.
func TestArchive_Refused(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	dir := t.TempDir()
	for _, tt := range []struct {
		code int
		says string
		args []string
	}{
		{2, "--before", []string{"archive", "--to", dir}},
		{2, "--to", []string{"archive", "--before", "1h"}},
		{2, "neither a time", []string{"archive", "--to", dir, "--before", "yesterday"}},
		{1, "not a directory", []string{"archive", "--to", "/dev/null/x", "--before", "2"}},
		{0, "nothing is as old", []string{"archive", "--to", dir, "--before", "1h"}},
		{0, "events 1 to 1 in 1 file", []string{"archive", "--to", dir, "--before", "2"}},
	} {
		out, err := e.program(tt.args...).CombinedOutput()
		exit, failed := errors.AsType[*exec.ExitError](err)
		if code := 0; failed && exit.ExitCode() != tt.code || !failed && code != tt.code || !contains(string(out), tt.says) {
			t.Errorf("%v: %v: %s", tt.args, err, out)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "[^.]*")); len(names) != 2 || !slices.ContainsFunc(names, func(n string) bool {
		return filepath.Base(n) == "events-00000000000000000001-00000000000000000001.jsonl.zst"
	}) {
		t.Errorf("%v", names)
	}
}
