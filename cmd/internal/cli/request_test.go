package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What command lines become on the wire.
func TestCommands_Requests(t *testing.T) {
	f := startFake(t, map[string]func(string) string{
		"add_domain": always(`{"seq":7}`), "reconfigure_domain": always(`{"seq":7}`), "remove_domain": always(`{"seq":7}`),
		"subscribe_domain": always(`{"seq":7}`), "unsubscribe_domain": always(`{"seq":7}`),
		"add_domain_definition": always(`{"seq":7}`), "update_domain_definition": always(`{"seq":7}`),
		"remove_domain_definition": always(`{"seq":7}`),
		"run_pass":                 always(`{"pass":"decide","domains":2,"launched":3,"terminated":0,"changed":1,"errors":0,"seq":9,"duration_ms":12}`),
	})
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte("engine_conf:\n  preserve_n: 1 # one\n  big: 12345678901234567890\ngeneral:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, stdin, subject, body, says string }{
		{
			line:    "domain add shop --definition web",
			subject: "alice.add_domain", body: `{"domain_id":"shop","definition_id":"web","config":{}}`,
			says: `domain "shop" added (seq 7)`,
		},
		{
			line:    "domain add shop -d web --set engine_conf.preserve_n=3 --set general.note=three --set engine_conf.v={} --subscriber ops --subscriber-op x",
			subject: "alice.add_domain",
			body: `{"domain_id":"shop","definition_id":"web","subscriber_name":"ops","subscriber_op":"x",
				"config":{"engine_conf":{"preserve_n":3,"v":{}},"general":{"note":"three"}}}`,
			says: `domain "shop" added (seq 7)`,
		},
		{
			line:    "--as a@b.c domain reconfigure a.b --prefix cell --config " + file + " --set engine_conf.preserve_n=2 --set engine_conf.vars.x=a=b",
			subject: "a=40b=2Ec.reconfigure_domain",
			body:    `{"domain_id":"a.b","config":{"general":{},"engine_conf":{"preserve_n":2,"big":12345678901234567890,"vars":{"x":"a=b"}}}}`,
			says:    `domain "a.b" reconfigured (seq 7)`,
		},
		{
			line: "domain reconfigure shop -f -", stdin: `{"health": {"monitor_health": true}}`,
			subject: "alice.reconfigure_domain", body: `{"domain_id":"shop","config":{"health":{"monitor_health":true}}}`,
			says: `domain "shop" reconfigured (seq 7)`,
		},
		{
			line:    `domain reconfigure shop --set health.a\.b=null --set health.c="x" --set health.d=`,
			subject: "alice.reconfigure_domain", body: `{"domain_id":"shop","config":{"health":{"a.b":null,"c":"x","d":""}}}`,
			says: `domain "shop" reconfigured (seq 7)`,
		},
		{
			line:    "domain remove shop",
			subject: "alice.remove_domain", body: `{"domain_id":"shop"}`, says: `domain "shop" is being removed (seq 7)`,
		},
		{
			line:    "domain subscribe shop ops changed",
			subject: "alice.subscribe_domain", body: `{"domain_id":"shop","subscriber_name":"ops","subscriber_op":"changed"}`,
			says: `"ops" is subscribed to domain "shop" (seq 7)`,
		},
		{
			line:    "domain unsubscribe shop ops",
			subject: "alice.unsubscribe_domain", body: `{"domain_id":"shop","subscriber_name":"ops"}`,
			says: `"ops" is not subscribed to domain "shop" (seq 7)`,
		},
		{
			line: "definition add web -f -", stdin: "general: {engine_class: simplest}",
			subject: "alice.add_domain_definition", body: `{"definition_id":"web","definition":{"general":{"engine_class":"simplest"}}}`,
			says: `definition "web" added (seq 7)`,
		},
		{
			line:    "definition update web --set engine_conf.preserve_n=4",
			subject: "alice.update_domain_definition", body: `{"definition_id":"web","definition":{"engine_conf":{"preserve_n":4}}}`,
			says: `definition "web" updated (seq 7)`,
		},
		{
			line:    "definition remove web",
			subject: "alice.remove_domain_definition", body: `{"definition_id":"web"}`, says: `definition "web" removed (seq 7)`,
		},
		{
			line: "pass decide", subject: "alice.run_pass", body: `{"pass":"decide"}`,
			says: "PASS    DOMAINS  LAUNCHED  TERMINATED  CHANGED  ERRORS  SEQ  TOOK\n" +
				"decide  2        3         0           1        0       9    12 ms",
		},
	} {
		args := words(c.line)
		for n := range args {
			args[n] = strings.ReplaceAll(args[n], `"x"`, "x")
		}
		expect(t, c.line, runWith(c.stdin, args...), result{Stdout: c.says + "\n"})
		sent := f.taken()
		if len(sent) != 1 {
			t.Fatalf("%s: %d requests", c.line, len(sent))
		}
		_, subject, _ := strings.Cut(sent[0].Subject, ".cmd.")
		if subject != c.subject {
			t.Errorf("%s: sent to %s, want %s", c.line, subject, c.subject)
		}
		if (sent[0].CommandID == "") != strings.HasPrefix(c.line, "pass") {
			t.Errorf("%s: command id %q; writes have one", c.line, sent[0].CommandID)
		}
		if prefix := strings.Contains(c.line, "--prefix cell"); prefix != strings.HasPrefix(sent[0].Subject, "cell.cmd.") {
			t.Errorf("%s: sent to %s", c.line, sent[0].Subject)
		}
		sameJSON(t, sent[0].Body, c.body)
	}
	expect(t, "", run(words("domain remove shop --command-id again-1 -o json")...), result{Stdout: `{"seq":7}` + "\n"})
	if sent := f.taken(); sent[0].CommandID != "again-1" {
		t.Errorf("command id %q, want again-1", sent[0].CommandID)
	}
}

