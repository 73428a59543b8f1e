package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
)

func TestExitCodes_Service(t *testing.T) {
	for code, want := range map[string]result{
		"!400": {2, "", "epum: it went wrong\n"},
		"!403": {5, "", "epum: it went wrong\n"},
		"!404": {3, "", "epum: domain \"shop\" not found for owner alice; see 'epum domain list'\n"},
		"!409": {4, "", "epum: it went wrong\n"},
		"!413": {2, "", "epum: it went wrong\n"},
		"!500": {1, "", "epum: it went wrong\n"},
	} {
		startFake(t, map[string]func(string) string{"describe_domain": always(code), "remove_domain": always(code)})
		expect(t, code, run("domain", "describe", "shop"), want)
		expect(t, code, run("domain", "remove", "shop"), want)
	}
}

func TestExitCodes_NotFoundDefinition(t *testing.T) {
	startFake(t, map[string]func(string) string{"describe_domain_definition": always("!404")})
	expect(t, "", run("definition", "describe", "web"), result{3, "", "epum: definition \"web\" not found; see 'epum definition list'\n"})
}

// Of a write without an answer nobody knows whether it happened.
func TestExitCodes_Unavailable(t *testing.T) {
	startFake(t, map[string]func(string) string{"status": always("!503"), "reconfigure_domain": always("!503")})
	expect(t, "503", run("status"), result{6, "", "epum: it went wrong\n"})
	expect(t, "503", run(words("domain reconfigure shop --set health.a=1 --timeout 100ms --command-id c1")...),
		result{6, "", "epum: it went wrong; to repeat it safely add --command-id c1\n"})
	expect(t, "silence", run(words("domain list --timeout 100ms")...), result{6, "", "epum: no answer to list_domains within 100ms\n"})
	expect(t, "silence", run(words("domain remove shop --timeout 100ms --command-id c1")...),
		result{6, "", "epum: no answer to remove_domain within 100ms; to repeat it safely add --command-id c1\n"})
}

func TestExitCodes_NobodyThere(t *testing.T) {
	nc := startServer(t)
	for _, line := range []string{"status", "domain remove shop", "pass reap"} {
		expect(t, line, run(words(line)...),
			result{6, "", "epum: no epum service answers on " + nc.ConnectedUrl() + "; start one with 'epum serve'\n"})
	}
	expect(t, "watch", run("domain", "watch", "shop"),
		result{6, "", "epum: no epum service has ever run on " + nc.ConnectedUrl() + "; start one with 'epum serve'\n"})
	expect(t, "no server", run("domain", "list", "--server", "nats://alice:secret@127.0.0.1:1"),
		result{6, "", "epum: nothing answers at nats://127.0.0.1:1; start it with 'epum serve', or name another --server\n"})
}

