package cli_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/jetstream"
)

// startStreams starts a server on which an epum once ran.
func startStreams(t *testing.T) (*nats.Conn, natsjs.JetStream) {
	t.Helper()
	nc := startServer(t)
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// putMessage publishes a message to a stream.
func putMessage(t *testing.T, js natsjs.JetStream, subject, body string, header nats.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: []byte(body), Header: header}); err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, js natsjs.JetStream, stream string, seq uint64) *natsjs.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatalf("message %d of %s: %v", seq, stream, err)
	}
	return m
}

// Every write can be left for later, while no service is up.
func TestAsync(t *testing.T) {
	_, js := startStreams(t)
	for n, c := range []struct{ line, subject, body string }{
		{"domain add shop --definition web", "alice.add_domain", `{"domain_id":"shop","definition_id":"web","config":{}}`},
		{"domain reconfigure shop --set engine_conf.n=1 --as a@b", "a=40b.reconfigure_domain", `{"domain_id":"shop","config":{"engine_conf":{"n":1}}}`},
		{"domain remove shop", "alice.remove_domain", `{"domain_id":"shop"}`},
		{"domain subscribe shop ops op", "alice.subscribe_domain", `{"domain_id":"shop","subscriber_name":"ops","subscriber_op":"op"}`},
		{"domain unsubscribe shop ops", "alice.unsubscribe_domain", `{"domain_id":"shop","subscriber_name":"ops"}`},
		{"definition add web", "alice.add_domain_definition", `{"definition_id":"web","definition":{}}`},
		{"definition update web --set engine_conf.n=1", "alice.update_domain_definition", `{"definition_id":"web","definition":{"engine_conf":{"n":1}}}`},
		{"definition remove web", "alice.remove_domain_definition", `{"definition_id":"web"}`},
	} {
		got := run(append(words(c.line), "--async", "-o", "json")...)
		var printed struct {
			ID string `json:"command_id"`
		}
		if err := json.Unmarshal([]byte(got.Stdout), &printed); err != nil || got.Code != 0 || printed.ID == "" {
			t.Fatalf("%s: %+v", c.line, got)
		}
		m := stored(t, js, "epum_inbox", uint64(n+1))
		if m.Subject != "epum.inbox."+c.subject || m.Header.Get(nats.MsgIdHdr) != printed.ID {
			t.Errorf("%s: left on %s as %v", c.line, m.Subject, m.Header)
		}
		sameJSON(t, string(m.Data), c.body)
	}
	expect(t, "async", run("domain", "remove", "shop", "--async", "--command-id", "it's 1", "--as", "a b"), result{
		Stdout: `left as command 'it'\''s 1'; see its outcome with: epum result --wait --as 'a b' 'it'\''s 1'` + "\n",
	})
	got := run("domain", "remove", "shop", "--async", "--command-id", " x")
	if got.Code != 2 || !strings.Contains(got.Stderr, "Nats-Msg-Id must have 1 to 256 bytes") {
		t.Errorf("%+v", got)
	}
}

func TestResult(t *testing.T) {
	_, js := startStreams(t)
	expect(t, "none", run("result", "c1"),
		result{6, "", "epum: command c1 of owner alice has no outcome yet, or none any more; --wait waits for it\n"})
	expect(t, "none in time", run("result", "c1", "--wait", "--timeout", "100ms"),
		result{6, "", "epum: command c1 of owner alice has no outcome yet, or none any more; --wait waits for it\n"})
	waiting := make(chan result, 1)
	go func() { waiting <- run("result", "c1", "--wait") }()
	putMessage(t, js, "epum.result.alice.c1", `{"seq":7}`, nats.Header{"Epum-Command": {"1/x"}})
	got := <-waiting
	got.Stdout = regexp.MustCompile(`\d+s ago`).ReplaceAllString(got.Stdout, "now")
	expect(t, "waited for", got, result{Stdout: "command c1 is done (seq 7, now)\n"})
	got = run("result", "c1", "-o", "json")
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, `{"command_id":"c1","seq":7,"time":"20`) {
		t.Errorf("%+v", got)
	}
	for code, exit := range map[string]int{"400": 2, "403": 5, "404": 3, "409": 4, "413": 2, "500": 1} {
		body := `{"error":{"type":"SomeError","code":` + code + `,"message":"it went wrong"}}`
		putMessage(t, js, "epum.result.alice.c=20"+code, body, nats.Header{"Nats-Service-Error-Code": {code}, "Epum-Command": {"1/x"}})
		expect(t, code, run("result", "c "+code), result{exit, "", "epum: it went wrong\n"})
		if got := run("result", "c "+code, "-o", "json"); got.Code != exit || !strings.Contains(got.Stdout, `"error":{"type":"SomeError","code":`+code) {
			t.Errorf("%s: %+v", code, got)
		}
	}
	expect(t, "another's", run("result", "c1", "--as", "bob"),
		result{6, "", "epum: command c1 of owner bob has no outcome yet, or none any more; --wait waits for it\n"})
}

func TestAsync_NeverRan(t *testing.T) {
	nc := startServer(t)
	for _, line := range []string{"domain remove shop --async", "result c1", "result c1 --wait", "dead list", "dead retry --all"} {
		expect(t, line, run(words(line)...),
			result{6, "", "epum: no epum service has ever run on " + nc.ConnectedUrl() + "; start one with 'epum serve'\n"})
	}
}
