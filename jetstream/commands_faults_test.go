package jetstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// badHeaders are such as no client writes, and the Go client cannot read.
const badHeaders = "NATS/1.0\r\nX: 1\r\nno colon\r\n\r\n"

// publishRaw publishes a message with any bytes as its headers.
func publishRaw(t testing.TB, nc *nats.Conn, subject, headers, body string) {
	t.Helper()
	c, err := net.Dial("tcp", nc.ConnectedAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "CONNECT {\"headers\":true,\"no_responders\":true,\"verbose\":false}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(headers), len(headers)+len(body), headers, body); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			t.Fatalf("%q, %v", line, err)
		}
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}

// TestInbox_ConsumeCommands_badHeaders has a command that can have no outcome, since
// nobody can read its id, between others.
func TestInbox_ConsumeCommands_badHeaders(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	leave(t, js, "a", "0")
	leave(t, js, "b", "b0")
	publishRaw(t, nc, "epum.inbox.a.op", badHeaders, "body")
	leave(t, js, "a", "1")
	consumeCommands(t, cell.Inbox(), func(ctx context.Context, m *nats.Msg, published time.Time) (*nats.Msg, error) {
		if m.Header.Get("Nats-Msg-Id") == "" {
			return nil, &events.DeadLetterError{Reason: "it has no id"}
		}
		return carriedOut(&got)(ctx, m, published)
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if ran := got.of("a"); !slices.Equal(ran, []string{"0", "1"}) {
		t.Errorf("carried out %v", ran)
	}
	letter, err := jetstream.NewDead(nc, events.DefaultPrefix).Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(letter.Body) != "body" || letter.Reason != "its headers cannot be read: it has no id" ||
		!slices.Equal(letter.Headers[jetstream.HeaderDeadHeaders], []string{fmt.Sprintf("%q", badHeaders)}) {
		t.Errorf("%+v %q", letter, letter.Body)
	}
}

// TestInbox_Consume_badHeaders has a report whose headers nobody can read: nobody
// needs to.
func TestInbox_Consume_badHeaders(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	publish(t, js, "n1", "0")
	publishRaw(t, nc, "epum.node.n1.instance_info", badHeaders, "1")
	publishRaw(t, nc, "epum.node.n1.instance_info", badHeaders, "bad")
	publish(t, js, "n1", "2")
	consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
		if got.add(node, body); string(body) == "bad" {
			return &events.DeadLetterError{Reason: "bad"}
		}
		return nil
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if bodies := got.of("n1"); !slices.Equal(bodies, []string{"0", "1", "bad", "2"}) {
		t.Errorf("%q", bodies)
	}
	m, err := rawStream(t, nc, "epum_dead").GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != "bad" || m.Header.Get(jetstream.HeaderDeadHeaders) != fmt.Sprintf("%q", badHeaders) {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestInbox_ConsumeCommands_newStream has the stream made anew under a consumer that
// lives: its sequences begin at 1 again.
func TestInbox_ConsumeCommands_newStream(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	consumeCommands(t, cell.Inbox(), carriedOut(&got))
	for n := range 3 {
		leave(t, js, "a", fmt.Sprint("old", n))
	}
	waitMessages(t, nc, "epum_inbox", 0)
	if err := js.DeleteStream(t.Context(), "epum_inbox"); err != nil {
		t.Fatal(err)
	}
	openCell(t, nc, jetstream.Config{Process: "p2"})
	for n := range 2 {
		leave(t, js, "a", fmt.Sprint("new", n))
	}
	waitMessages(t, nc, "epum_inbox", 0)
	if ran := got.of("a"); !slices.Equal(ran, []string{"old0", "old1", "old2", "new0", "new1"}) {
		t.Errorf("carried out %v", ran)
	}
}

// TestInbox_ConsumeCommands_stuck has one caller with a backlog that nothing is known
// of, of more commands than wait in a lane: the others' commands go on, and
// afterwards its own, in order.
func TestInbox_ConsumeCommands_stuck(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	const all = 5000
	js, _ := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(all))
	for n := range all {
		if _, err := js.PublishMsgAsync(&nats.Msg{
			Subject: "epum.inbox.stuck.op", Header: nats.Header{"Nats-Msg-Id": {fmt.Sprint(n)}}, Data: []byte(fmt.Sprint(n)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	var got handled
	var mu sync.Mutex
	stuck := true
	tried := make(chan struct{})
	var once sync.Once
	consumeCommands(t, cell.Inbox(), func(ctx context.Context, m *nats.Msg, published time.Time) (*nats.Msg, error) {
		mu.Lock()
		defer mu.Unlock()
		if stuck && m.Subject == "epum.inbox.stuck.op" {
			once.Do(func() { close(tried) })
			return nil, events.ErrUnavailable
		}
		return carriedOut(&got)(ctx, m, published)
	})
	<-tried
	for n := range 20 {
		leave(t, js, "b", fmt.Sprint("b", n))
		eventually(t, func() error {
			if len(got.of("b")) <= n {
				return errors.New("another caller's command waits, too")
			}
			return nil
		})
	}
	mu.Lock()
	stuck = false
	mu.Unlock()
	began := time.Now()
	for part := all / 20; part <= all; part += all / 20 { // as long as it gets on
		eventually(t, func() error {
			if n := len(got.of("stuck")); n < part {
				return fmt.Errorf("%d carried out", n)
			}
			return nil
		})
	}
	t.Logf("the backlog after %s", time.Since(began))
	for n, id := range got.of("stuck") {
		if id != fmt.Sprint(n) {
			t.Fatalf("%s was carried out as number %d", id, n)
		}
	}
}

// TestInbox_ConsumeCommands_wait has big commands that wait for longer than the server
// does by itself: none is delivered twice, and none has lost its body.
func TestInbox_ConsumeCommands_wait(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	const all = 80
	filler := strings.Repeat("x", int(nc.MaxPayload())-1000)
	for n := range all {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{
			Subject: "epum.inbox.a.op", Header: nats.Header{"Nats-Msg-Id": {fmt.Sprint(n)}}, Data: []byte(filler),
		}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var ran []string
	tries, began := 0, time.Now()
	consumeCommands(t, cell.Inbox(), func(_ context.Context, m *nats.Msg, _ time.Time) (*nats.Msg, error) {
		mu.Lock()
		defer mu.Unlock()
		if tries++; time.Since(began) < 12*time.Second {
			return nil, events.ErrUnavailable
		}
		if len(m.Data) != len(filler) {
			t.Errorf("a body of %d bytes", len(m.Data))
		}
		ran = append(ran, m.Header.Get("Nats-Msg-Id"))
		return &nats.Msg{}, nil
	})
	time.Sleep(time.Until(began.Add(12 * time.Second)))
	waitMessages(t, nc, "epum_inbox", 0)
	mu.Lock()
	defer mu.Unlock()
	for n, id := range ran {
		if id != fmt.Sprint(n) || len(ran) != all {
			t.Fatalf("carried out %v", ran)
		}
	}
	consumer, err := js.Consumer(t.Context(), "epum_inbox", "commands")
	if err != nil {
		t.Fatal(err)
	}
	// A machine that stands still has a few delivered again.
	if n := consumer.CachedInfo().Delivered.Consumer; n > uint64(tries)+all/2 {
		t.Errorf("%d deliveries for %d tries", n, tries)
	}
}

// TestInbox_Status has messages that look like what a server says of a consumer.
func TestInbox_Status(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var reports, commands handled
	for n, status := range []string{"100", "400", "404", "408", "409", "503"} {
		for _, headers := range []string{"NATS/1.0 " + status + " Consumer Deleted\r\n\r\n", "NATS/1.0\r\nStatus: " + status + "\r\n\r\n"} {
			publishRaw(t, nc, "epum.node.n1.instance_info", headers, "")
			publishRaw(t, nc, "epum.inbox.a.op", headers, "")
		}
		publish(t, js, "n1", fmt.Sprint(n))
		leave(t, js, "a", fmt.Sprint(n))
	}
	began := time.Now()
	consumeCommands(t, cell.Inbox(), func(ctx context.Context, m *nats.Msg, published time.Time) (*nats.Msg, error) {
		if m.Header.Get("Nats-Msg-Id") == "" {
			return nil, &events.DeadLetterError{Reason: "it has no id"}
		}
		return carriedOut(&commands)(ctx, m, published)
	})
	consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
		if len(body) == 0 {
			return &events.DeadLetterError{Reason: "it is no report"}
		}
		reports.add(node, body)
		return nil
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("after %s", took)
	}
	want := []string{"0", "1", "2", "3", "4", "5"}
	if !slices.Equal(reports.of("n1"), want) || !slices.Equal(commands.of("a"), want) {
		t.Errorf("reports %v, commands %v", reports.of("n1"), commands.of("a"))
	}
	waitMessages(t, nc, "epum_dead", 24)
}
