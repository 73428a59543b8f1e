package jetstream_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// TestInbox_Consume_longSubject has reports whose subjects are too long to be buried
// under, or have what no client sends to: they are buried, and the connection lives.
func TestInbox_Consume_longSubject(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	nc := connect(t, srv.ClientURL())
	cell := openCell(t, nc, jetstream.Config{})
	sender := connect(t, srv.ClientURL())
	subjects := []string{
		"epum.node." + strings.Repeat("x", 4000) + ".instance_info",
		"epum.node." + strings.Repeat("=", 3055) + ".instance_info", // the cut is at a dot
		"epum.node." + strings.Repeat("ä", 2000) + ".instance_info",

		"epum.node.a\x01b.instance_info",
		"epum.node.short=.instance_info",
	}
	for _, subject := range subjects {
		sendRaw(t, srv.ClientURL(), subject, "body")
	}
	for _, subject := range []string{"epum.inbox." + strings.Repeat("c", 4000) + ".add_domain", "epum.inbox.c." + strings.Repeat("o", 4000)} {
		if err := sender.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	waitMessages(t, nc, "epum_inbox", uint64(len(subjects)+2))
	consume(t, cell.Inbox(), func(context.Context, string, []byte) error {
		return &events.DeadLetterError{Reason: strings.Repeat("bad ", 1000)}
	})
	waitMessages(t, nc, "epum_dead", uint64(len(subjects)))
	letters, _, err := jetstream.NewDead(nc, events.DefaultPrefix).List(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, l := range letters {
		got[l.Subject] = true
		if l.Reason == "" || l.Truncated || l.Size != 4 {
			t.Errorf("%+v", l)
		}
		if _, err := jetstream.NewDead(nc, events.DefaultPrefix).Retry(t.Context(), l.Seq); err == nil && len(l.Subject) > events.MaxSubjectBytes {
			t.Error("a letter is sent to a subject that closes the connection")
		}
	}
	for _, subject := range subjects {
		if subject = strings.ReplaceAll(subject, "\x01", " "); !got[subject] {
			t.Errorf("%.100q is not kept", subject)
		}
	}
	if nc.IsClosed() {
		t.Error("the connection is closed for good")
	}
}

// sendRaw publishes what a client library refuses.
func sendRaw(t *testing.T, url, subject, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "CONNECT {\"verbose\":false}\r\nPUB %s %d\r\n%s\r\n", subject, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
}
