package cli_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/jetstream"
)

func putDead(t *testing.T, js natsjs.JetStream, subject, reason, body string, more ...string) {
	t.Helper()
	header := nats.Header{
		jetstream.HeaderDeadSubject: {subject}, jetstream.HeaderDeadReason: {reason}, jetstream.HeaderDeadTime: {"2026-01-02T03:04:05Z"},
	}
	for n := 0; n < len(more); n += 2 {
		header[more[n]] = []string{more[n+1]}
	}
	putMessage(t, js, "epum.dead."+strings.TrimPrefix(subject, "epum."), body, header)
}

func count(t *testing.T, js natsjs.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestDead(t *testing.T) {
	_, js := startStreams(t)
	t.Setenv("TZ", "UTC")
	expect(t, "none", run("dead", "list"), result{Stderr: "epum: no dead letters\n"})
	expect(t, "none", run("dead", "list", "-o", "json"), result{Stdout: "[]\n"})
	putDead(t, js, "epum.node.i1.instance_info", `unknown state "X"`, `{"node_id":"i1","state":"X"}`)
	putDead(t, js, "epum.inbox.alice.remove_domain", "the command has no id", `{"domain_id":"shop"}`)
	putDead(t, js, "epum.node.i2.instance_info", "too long", "xx\x1b", jetstream.HeaderDeadTruncated, "3000000")

	list := run("dead", "list")
	want := []string{"SEQ", "1", "2", "3"}
	for n, line := range strings.Split(strings.TrimSpace(list.Stdout), "\n") {
		if !strings.HasPrefix(line, want[n]+" ") {
			t.Errorf("line %d: %q", n, line)
		}
	}
	if !strings.Contains(list.Stdout, "epum.node.i1.instance_info      28 B     unknown state \"X\"\n") || !strings.Contains(list.Stdout, "2.9 MiB") {
		t.Errorf("%s", list.Stdout)
	}
	if got := run("dead", "list", "--limit", "2"); strings.Count(got.Stdout, "\n") != 3 || got.Stderr != "epum: 1 more follow\n" {
		t.Errorf("%+v", got)
	}
	got := run("dead", "list", "--limit", "1", "-o", "json")
	sameJSON(t, got.Stdout, `[{"seq":1,"arrived":"2026-01-02T03:04:05Z","subject":"epum.node.i1.instance_info","reason":"unknown state \"X\"","size":28,"truncated":false}]`)

	show := run("dead", "show", "1")
	for _, part := range []string{"Dead letter", "\nReason", `unknown state "X"`, "\nEpum-Dead-Time", "\n\n{\n  \"node_id\": \"i1\",\n  \"state\": \"X\"\n}\n"} {
		if !strings.Contains(show.Stdout, part) {
			t.Errorf("%q is not in %s", part, show.Stdout)
		}
	}
	if got := run("dead", "show", "3"); !strings.HasSuffix(got.Stdout, "\n\nxx\n") || !strings.Contains(got.Stdout, "the first 3 B were kept") {
		t.Errorf("%+v", got)
	}
	if got := run("dead", "show", "2", "-o", "json"); !strings.Contains(got.Stdout, `"body":{"domain_id":"shop"}`) || !strings.Contains(got.Stdout, `"headers":{`) {
		t.Errorf("%+v", got)
	}
	if got := run("dead", "show", "3", "-o", "json"); !strings.Contains(got.Stdout, `"body_base64":"eHgb"`) {
		t.Errorf("%+v", got)
	}
	expect(t, "no such", run("dead", "show", "9"), result{3, "", "epum: there is no dead letter 9; see 'epum dead list'\n"})
	expect(t, "no such", run("dead", "retry", "9"), result{3, "", "epum: there is no dead letter 9; see 'epum dead list'\n"})
	expect(t, "no number", run("dead", "show", "x"), result{2, "", "epum: \"x\" is no number of a dead letter; see 'epum dead list'\n"})
	expect(t, "none named", run("dead", "retry"), result{2, "", "epum: name dead letters by their numbers, or say --all; see 'epum dead list'\n"})
	expect(t, "both", run("dead", "retry", "1", "--all"), result{2, "", "epum: name dead letters by their numbers, or say --all; see 'epum dead list'\n"})
}

func TestDead_Retry(t *testing.T) {
	_, js := startStreams(t)
	putDead(t, js, "epum.node.i1.instance_info", "r", `{"node_id":"i1"}`)
	putDead(t, js, "epum.node.i2.instance_info", "r", "xx", jetstream.HeaderDeadTruncated, "3000000")
	putDead(t, js, "epum.inbox.alice.remove_domain", "r", `{"domain_id":"shop"}`)
	const tooLong = "epum: dead letter 2 was too long to be kept as a whole, so it cannot be sent again; its sender has to\n"
	expect(t, "truncated", run("dead", "retry", "2"), result{1, "", tooLong})
	got := run("dead", "retry", "1")
	m := stored(t, js, "epum_inbox", 1)
	id := m.Header.Get(nats.MsgIdHdr)
	if got.Code != 0 || got.Stdout != "dead letter 1 is sent again, as "+id+"\n" || m.Subject != "epum.node.i1.instance_info" || string(m.Data) != `{"node_id":"i1"}` {
		t.Errorf("%+v: %s %v %s", got, m.Subject, m.Header, m.Data)
	}
	all := run("dead", "retry", "--all")
	if all.Code != 0 || all.Stderr != tooLong || !strings.HasPrefix(all.Stdout, "dead letter 3 is sent again, as dead-3-") {
		t.Errorf("%+v", all)
	}
	if left, sent := count(t, js, "epum_dead"), count(t, js, "epum_inbox"); left != 1 || sent != 2 {
		t.Errorf("%d are left, %d were sent", left, sent)
	}
	if got := run("dead", "purge", "--all"); got.Code != 2 || !strings.Contains(got.Stderr, "--yes") {
		t.Errorf("%+v", got)
	}
	expect(t, "purge", run("dead", "purge", "--all", "--yes"), result{Stdout: "dead letter 2 is deleted\n"})
	if left := count(t, js, "epum_dead"); left != 0 {
		t.Errorf("%d are left", left)
	}
}