func TestExitCodes_Interrupted(t *testing.T) {
	f := startFake(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	done := make(chan int)
	go func() { done <- cli.Execute(ctx, []string{"domain", "list"}, nil, &stdout, &stderr) }()
	waitFor(t, "the request", func() bool { return len(f.taken()) > 0 })
	cancel()
	if code := <-done; code != 130 || stderr.String() != "epum: interrupted\n" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestExitCodes_Usage(t *testing.T) {
	cleanEnvironment(t)
	t.Setenv("NATS_URL", "nats://127.0.0.1:1") // usage is looked at before the server is
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("engine_conf:\n  1: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"dmain":                     `unknown command "dmain" for "epum" (did you mean "domain"?); see 'epum --help'`,
		"domain lst":                `unknown command "lst" for "epum domain" (did you mean "list"?); see 'epum domain --help'`,
		"domain add":                `wrong number of arguments (0), the usage is: epum domain add NAME --definition DEFINITION; see 'epum domain add --help'`,
		"domain add shop":           `say what the domain is made from with --definition; see 'epum definition list'`,
		"domain add shop -d":        `flag needs an argument: 'd' in -d; see 'epum domain add --help'`,
		"domain list --nope":        `unknown flag: --nope; see 'epum domain list --help'`,
		"domain list extra":         `wrong number of arguments (1), the usage is: epum domain list; see 'epum domain list --help'`,
		"domain list -o xml":        `--output "xml" is neither table nor json`,
		"domain list --timeout 0s":  `--timeout 0s is not above zero`,
		"domain list --prefix a.b":  `--prefix "a.b" is no word of A-Z a-z 0-9 _ -`,
		"domain list --as ..":       `owner "..": events: bad name: ".." is reserved; say who you are with --as`,
		"domain list --creds /nope": `credentials: stat /nope: no such file or directory`,
		"domain reconfigure shop":   `say what to change with --set or --config`,
		"domain watch ..":           `domain "..": events: bad name: ".." is reserved`,
		"definition update web":     `say what is in the definition with --config or --set`,
		"definition add web --set preserve_n=3": `--set preserve_n=3: write it as SECTION.KEY=VALUE, for example ` +
			`engine_conf.preserve_n=3`,
		"definition add web --set engine.n=3":                    `--set engine.n=3: there is no section "engine"; the sections are general, engine_conf and health`,
		"definition add web --set health.a=1 --set health.a.b=1": `--set health.a.b=1: what is above b is no object`,
		"definition add web -f /nope":                            `read the config: open /nope: no such file or directory`,
		"definition add web -f " + bad:                           bad + `: line 2: the key 1 must be a string (merges are not supported); write it in quotes`,
		"definition add web -f -":                                `stdin: it must have the sections general, engine_conf and health`,
		"pass tidy":                                              `"tidy" is none of decide, doctor, reap; see 'epum pass --help'`,
		"completion tcsh":                                        `"tcsh" is none of bash, zsh, fish, powershell; see 'epum completion --help'`,
		"serve --server x":                                       `serve takes no --server; its own flags are in 'epum serve --help', for example --nats.url`,
		"serve --nats.uri x":                                     `unknown flag: --nats.uri; see 'epum serve --help'`,
		"serve --lease_ttl 0.5": `config: lease_ttl "0.5" (--lease_ttl) must be a duration of whole seconds, at least 1s, ` +
			`such as 1m30s, or a plain number of seconds`,
		"serve --config /nope": `config: open /nope: no such file or directory`,
		"agent --site ..": `config: agent.site ".." (--site) must be a name of 1 to 128 bytes with no control characters: ` +
			`".." is reserved`,
		"agent --heartbeat_interval 0": `config: agent.heartbeat_interval "0" (--heartbeat_interval) ` +
			`must be a duration above zero, such as 1m30s, or a plain number of seconds`,
		"agent --types /nope": `agent: types: open /nope: no such file or directory`,
	} {
		expect(t, line, runWith("[1, 2]", words(line)...), result{2, "", "epum: " + want + "\n"})
	}
	got := run(words("domain add shop -d web --subscriber ops")...)
	if got.Code != 2 || !strings.Contains(got.Stderr, "subscriber-op") || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

// A server that refuses is told apart from one that does not answer.
func TestExitCodes_NotPermitted(t *testing.T) {
	cleanEnvironment(t)
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Users: []*server.User{{
		Username: "alice", Password: "secret",
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"epum.cmd.alice.>"}}},
	}}}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(5 * time.Second) {
		t.Fatal("the server is not ready")
	}
	address := strings.TrimPrefix(s.ClientURL(), "nats://")
	got := run("domain", "list", "--server", "nats://alice:wrong@"+address)
	expect(t, "", got, result{5, "", "epum: the server at nats://" + address + " refuses these credentials; see --creds\n"})

	start := time.Now()
	got = run("domain", "list", "--as", "bob", "--server", "nats://alice:secret@"+address)
	if got.Code != 5 || !strings.HasPrefix(got.Stderr, "epum: NATS does not permit this for owner bob: ") || time.Since(start) > 5*time.Second {
		t.Errorf("%+v after %s", got, time.Since(start))
	}
}
