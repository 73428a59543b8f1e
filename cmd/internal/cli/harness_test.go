package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
	"github.com/seed-524e47bf/epum/jetstream"
)

// fakeService answers commands on a real server with what a test tells it to.
type fakeService struct {
	url string
	nc  *nats.Conn

	mu       sync.Mutex
	replies  map[string]func(body string) string // op → reply; one that starts with "!" is an error's code
	requests []request
}

type request struct {
	Subject, Body string
	CommandID     string
}

// startServer starts a server with nobody behind it, and makes it the one that
// commands talk to, as alice.
func startServer(t *testing.T) *nats.Conn {
	t.Helper()
	server, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cleanEnvironment(t)
	t.Setenv("NATS_URL", server.ClientURL())
	t.Setenv("EPUM_AS", "alice")
	return nc
}

// cleanEnvironment hides the variables of the machine that runs the test.
func cleanEnvironment(t *testing.T) {
	for _, name := range []string{"EPUM_SERVER", "NATS_URL", "NATS_CREDS", "EPUM_AS", "EPUM_PREFIX", "NO_COLOR"} {
		t.Setenv(name, "")
	}
}

func startFake(t *testing.T, replies map[string]func(body string) string) *fakeService {
	t.Helper()
	nc := startServer(t)
	f := &fakeService{url: nc.ConnectedUrl(), nc: nc, replies: replies}
	if _, err := nc.Subscribe("*.cmd.*.*", f.answer); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeService) answer(msg *nats.Msg) {
	f.mu.Lock()
	f.requests = append(f.requests, request{msg.Subject, string(msg.Data), msg.Header.Get(nats.MsgIdHdr)})
	f.mu.Unlock()
	reply := f.replies[msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]]
	if reply == nil {
		return // silence
	}
	answer := nats.NewMsg(msg.Reply)
	text := reply(string(msg.Data))
	if code, isError := strings.CutPrefix(text, "!"); isError {
		n, _ := strconv.Atoi(code)
		answer.Header.Set("Nats-Service-Error-Code", code)
		answer.Header.Set("Nats-Service-Error", "SomeError: it went wrong")
		text = fmt.Sprintf(`{"error":{"type":"SomeError","code":%d,"message":"it went wrong"}}`, n)
		if n == 503 {
			text = strings.ReplaceAll(text, "SomeError", "UnavailableError")
		}
	}
	answer.Data = []byte(text)
	_ = msg.RespondMsg(answer)
}

// taken gives the requests since the last call.
func (f *fakeService) taken() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.requests
	f.requests = nil
	return taken
}

func always(reply string) func(string) string { return func(string) string { return reply } }

// result is what one command line came to.
type result struct {
	Code           int
	Stdout, Stderr string
}

func run(args ...string) result { return runWith("", args...) }

func runWith(stdin string, args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := cli.Execute(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// words splits a command line at spaces.
func words(line string) []string { return strings.Fields(line) }

func expect(t *testing.T, line string, got, want result) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("epum %s\n%s", line, d)
	}
}

// sameJSON compares JSON whatever the order of keys.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Errorf("%q is no JSON: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Error(d)
	}
}

// pages answers a list op with names, at most perPage at a time.
func pages(field string, perPage int, names ...string) func(string) string {
	return func(body string) string {
		var r struct {
			After string
			Limit int
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return "!400"
		}
		rest := slices.DeleteFunc(append([]string{}, names...), func(n string) bool { return n <= r.After })
		reply := map[string]any{field: rest}
		if n := min(perPage, r.Limit); len(rest) > n {
			reply[field], reply["next"] = rest[:n], rest[n-1]
		}
		data, _ := json.Marshal(reply)
		return string(data)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}
