package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// copyTo has the server send a copy of a stored message to a subject, as anybody can
// who may read it.
func copyTo(t *testing.T, nc *nats.Conn, stream, last, to string) {
	t.Helper()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, to, fmt.Appendf(nil, `{"last_by_subj":%q}`, last)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestLog_copies has the server copy events into the log: none of the copies is an
// event, whoever reads them.
func TestLog_copies(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	log := cell.Log()
	seq := mustAppend(t, log, added(1))
	copyTo(t, nc, "epum_events", "epum.event."+string(added(1).Key), "epum.event."+string(added(2).Key))
	copyTo(t, nc, "epum_events", "epum.event."+string(added(1).Key), "epum.event."+string(added(3).Key))
	waitMessages(t, nc, "epum_events", 3)
	g, _, _ := tail(t, log, projections.TailStart{From: seq})
	g.waitFor(t, 3)
	for n, ev := range g.evs {
		if _, foreign := ev.(events.Foreign); foreign != (n > 0) {
			t.Errorf("%d: %+v %T", n, g.envs[n], ev)
		}
		if n > 0 && (g.envs[n].ID != "" || g.envs[n].Actor != "" || g.envs[n].Key == "") {
			t.Errorf("%d: %+v", n, g.envs[n])
		}
	}
	err := log.History(t.Context(), projections.Query{Keys: []events.Key{added(3).Key}}, func(r *events.Recorded) error {
		if _, foreign := r.Event.(events.Foreign); !foreign || !events.Copied(r.Header) {
			t.Errorf("%+v", r)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestInbox_copies has the server copy a durable command into another caller's name,
// and a report: both are dead letters.
func TestInbox_copies(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "own", Subjects: []string{"own.*"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"epum.inbox.al.add_domain", "epum.node.n1.instance_info"} {
		if _, err := js.Publish(t.Context(), "own.x", []byte(`{}`), natsjs.WithMsgID(target)); err != nil {
			t.Fatal(err)
		}
		copyTo(t, nc, "own", "own.x", target)
	}
	waitMessages(t, nc, "epum_inbox", 2)
	carriedOut := make(chan string, 10)
	consume(t, cell.Inbox(), func(_ context.Context, node string, _ []byte) error {
		carriedOut <- node
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- cell.Inbox().ConsumeCommands(ctx, func(_ context.Context, m *nats.Msg, _ time.Time) (*nats.Msg, error) {
			carriedOut <- m.Subject
			return &nats.Msg{}, nil
		})
	}()
	defer func() { cancel(); <-done }()
	waitMessages(t, nc, "epum_dead", 2)
	waitMessages(t, nc, "epum_inbox", 0)
	select {
	case what := <-carriedOut:
		t.Errorf("%s was carried out", what)
	default:
	}
}

// TestLease_strays has the server put answers in the place of the lease: its holder
// keeps it, nobody else gets it meanwhile, and without a holder it is soon free.
func TestLease_strays(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	a := openCell(t, nc, jetstream.Config{LeaseTTL: ttl}).Lease()
	b := openCell(t, nc, jetstream.Config{LeaseTTL: ttl, Process: "p2"}).Lease()
	const place = "$KV.epum_leases.leader"
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "own", Subjects: []string{"own.*"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	// A copy of the lease itself has its guard, too, which refuses it here.
	thief := &nats.Msg{Subject: "own.x", Data: []byte("thief"), Header: nats.Header{"Epum-Lease": {"its own"}}}
	if _, err := js.PublishMsg(t.Context(), thief); err != nil {
		t.Fatal(err)
	}
	junk := func() {
		copyTo(t, nc, "own", "own.x", place)
		copyTo(t, nc, "own", "own.none", place)                                              // a 404, which has no body
		if err := nc.PublishRequest("epum.sensor.a.b.c.d", place, []byte("1")); err != nil { // an ack
			t.Fatal(err)
		}
	}
	held, release, err := a.Take(t.Context(), "p1", always)
	if err != nil {
		t.Fatal(err)
	}
	free, cancel := context.WithTimeout(t.Context(), 2*ttl)
	defer cancel()
	taken := make(chan error, 1)
	go func() { taken <- b.WaitFree(free) }()
	for free.Err() == nil {
		junk()
		select {
		case <-time.After(ttl / 5):
		case err := <-taken:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("free while it is held: %v", err)
			}
		}
	}
	if held.Err() != nil {
		t.Fatal(context.Cause(held))
	}
	eventually(t, func() error {
		if p, err := b.Holder(t.Context()); err != nil || p != "p1" {
			return fmt.Errorf("%q, %w", p, err)
		}
		return nil
	})
	release()
	junk()
	if err := b.WaitFree(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, second, err := b.Take(t.Context(), "p2", always)
	if err != nil {
		t.Fatal(err)
	}
	second()
}
