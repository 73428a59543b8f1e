package jetstream_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// TestLease_stray_unrenewed has messages that are no lease come all the time while
// its holder does not renew: the lease can be taken, but not before it is over.
func TestLease_stray_unrenewed(t *testing.T) {
	t.Parallel()
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	a := openCell(t, nc, jetstream.Config{LeaseTTL: 2 * time.Second}).Lease()
	b := openCell(t, nc, jetstream.Config{LeaseTTL: 2 * time.Second, Process: "p2"}).Lease()
	held, release, err := a.Take(t.Context(), "p1", func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	free := make(chan error, 1)
	wait := func() { free <- b.WaitFree(t.Context()) }
	go wait()
	for deadline := time.Now().Add(patience); ; {
		if err := nc.Publish("$KV.epum_leases.leader", []byte(`{"stream":"s","seq":1}`)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-free:
			if err != nil || held.Err() == nil {
				t.Fatalf("free while it is held: %v", err)
			}
			_, second, err := b.Take(t.Context(), "p2", always)
			if errors.Is(err, events.ErrLeaseHeld) { // one more has come in between
				go wait()
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			second()
			return
		case <-time.After(50 * time.Millisecond):
			if _, _, err := b.Take(t.Context(), "p2", always); !errors.Is(err, events.ErrLeaseHeld) {
				t.Fatalf("taken over a message that is no lease: %v", err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the lease can never be taken")
		}
	}
}

// TestBucket_copies has the server copy documents, and a checkpoint, to other keys:
// each reads as a document that nobody can make sense of, and is found to be a stray.
func TestBucket_copies(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	b, ctx := cell.State(), t.Context()
	dom, other := domain(1), domain(2)
	rev, err := b.Write(ctx, []projections.Entry{{Key: dom.Key(), Value: []byte("one")}, {Key: other.Key(), Value: []byte("two")}}, []byte("c1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = b.Write(ctx, []projections.Entry{{Key: dom.DecisionKey()}}, []byte("c2"), rev); err != nil {
		t.Fatal(err)
	}
	if keys, upTo, err := b.Strays(ctx, 0); len(keys) != 0 || upTo != rev || err != nil {
		t.Fatal(keys, upTo, err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, natsjs.StreamConfig{Name: "own", Subjects: []string{"own.*"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*nats.Msg{
		{Subject: "own.document", Data: []byte("two"), Header: nats.Header{"a": {"b"}}},
		{Subject: "own.purge", Header: nats.Header{"KV-Operation": {"PURGE"}}},
		{Subject: "own.checkpoint", Data: []byte("c0")},
	} {
		if _, err := js.PublishMsg(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	const place = "$KV.epum_state."
	copyTo(t, nc, "own", "own.document", place+string(dom.Key()))
	copyTo(t, nc, "own", "own.purge", place+string(other.Key()))
	copyTo(t, nc, "own", "own.checkpoint", place+"checkpoint")
	eventually(t, func() error {
		if last := rawStream(t, nc, "KV_epum_state").CachedInfo().State.LastSeq; last != rev+3 {
			return errors.New("the copies are not there yet")
		}
		return nil
	})
	want := map[events.Key]string{dom.Key(): "", other.Key(): "", events.CheckpointKey: ""}
	got, err := b.Read(ctx, dom.Key(), other.Key(), dom.DecisionKey(), events.CheckpointKey)
	if diff := cmp.Diff(want, contents(got)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, e := range got {
		if e.Revision <= rev || e.Value == nil {
			t.Errorf("%+v", e)
		}
	}
	got = nil
	err = b.All(ctx, func(e projections.Entry) error { got = append(got, e); return nil })
	if diff := cmp.Diff(want, contents(got)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	keys, upTo, err := b.Strays(ctx, rev)
	if diff := cmp.Diff([]events.Key{dom.Key(), other.Key(), events.CheckpointKey}, keys); diff != "" || upTo != rev+3 || err != nil {
		t.Error(diff, upTo, err)
	}
	if _, err := b.Write(ctx, nil, []byte("c3"), rev+3); err != nil {
		t.Error(err)
	}
}

// TestDead_copies has the server copy a dead letter, and send an ack, to the dead: they
// are listed as what they are, and are never sent again.
func TestDead_copies(t *testing.T) {
	t.Parallel()
	_, nc := newCell(t)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	dead := jetstream.NewDead(nc, events.DefaultPrefix)
	letter := nats.Header{jetstream.HeaderDeadSubject: {"epum.node.n.instance_info"}, jetstream.HeaderDeadReason: {"bad"}}
	if err := nc.PublishMsg(&nats.Msg{Subject: "epum.dead.x", Header: letter}); err != nil {
		t.Fatal(err)
	}
	waitMessages(t, nc, "epum_dead", 1)
	copyTo(t, nc, "epum_dead", "epum.dead.x", "epum.dead.y")
	waitMessages(t, nc, "epum_dead", 2)
	if err := nc.PublishRequest("epum.sensor.a.b.c.d", "epum.dead.z", []byte("1")); err != nil {
		t.Fatal(err)
	}
	waitMessages(t, nc, "epum_dead", 3)
	letters, _, err := dead.List(t.Context(), 0)
	if err != nil || len(letters) != 3 || letters[0].Subject != "epum.node.n.instance_info" {
		t.Fatalf("%+v, %v", letters, err)
	}
	for _, l := range letters[1:] {
		if l.Subject != "" || !strings.Contains(l.Reason, "no dead letter") {
			t.Errorf("%+v", l)
		}
		if _, err := dead.Retry(t.Context(), l.Seq); !errors.Is(err, jetstream.ErrRefused) {
			t.Errorf("sent again: %v", err)
		}
		if err := dead.Delete(t.Context(), l.Seq); err != nil {
			t.Error(err)
		}
	}
	if s, err := js.Stream(t.Context(), "epum_inbox"); err != nil || s.CachedInfo().State.LastSeq != 0 {
		t.Errorf("something was sent: %v", err)
	}
}

// TestOpen_lenient opens cells on a server that takes JetStream requests with unknown
// fields, and on one that does not.
func TestOpen_lenient(t *testing.T) {
	t.Parallel()
	for name, lenient := range map[string]bool{"lenient": true, "strict": false} {
		t.Run(name, func(t *testing.T) {
			srv, err := server.NewServer(&server.Options{
				Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), NoJetStreamStrict: lenient,
			})
			if err != nil {
				t.Fatal(err)
			}
			srv.Start()
			t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
			if !srv.ReadyForConnections(patience) {
				t.Fatal("the server does not start")
			}
			var said bytes.Buffer
			log := slog.New(slog.NewTextHandler(&said, nil))
			cell, err := jetstream.Open(t.Context(), connect(t, srv.ClientURL()), jetstream.Config{Process: "p", Logger: log})
			if err != nil {
				t.Fatal(err)
			}
			cell.Close()
			if warned := strings.Count(said.String(), "is not strict"); (warned == 1) != lenient {
				t.Errorf("warned %d times: %s", warned, &said)
			}
		})
	}
}
