package cli_test

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
)

// watchShop runs a watch until the test has seen enough.
func watchShop(t *testing.T, args ...string) (stdout, stderr *buffer, stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr = &buffer{}, &buffer{}
	done := make(chan int, 1)
	go func() {
		done <- cli.Execute(ctx, append([]string{"domain", "watch", "shop"}, args...), nil, stdout, stderr)
	}()
	t.Cleanup(cancel)
	return stdout, stderr, func() int {
		cancel()
		return <-done
	}
}

const (
	domainV1   = `{"name":"shop","owner":"alice","definition_id":"web","config":{},"subscribers":[],"removed":false,"added_seq":4,"config_seq":4,"seq":4}`
	instanceV1 = `{"instance_id":"0198-a","state":"100-REQUESTING","state_time":"2026-01-01T00:00:00Z","health":"UNKNOWN","errors":[],"seq":5}`
)

func TestDomain_Watch(t *testing.T) {
	f := startFake(t, nil)
	kv := putState(t, f, "domain.alice.shop", domainV1, "instance.alice.shop.0198-a", instanceV1,
		"domain.alice.other", domainV1, "domain.bob.shop", domainV1, "instance.alice.other.x", instanceV1)
	stdout, stderr, stop := watchShop(t)
	waitFor(t, "what is there", func() bool { return strings.Count(stdout.String(), "\n") == 2 })
	lines := 2
	for _, change := range []struct{ key, document string }{
		{"instance.alice.shop.0198-a", strings.NewReplacer("100-REQUESTING", "600-RUNNING", `"seq"`, `"pid":12,"seq"`).Replace(instanceV1)},
		{"domain.alice.shop", domainV1}, // written anew: no change
		{"domain.alice.shop", strings.Replace(domainV1, `"config_seq":4`, `"config_seq":6`, 1)},
		{"decision.alice.shop", `{"domain":"shop","owner":"alice","domain_seq":4,"reason":"1 of 3 are there: launch 2","engine_state":"PENDING_DE","seq":7}`},
		{"instance.alice.shop.0198-a", strings.NewReplacer("100-REQUESTING", "900-FAILED", `"seq"`, `"exit_code":3,"seq"`).Replace(instanceV1)},
		{"domain.alice.shop", strings.Replace(domainV1, "[]", `[{"subscriber_name":"a","subscriber_op":"b"}]`, 1)},
		{"domain.alice.shop", strings.Replace(domainV1, `"removed":false`, `"removed":true`, 1)},
		{"domain.alice.shop", "{"},
		{"domain.alice.other", "{}"},
	} {
		if _, err := kv.PutString(t.Context(), change.key, change.document); err != nil {
			t.Fatal(err)
		}
		if change.document == domainV1 || change.key == "domain.alice.other" {
			continue // nothing to tell
		}
		// The bucket keeps only the last: what is overwritten at once may never be seen.
		lines++
		waitFor(t, "the change", func() bool { return strings.Count(stdout.String(), "\n") == lines })
	}
	if err := kv.Purge(t.Context(), "instance.alice.shop.0198-a"); err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "domain.alice.shop"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the last change", func() bool { return strings.Count(stdout.String(), "gone\n") == 2 })
	if code := stop(); code != 0 || stderr.String() != "" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	times := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  `)
	pad := func(s string) string { return s + strings.Repeat(" ", 38-len(s)) }
	want := strings.Join([]string{
		"domain    " + pad("shop") + "definition web",
		"instance  " + pad("0198-a") + "100-REQUESTING  UNKNOWN",
		"instance  " + pad("0198-a") + "600-RUNNING  UNKNOWN  pid 12",
		"domain    " + pad("shop") + "reconfigured",
		"decision  " + pad("shop") + "PENDING_DE  1 of 3 are there: launch 2",
		"instance  " + pad("0198-a") + "900-FAILED  UNKNOWN  exit code 3",
		"domain    " + pad("shop") + "reconfigured",
		"domain    " + pad("shop") + "is being removed",
		"domain    " + pad("shop") + "a document that this program cannot read: unexpected end of JSON input",
		"instance  " + pad("0198-a") + "gone",
		"domain    " + pad("shop") + "gone",
		"",
	}, "\n")
	if d := cmp.Diff(want, times.ReplaceAllString(stdout.String(), "")); d != "" {
		t.Error(d)
	}
}

func TestDomain_WatchJSON(t *testing.T) {
	f := startFake(t, nil)
	kv := putState(t, f)
	stdout, stderr, stop := watchShop(t, "-o", "json")
	waitFor(t, "the note", func() bool {
		return stderr.String() == "epum: owner alice has no domain \"shop\" yet; waiting for it\n"
	})
	if _, err := kv.PutString(t.Context(), "instance.alice.shop.0198-a", instanceV1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a line", func() bool { return strings.Count(stdout.String(), "\n") == 1 })
	if err := kv.Purge(t.Context(), "instance.alice.shop.0198-a"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "two lines", func() bool { return strings.Count(stdout.String(), "\n") == 2 })
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(stdout.String(), "\n")
	for n, want := range []string{
		`{"kind":"instance","id":"0198-a","operation":"put","document":` + instanceV1 + `}`,
		`{"kind":"instance","id":"0198-a","operation":"delete"}`,
	} {
		var line map[string]json.RawMessage
		if err := json.Unmarshal([]byte(lines[n]), &line); err != nil || len(line["time"]) == 0 {
			t.Fatalf("%q: %v", lines[n], err)
		}
		delete(line, "time")
		got, _ := json.Marshal(line)
		sameJSON(t, string(got), want)
	}
}
