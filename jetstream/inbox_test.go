package jetstream_test

import (
	"context"
	"errors"
	"fmt"
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

// handled collects the reports that a handler was given: node id → bodies.
type handled struct {
	mu     sync.Mutex
	bodies map[string][]string
	total  int
}

func (h *handled) add(node string, body []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bodies == nil {
		h.bodies = map[string][]string{}
	}
	h.bodies[node] = append(h.bodies[node], string(body))
	h.total++
	return len(h.bodies[node])
}

func (h *handled) of(node string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.bodies[node])
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// consume runs an inbox until the test ends, or stop is called, which waits.
func consume(t *testing.T, in *jetstream.Inbox, handle jetstream.ReportHandler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := in.Consume(ctx, func() jetstream.ReportHandler { return handle }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func publish(t *testing.T, js natsjs.JetStream, node, body string) {
	t.Helper()
	if _, err := js.Publish(t.Context(), events.DefaultPrefix.Node(node, "instance_info"), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// waitEmpty waits until a stream holds n messages.
func waitMessages(t *testing.T, nc *nats.Conn, stream string, n uint64) {
	t.Helper()
	eventually(t, func() error {
		if got := rawStream(t, nc, stream).CachedInfo().State.Msgs; got != n {
			return fmt.Errorf("%s has %d messages, not %d", stream, got, n)
		}
		return nil
	})
}

func TestInbox_Consume(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)

	t.Run("in order for each instance", func(t *testing.T) {
		var got handled
		const nodes, each = 20, 25
		for n := range each {
			for node := range nodes {
				publish(t, js, fmt.Sprintf("node.%d", node), fmt.Sprint(n))
			}
		}
		stop := consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
			got.add(node, body)
			return nil
		})
		waitMessages(t, nc, "epum_inbox", 0)
		stop()
		for node := range nodes {
			bodies := got.of(fmt.Sprintf("node.%d", node))
			for n := range each {
				if len(bodies) != each || bodies[n] != fmt.Sprint(n) {
					t.Fatalf("node %d: %v", node, bodies)
				}
			}
		}
	})
	t.Run("dead letter", func(t *testing.T) {
		publish(t, js, "bad@node", "garbage")
		stop := consume(t, cell.Inbox(), func(context.Context, string, []byte) error {
			return fmt.Errorf("decode: %w", &events.DeadLetterError{Reason: "no\r\nJSON"})
		})
		waitMessages(t, nc, "epum_inbox", 0)
		stop()
		m, err := rawStream(t, nc, "epum_dead").GetLastMsgForSubject(t.Context(), "epum.dead.node.bad=40node.instance_info")
		if err != nil {
			t.Fatal(err)
		}
		if m.Header["Epum-Dead-Reason"][0] != "no  JSON" || m.Header["Epum-Dead-Subject"][0] != "epum.node.bad=40node.instance_info" || string(m.Data) != "garbage" {
			t.Errorf("%v %s", m.Header, m.Data)
		}
		if _, err := time.Parse(time.RFC3339Nano, m.Header["Epum-Dead-Time"][0]); err != nil {
			t.Error(err)
		}
	})
	t.Run("a node id that is no name, as long as a message may be", func(t *testing.T) {
		body := strings.Repeat("x", int(nc.MaxPayload()))
		if _, err := js.Publish(t.Context(), "epum.node.a=zz.instance_info", []byte(body)); err != nil {
			t.Fatal(err)
		}
		stop := consume(t, cell.Inbox(), func(_ context.Context, node string, _ []byte) error {
			t.Errorf("handled %q", node)
			return nil
		})
		waitMessages(t, nc, "epum_inbox", 0)
		stop()
		m, err := rawStream(t, nc, "epum_dead").GetLastMsgForSubject(t.Context(), "epum.dead.node.a=zz.instance_info")
		if err != nil || m.Header["Epum-Dead-Truncated"][0] != fmt.Sprint(len(body)) {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("again until it is handled", func(t *testing.T) {
		var got handled
		publish(t, js, "n1", "x")
		stop := consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
			if got.add(node, body) < 4 {
				return events.ErrUnavailable
			}
			return nil
		})
		began := time.Now()
		waitMessages(t, nc, "epum_inbox", 0)
		stop()
		if n := len(got.of("n1")); n != 4 || time.Since(began) < 500*time.Millisecond {
			t.Errorf("handled %d times in %s", n, time.Since(began))
		}
	})
}

func TestInbox_Consume_stop(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	began, finish := make(chan struct{}), make(chan struct{})
	var first, second handled
	const all = 100
	for n := range all {
		publish(t, js, "n1", fmt.Sprint(n)) // one instance: one at a time
	}
	var once sync.Once
	stop := consume(t, cell.Inbox(), func(ctx context.Context, node string, body []byte) error {
		once.Do(func() { close(began) })
		<-finish
		if ctx.Err() != nil {
			t.Error("the handler in flight was cut off")
		}
		first.add(node, body)
		return nil
	})
	<-began
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	// The other process gets what was not begun, at once.
	consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
		second.add(node, body)
		return nil
	})
	close(finish)
	<-stopped
	waitMessages(t, nc, "epum_inbox", 0)
	if got := first.count() + second.count(); got != all || first.count() == 0 {
		t.Errorf("handled %d + %d of %d", first.count(), second.count(), all)
	}
}

func TestInbox_Consume_overRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, SyncAlways: true})
	nc := connect(t, srv.ClientURL())
	cell := openCell(t, nc, jetstream.Config{})
	js, _ := natsjs.New(nc)
	var got handled
	consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
		got.add(node, body)
		return nil
	})
	publish(t, js, "n1", "before")
	waitMessages(t, nc, "epum_inbox", 0)
	srv.Shutdown()
	startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, SyncAlways: true, Listen: strings.TrimPrefix(srv.ClientURL(), "nats://")})
	eventually(t, func() error {
		_, err := js.Publish(t.Context(), "epum.node.n1.instance_info", []byte("after"))
		return err
	})
	eventually(t, func() error {
		if bodies := got.of("n1"); !slices.Contains(bodies, "after") {
			return fmt.Errorf("handled %v", bodies)
		}
		return nil
	})
}
