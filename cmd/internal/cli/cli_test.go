package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
	"github.com/seed-524e47bf/epum/cmd/service"
)

// commandPaths finds every command by walking through the help, as a person would.
func commandPaths(t *testing.T, path ...string) [][]string {
	t.Helper()
	help := run(append(path, "--help")...)
	if help.Code != 0 || help.Stderr != "" {
		t.Fatalf("%v --help: %+v", path, help)
	}
	found := [][]string{path}
	_, list, ok := strings.Cut(help.Stdout, "Available Commands:\n")
	if !ok {
		return found
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)  +\S`).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			found = append(found, commandPaths(t, append(append([]string{}, path...), m[1])...)...)
		}
	}
	return found
}

// Every command says what it is, at length, and with an example that names it.
func TestHelp(t *testing.T) {
	paths := commandPaths(t)
	if len(paths) < 20 {
		t.Errorf("%d commands: %v", len(paths), paths)
	}
	for _, path := range paths {
		help := run(append(path, "--help")...).Stdout
		long, rest, _ := strings.Cut(help, "Usage:")
		_, examples, _ := strings.Cut(rest, "Examples:\n")
		if len(long) < 40 || !strings.Contains(examples, strings.Join(append([]string{"epum"}, path...), " ")) {
			t.Errorf("%v: its help has no text or no example:\n%s", path, help)
		}
	}
	root := run().Stdout
	for _, code := range []string{"  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  5 ", "  6 ", "  130 "} {
		if !strings.Contains(root, "\n"+code) {
			t.Errorf("the help does not say what exit code %s means", code)
		}
	}
	serve := run("serve", "--help").Stdout
	for _, key := range service.Keys {
		if !strings.Contains(serve, " --"+key.Name+" ") {
			t.Errorf("serve's help does not have --%s", key.Name)
		}
	}
	if strings.Contains(serve, "--server") || !strings.Contains(run("agent", "--help").Stdout, "--server") {
		t.Error("the global flags are not shown where they count")
	}
}

func TestCompletion(t *testing.T) {
	f := startFake(t, map[string]func(string) string{
		"list_domains": pages("domains", 10, "shop", "sho p"), "list_domain_definitions": pages("definitions", 10, "web"),
	})
	for line, want := range map[string]string{
		"domain describe":                 "shop\nsho p\n:4\n",
		"domain remove":                   "shop\nsho p\n:4\n",
		"domain describe shop":            ":4\n",
		"domain add":                      ":4\n",
		"domain add x --definition":       "web\n:4\n",
		"definition update":               "web\n:4\n",
		"pass":                            "decide\ndoctor\nreap\n:4\n",
		"domain list -o":                  "table\njson\n:4\n",
		"serve --provisioner":             "nats\nmock\nprocess\n:4\n",
		"serve --nats.replicas":           "1\n3\n5\n:4\n",
		"completion":                      "bash\nzsh\nfish\npowershell\n:4\n",
		"domain describe --server x://y/": ":4\n",
	} {
		got := run(append([]string{"__completeNoDesc"}, append(words(line), "")...)...)
		if got.Code != 0 || got.Stdout != want {
			t.Errorf("%s: got %q, want %q", line, got.Stdout, want)
		}
	}
	if sent := f.taken(); !strings.HasPrefix(sent[0].Subject, "epum.cmd.alice.") {
		t.Errorf("%+v", sent[0])
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := run("completion", shell); got.Code != 0 || !strings.Contains(got.Stdout, "epum") {
			t.Errorf("%s: %+v", shell, got)
		}
	}
}

// Pressing Tab with nothing there takes no time and prints nothing odd.
func TestCompletion_NobodyThere(t *testing.T) {
	startServer(t)
	for _, args := range [][]string{{}, {"--server", "nats://127.0.0.1:1"}, {"--as", ".."}} {
		start := time.Now()
		got := run(append(append([]string{"__complete"}, args...), "domain", "describe", "")...)
		if got.Code != 0 || got.Stdout != ":4\n" || time.Since(start) > 3*time.Second {
			t.Errorf("%v: %+v after %s", args, got, time.Since(start))
		}
	}
	silent := startFake(t, nil)
	start := time.Now()
	if got := run("__complete", "domain", "describe", "", "--server", silent.url); got.Stdout != ":4\n" && time.Since(start) > 3*time.Second {
		t.Errorf("%+v after %s", got, time.Since(start))
	}
}

func TestVersion(t *testing.T) {
	got := run("version")
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, "epum") || !strings.Contains(got.Stdout, service.Version) {
		t.Errorf("%+v", got)
	}
	got = run("version", "-o", "json")
	if got.Code != 0 || !strings.Contains(got.Stdout, `"version":"`+service.Version+`"`) {
		t.Errorf("%+v", got)
	}
}

// background runs a command until stop.
func background(t *testing.T, args ...string) (stdout, stderr *buffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr = &buffer{}, &buffer{}
	done := make(chan int, 1)
	go func() { done <- cli.Execute(ctx, args, nil, stdout, stderr) }()
	t.Cleanup(cancel)
	return stdout, stderr, func() int {
		cancel()
		return <-done
	}
}

// The service and its client, in one go.
func TestServe(t *testing.T) {
	cleanEnvironment(t)
	t.Setenv("EPUM_AS", "alice")
	dir := t.TempDir()
	file := filepath.Join(dir, "epum.yaml")
	config := "default_user: alice\ninitial_definitions: {web: {engine_conf: {preserve_n: 2}}}\ninitial_domains: {shop: {definition: web}}\n" +
		"mock: {delay: 0}\nprocess: p1\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("EPUM_PROVISIONER", "mock")
	stdout, stderr, stop := background(t, "serve", "--config", file, "--embedded.listen", "127.0.0.1:-1", "--embedded.sync=default",
		"--embedded.store_dir", filepath.Join(dir, "data"))
	waitFor(t, "the ready line", func() bool { return strings.HasSuffix(stdout.String(), "\n") })
	ready := regexp.MustCompile(`^epum ready nats=(\S+) process=p1\n$`).FindStringSubmatch(stdout.String())
	if ready == nil {
		t.Fatalf("%q; %s", stdout.String(), stderr.String())
	}
	t.Setenv("NATS_URL", ready[1])
	waitFor(t, "two instances", func() bool {
		got := run("domain", "describe", "shop")
		return got.Code == 0 && strings.Contains(got.Stdout, "Instances    2: 2 600-RUNNING\n") && strings.Contains(got.Stdout, "\nReason ")
	})
	expect(t, "remove twice", result{Code: run("definition", "remove", "web").Code}, result{})
	if got := run("definition", "remove", "web"); got.Code != 3 {
		t.Errorf("%+v", got)
	}
	if code := stop(); code != 0 || strings.Count(stdout.String(), "\n") != 1 {
		t.Errorf("exit code %d, stdout %q", code, stdout.String())
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a log line that is no JSON: %q", line)
		}
	}
}

func TestAgent(t *testing.T) {
	startServer(t)
	t.Setenv("EPUM_AGENT_SITE", "rack-7")
	t.Setenv("EPUM_NATS_REPLICAS", "four") // is none of the agent's business
	stdout, stderr, stop := background(t, "agent", "--dir", t.TempDir(), "--log.format", "tint")
	waitFor(t, "the ready line", func() bool { return strings.HasPrefix(stdout.String(), "epum agent ready site=rack-7 nats=nats://127") })
	if code := stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// An agent may be there before its server is.
func TestAgent_WaitsForServer(t *testing.T) {
	cleanEnvironment(t)
	stdout, stderr, stop := background(t, "agent", "--dir", t.TempDir(), "--server", "nats://127.0.0.1:1")
	waitFor(t, "the warning and the line", func() bool {
		return strings.Contains(stderr.String(), "server not reached yet") && strings.Contains(stdout.String(), "ready")
	})
	if code := stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
