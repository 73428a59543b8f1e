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

	"github.com/seed-524e47bf/epum/commands"
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
			case seq < point && (a.code != 404 || !contains(a.message, "archive")):
				t.Errorf("as of %d, purged up to %d: %+v", seq, point, a)
			case seq >= point && string(a.body) != doc:
				t.Errorf("as of %d, purged up to %d: %s", seq, point, cmp.Diff(doc, string(a.body)))
			}
		}
	}
	check(0)
	for _, point := range []uint64{10, end / 2, end} {
		if out, err := e.program("archive", "--purge", "--to", dir, "--before", fmt.Sprint(point+1)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		check(point)
		more()
		check(point)
	}
	// What explains a domain begins at the purge point.
	e.archived(dir, "--purge")
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