// The config's numbers reach the service as they were written.
func TestCommands_KeepNumbers(t *testing.T) {
	f := startFake(t, map[string]func(string) string{"add_domain_definition": always(`{"seq":1}`)})
	for _, stdin := range []string{"engine_conf:\n  big: 12345678901234567890123\n", `{"engine_conf": {"big": 12345678901234567890123}}`} {
		runWith(stdin, words("definition add web -f - --set engine_conf.one=1.0")...)
		for _, r := range f.taken() {
			const want = `{"definition_id":"web","definition":{"engine_conf":{"big":12345678901234567890123,"one":1.0}}}`
			if r.Body != want {
				t.Errorf("got %s, want %s", r.Body, want)
			}
		}
	}
}

func TestCommands_Environment(t *testing.T) {
	f := startFake(t, map[string]func(string) string{"list_domains": pages("domains", 10)})
	t.Setenv("EPUM_SERVER", f.url)
	t.Setenv("NATS_URL", "nats://127.0.0.1:1")
	t.Setenv("EPUM_AS", "bob")
	t.Setenv("EPUM_PREFIX", "cell-2")
	run("domain", "list")
	run("domain", "list", "--as", "carol", "--prefix", "x", "--server", f.url)
	t.Setenv("EPUM_AS", "")
	run("domain", "list")
	sent := f.taken()
	if len(sent) != 3 || sent[0].Subject != "cell-2.cmd.bob.list_domains" || sent[1].Subject != "x.cmd.carol.list_domains" ||
		!strings.HasPrefix(sent[2].Subject, "cell-2.cmd.") || strings.Contains(sent[2].Subject, ".-.") {
		t.Errorf("%+v", sent)
	}
}

func TestCommands_Paging(t *testing.T) {
	f := startFake(t, map[string]func(string) string{
		"list_domains":            pages("domains", 2, "a", "b", "c", "d", "e"),
		"list_domain_definitions": pages("definitions", 2),
	})
	for _, c := range []struct {
		line     string
		want     result
		requests int
	}{
		{"domain list", result{Stdout: "a\nb\nc\nd\ne\n"}, 3},
		{"domain list -o json", result{Stdout: `{"domains":["a","b","c","d","e"]}` + "\n"}, 3},
		{"domain list --after c", result{Stdout: "d\ne\n"}, 1},
		{"domain list --limit 3", result{Stdout: "a\nb\nc\n", Stderr: "epum: there are more; go on with --after \"c\"\n"}, 2},
		{"domain list --limit 3 -o json", result{Stdout: `{"domains":["a","b","c"],"next":"c"}` + "\n"}, 2},
		{"domain list --limit 1 -o json", result{Stdout: `{"domains":["a"],"next":"a"}` + "\n"}, 1},
		{"domain list --limit 5", result{Stdout: "a\nb\nc\nd\ne\n"}, 3},
		{"domain list --limit -1", result{Code: 2, Stderr: "epum: --limit -1 is below zero\n"}, 0},
		{"definition list", result{Stderr: "epum: no definitions\n"}, 1},
		{"definition list -o json", result{Stdout: `{"definitions":[]}` + "\n"}, 1},
	} {
		expect(t, c.line, run(words(c.line)...), c.want)
		if n := len(f.taken()); n != c.requests {
			t.Errorf("%s: %d requests, want %d", c.line, n, c.requests)
		}
	}
}
