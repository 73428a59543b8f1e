package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/engines/shadow"
	"github.com/seed-524e47bf/epum/events"
)

// TestArchive_History reads an archive and the log as one: behind any purge it says what
// history said before the first, and time travel to behind the purge point too.
func TestArchive_History(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	dir := filepath.Join(t.TempDir(), "archive")
	history := func(args ...string) string {
		t.Helper()
		out, err := e.program(append([]string{"history", "--as", "al"}, args...)...).Output()
		if err != nil {
			t.Fatalf("history %v: %v", args, err)
		}
		return string(out)
	}
	calls := 0
	more := func() {
		calls++
		name := fmt.Sprint("more", calls)
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(3 + calls%2)}, commands.AddDomain{DomainID: name, DefinitionID: "d", Config: preserve(0)})
		e.decide()
		e.do("al", commands.RemoveDomain{DomainID: name})
		e.decide()
		for _, i := range e.describe("al", "web").Instances {
			if i.State < events.Running {
				e.reportState("al", "web", i.InstanceID, events.Running)
			}
		}
	}
	more()
	e.archived(dir)
	more()
	queries := [][]string{{}, {"-o", "json", "--since", "7"}, {"--domain", "web"}, {"--definition", "d"}, {"--until", "20"}, {"--type", "decision.made", "--since", "9"}}
	end := e.eventStream().CachedInfo().State.LastSeq
	var before []string
	for _, q := range queries {
		before = append(before, history(q...))
	}
	then := map[uint64]string{}
	for seq := uint64(1); seq <= end; seq++ {
		if a := e.asOf("al", "web", fmt.Sprint(seq), 0); a.code == 200 {
			then[seq] = string(a.body)
		}
	}
	check := func(point uint64) {
		t.Helper()
		for n, q := range queries {
			args := append([]string{"--archive", dir}, q...)
			if !slices.Contains(q, "--until") {
				args = append(args, "--until", fmt.Sprint(end))
			}
			if diff := cmp.Diff(before[n], history(args...)); diff != "" {
				t.Errorf("%v: %s", q, diff)
			}
		}
		for seq, doc := range then {
			a := e.asOf("al", "web", fmt.Sprint(seq), 0)
			switch {
			case seq < point && (a.code != 400 || a.field != "as_of" || !contains(a.message, "archive")):
				t.Errorf("as of %d, purged up to %d: %+v", seq, point, a)
			case seq >= point && string(a.body) != doc:
				t.Errorf("as of %d, purged up to %d: %s", seq, point, cmp.Diff(doc, string(a.body)))
			}
		}
	}
	check(0)
	for _, point := range []uint64{10, end / 2, end} {
		point = e.purged(dir, point)
		check(point)
		more()
		check(point)
	}
	// What explains a domain begins at the purge point.
	first := e.describe("al", "web").Instances[0].InstanceID
	e.archived(dir, "--purge")
	// Of what is in the archive alone nobody says that it was not there.
	for _, args := range [][]string{{"explain", "web", "--as-of", "3"}, {"explain", first, "--as-of", "3"}, {"diff", "web", "--from", "3"}} {
		out, err := e.program(append(args, "--as", "al")...).CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !contains(string(out), "archive only") {
			t.Errorf("%v of what was purged: %v: %s", args, err, out)
		}
	}
	more()
	var story struct{ Steps []json.RawMessage }
	if a := e.ask("al", "explain", `{"domain_id":"web"}`); a.code != 200 || json.Unmarshal(a.body, &story) != nil || len(story.Steps) == 0 {
		t.Errorf("explain: %+v", a)
	}
	// A log that was purged says so where it is read without its archive.
	cmd := e.program("history")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || !contains(said.String(), "--archive") {
		t.Errorf("%v: %s", err, &said)
	}
	out, err := e.program("history", "--archive", t.TempDir()).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !contains(string(out), "no archive") {
		t.Errorf("no archive: %v: %s", err, out)
	}
}

