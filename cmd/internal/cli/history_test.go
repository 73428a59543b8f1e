package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
)

// startEpum starts a service whose instances are only simulated, for a command line
// that has to work there.
func startEpum(t *testing.T) (epum func(line string) string) {
	t.Helper()
	nc := startServer(t)
	cfg, err := service.LoadConfig("", map[string]string{"nats.url": nc.ConnectedUrl(), "provisioner": "mock", "mock.delay": "5ms"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := service.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return func(line string) string {
		t.Helper()
		got := run(words(line)...)
		if got.Code != 0 {
			t.Fatalf("epum %s: %+v", line, got)
		}
		return got.Stdout
	}
}

// oneLife is a domain with a life behind it: of 2 instances, then 1.
func oneLife(t *testing.T, epum func(line string) string) (added, reconfigured string) {
	t.Helper()
	seq := regexp.MustCompile(`seq (\d+)`)
	epum("definition add web")
	added = seq.FindStringSubmatch(epum("domain add shop --definition web --set engine_conf.preserve_n=2"))[1]
	waitFor(t, "two run", func() bool { return strings.Contains(epum("domain describe shop"), "Instances    2: 2 600-RUNNING") })
	reconfigured = seq.FindStringSubmatch(epum("domain reconfigure shop --set engine_conf.preserve_n=1"))[1]
	waitFor(t, "one has ended", func() bool {
		return strings.Contains(epum("domain describe shop"), "Instances    2: 1 600-RUNNING, 1 800-TERMINATED")
	})
	return added, reconfigured
}

// TestHistory: what has happened, a line each, for people and for programs.
func TestHistory(t *testing.T) {
	epum := startEpum(t)
	added, reconfigured := oneLife(t, epum)
	lines := strings.Split(strings.TrimSpace(epum("history --domain shop")), "\n")
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +(\d+)  (\S+|its report) +(domain|decision|instance) alice/shop(/\S+)?  (.+)$`)
	var told []string
	for _, l := range lines {
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("a line is %q", l)
		}
		told = append(told, m[3]+" "+regexp.MustCompile(`event \d+`).ReplaceAllString(m[5], "event N"))
	}
	for n, want := range []string{
		`domain added from definition "web" (event N): engine_conf.preserve_n=2`,
		`decision simplest launches 2 instances: 0 of 2 wanted instances are there: launch 2`,
		`instance asked site ec2-east for small epu_work_consumer`,
	} {
		if told[n] != want {
			t.Errorf("line %d is %q, want %q", n, told[n], want)
		}
	}
	for _, want := range []string{"instance 600-RUNNING", "domain reconfigured: engine_conf.preserve_n=1", "instance asked to terminate", "instance 800-TERMINATED"} {
		if !strings.Contains(strings.Join(told, "\n"), want) {
			t.Errorf("%q is not told of in\n%s", want, strings.Join(told, "\n"))
		}
	}
	var seqs []uint64
	for l := range strings.Lines(epum("history --owner alice --type domain.added,domain.reconfigured -o json")) {
		r, err := events.DefaultPrefix.ParseCloudEvent([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, r.Seq)
	}
	if got, want := fmt.Sprint(seqs), "["+added+" "+reconfigured+"]"; got != want {
		t.Errorf("sequences %s, want %s", got, want)
	}
	if got := epum("history --since " + added + " --until " + added); strings.Count(got, "\n") != 1 || !strings.Contains(got, "domain alice/shop") {
		t.Errorf("of one event: %s", got)
	}
	if got := epum("history --definition web"); !strings.Contains(got, "definition web  definition added: nothing of its own") {
		t.Errorf("of a definition: %s", got)
	}
	epum("definition add alice")
	if got := epum("history --definition alice"); !strings.Contains(got, "  alice  ") || strings.Contains(got, "its report") {
		t.Errorf("of a definition that has its maker's name: %s", got)
	}
	if got := epum("history"); !strings.Contains(got, " leader  ") || !strings.Contains(got, "decide pass, 1 domains, 2 launched, 1 changed") {
		t.Errorf("of all: %s", got)
	}
	if got := epum("history --since 1h --type instance.reaped"); got != "" {
		t.Errorf("of what never was: %s", got)
	}
}

// TestHistory_Usage: what cannot be meant is refused.
func TestHistory_Usage(t *testing.T) {
	startServer(t)
	for line, says := range map[string]string{
		"history --type x":                              `--type "x" is none of definition.added`,
		"history --since yesterday":                     `"yesterday" is neither a time`,
		"history --follow --until 3":                    "follow until",
		"history --definition a --domain b":             "definition domain",
		"history --definition a --type instance.reaped": "--type names no event",
		"history --domain .":                            "--domain: ",
		"diff shop":                                     "--from",
		"explain":                                       "usage is: epum explain",
		"domain describe shop --as-of 0":                "is neither a time",
		"history --follow --since 2026-99-01T00":        "is neither a time",
	} {
		got := run(words(line)...)
		if got.Code != 2 || !strings.Contains(got.Stderr, says) {
			t.Errorf("epum %s: %+v, want %q", line, got, says)
		}
	}
	if got := run("history"); got.Code != 6 && got.Code != 1 || !strings.Contains(got.Stderr, "epum") {
		t.Errorf("where no epum ever ran: %+v", got)
	}
}

// TestHistory_Follow: what comes is told as it comes, until Ctrl-C.
func TestHistory_Follow(t *testing.T) {
	epum := startEpum(t)
	epum("definition add web")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr buffer
	done := make(chan int, 1)
	go func() {
		done <- cli.Execute(ctx, words("history --owner alice --follow --type domain.added,domain.removal_requested"), nil, &stdout, &stderr)
	}()
	epum("domain add shop --definition web --set engine_conf.preserve_n=0")
	waitFor(t, "the domain", func() bool { return strings.Contains(stdout.String(), "added from definition") })
	epum("domain remove shop")
	waitFor(t, "its removal", func() bool { return strings.Contains(stdout.String(), "to be removed") })
	cancel()
	if code := <-done; code != 0 || stderr.String() != "" || strings.Count(stdout.String(), "\n") != 2 {
		t.Errorf("exit code %d, %q, %q", code, stdout.String(), stderr.String())
	}
}

// TestHistory_Types: each event type is explained.
func TestHistory_Types(t *testing.T) {
	cleanEnvironment(t)
	text := run("history", "--types").Stdout
	var docs []events.TypeDoc
	if err := json.Unmarshal([]byte(run(words("history --types -o json")...).Stdout), &docs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events.Catalogue, docs); diff != "" {
		t.Error(diff)
	}
	for _, doc := range docs {
		if !strings.Contains(text, doc.Type+"\n  on event."+doc.Subject) || !strings.Contains(text, doc.Meaning) {
			t.Errorf("%s is not explained in\n%s", doc.Type, text)
		}
	}
}

// TestExplain: a domain, an instance, and neither.
func TestExplain(t *testing.T) {
	epum := startEpum(t)
	added, _ := oneLife(t, epum)
	got := epum("explain shop")
	for _, want := range []string{
		"Domain  shop", "Now     nothing is under way; the last decision on record", "all 1 wanted instances are running",
		"command      event " + added + ", alice, command ", "what  2 instances: asked site ec2-east for small epu_work_consumer",
		"why   0 of 2 wanted instances are there: launch 2", `saw   {"counts":{},"target":2}`, "after event " + added + ")",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	id := regexp.MustCompile(`(?m)^(\S+) +800-TERMINATED`).FindStringSubmatch(epum("domain describe shop"))[1]
	got = epum("explain " + id)
	for _, want := range []string{"Instance  " + id, "it ended, 800-TERMINATED since", "what  reconfigured: engine_conf.preserve_n=1", "what  asked to terminate"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	var told struct {
		Steps []struct{ Kind string }
	}
	if err := json.Unmarshal([]byte(epum("explain shop -o json --as-of "+added)), &told); err != nil || len(told.Steps) != 1 {
		t.Errorf("as of its beginning: %+v, %v", told, err)
	}
	if got := run("explain", "none"); got.Code != 3 || !strings.Contains(got.Stderr, `owner alice had neither a domain nor an instance "none"`) {
		t.Errorf("of nothing: %+v", got)
	}
}

// TestDescribe_AsOf: a domain as it was, and what has changed since.
func TestDescribe_AsOf(t *testing.T) {
	epum := startEpum(t)
	added, reconfigured := oneLife(t, epum)
	got := epum("domain describe shop --as-of " + added)
	if !strings.Contains(got, "Wanted       2") || !strings.Contains(got, "Instances    0") {
		t.Errorf("as of its beginning:\n%s", got)
	}
	for line, want := range map[string]result{
		"domain describe shop --as-of 1":       {Code: 3, Stderr: `you had no domain "shop" as of event 1`},
		"domain describe shop --as-of 1000000": {Code: 2, Stderr: "as_of is beyond the log: it ends at"},
		"diff shop --from 1 --to 1":            {Code: 3, Stderr: `you had no domain "shop" as of event 1`},
	} {
		if got := run(words(line)...); got.Code != want.Code || !strings.Contains(got.Stderr, want.Stderr) {
			t.Errorf("epum %s: %+v", line, got)
		}
	}
	got = epum("diff shop --from " + added)
	for _, want := range []string{
		`(?m)^From +event ` + added + ` `, `(?m)^config\.engine_conf\.preserve_n +2 +1$`, `(?m)^engine_state +PENDING_DE +STABLE_DE$`,
		`(?m)^instance_counts\.600-RUNNING +- +1$`, `(?m)^instances\.\S+\.state +- +600-RUNNING$`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	var diff struct {
		Owner   string
		From    *struct{ Seq uint64 }
		Changes []struct {
			Path     string
			From, To any
		}
	}
	line := "diff shop -o json --from 1 --to " + reconfigured
	if err := json.Unmarshal([]byte(epum(line)), &diff); err != nil || diff.Owner != "alice" || diff.From != nil || len(diff.Changes) < 10 {
		t.Errorf("epum %s: %+v, %v", line, diff, err)
	}
	for _, c := range diff.Changes {
		if c.From != nil {
			t.Errorf("%s was %v before it was there", c.Path, c.From)
		}
	}
}