// TestArchive_WhatIf asks what if of a domain whose beginning was purged: a backtest and a
// shadow begin with what it was then.
func TestArchive_WhatIf(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	dir := filepath.Join(t.TempDir(), "archive")
	e.reproduces("al", "web")
	e.archived(dir, "--purge")
	for n := range 3 {
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(5 + n)})
		e.decide()
		e.reproduces("al", "web")
	}
	there := 0
	for _, i := range e.describe("al", "web").Instances {
		if i.State < events.Terminating {
			there++
		}
	}
	s := e.shadow("al", "web", preserve(there+2))
	seen := s.next(t, func(_ *shadow.Record, saw *passes.Saw) bool { return saw.Target == there+2 })
	if saw, err := passes.DecodeSaw(seen.Saw); err != nil || saw.DryRun == nil || len(saw.DryRun.Launches) != 2 {
		t.Errorf("with %d instances it saw %s, %v", there, seen.Saw, err)
	}
	s.stop(t)
	for _, tt := range []struct {
		code int
		says string
		args []string
	}{
		{0, "purged from the log: the range begins there", nil},
		{0, "simulated", []string{"--set", "engine_conf.preserve_n=2"}},
		{3, "leave --from away", []string{"--from", "3"}},
	} {
		out, err := e.program(append([]string{"backtest", "--as", "al", "--domain", "web"}, tt.args...)...).CombinedOutput()
		exit, failed := errors.AsType[*exec.ExitError](err)
		if failed && exit.ExitCode() != tt.code || !failed && tt.code != 0 || !contains(string(out), tt.says) {
			t.Errorf("%v: %v: %s", tt.args, err, out)
		}
	}
}

// purged purges up to an event, or the last whole batch before it, and gives the purge
// point.
func (e *epum) purged(dir string, upTo uint64) uint64 {
	e.t.Helper()
	out, err := e.program("archive", "--purge", "--to", dir, "--before", fmt.Sprint(upTo+1), "-o", "json").Output()
	var result struct {
		Point uint64 `json:"purge_point"`
	}
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	if err != nil || result.Point > upTo {
		e.t.Fatalf("purge up to %d: %s: %v", upTo, out, err)
	}
	return result.Point
}

// TestArchive_Verify verifies and rebuilds a log that was purged, up to every kind of
// event: there is nothing to find, and what a purge did not do is found.
func TestArchive_Verify(t *testing.T) {
	t.Parallel()
	e := busyDomain(t)
	dir := t.TempDir()
	verify := func(where string, code int) string {
		t.Helper()
		out, err := e.program("verify").CombinedOutput()
		if exit, failed := errors.AsType[*exec.ExitError](err); failed && exit.ExitCode() != code || !failed && code != 0 {
			t.Errorf("%s: %v: %s", where, err, out)
		}
		return string(out)
	}
	e.projected()
	verify("whole", 0)
	last, end := uint64(0), e.eventStream().CachedInfo().State.LastSeq
	for upTo := uint64(1); upTo <= end; upTo++ {
		point := e.purged(dir, upTo)
		if point > last {
			verify(fmt.Sprintf("purged up to %d", point), 0)
		}
		last = point
	}
	if last != end {
		t.Fatalf("it was purged up to %d of %d", last, end)
	}
	e.rebuild() // of a log in which nothing comes after the snapshot
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(6)})
	e.decide()
	e.projected()
	if said := verify("behind it", 0); !contains(said, "were purged") {
		t.Errorf("%s", said)
	}
	if err := e.js.DeleteKeyValue(e.ctx(), "epum_state"); err != nil {
		t.Fatal(err)
	}
	e.projected()
	verify("a bucket made anew", 0)
	before := e.documents()
	if out, err := e.program("rebuild").CombinedOutput(); err != nil {
		t.Errorf("rebuild: %v: %s", err, out)
	}
	e.projected()
	if diff := cmp.Diff(before, e.documents()); diff != "" {
		t.Errorf("rebuilt: %s", diff)
	}
	verify("rebuilt", 0)
	// An event that is gone though nothing was purged up to there.
	keys := map[events.Key]int{}
	for _, l := range e.log() {
		if l.seq > last {
			keys[l.key]++
		}
	}
	for key, n := range keys {
		if n > 1 || key == events.PassKey {
			if err := e.eventStream().Purge(e.ctx(), natsjs.WithPurgeSubject(e.prefix.Event(key))); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	verify("an event is gone", 1)
}
