package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func TestLog_Tail(t *testing.T) {
	cell, nc := newCell(t)
	log := cell.Log()
	d := added(1)
	mustAppend(t, log, d)
	epoch := elect(t, log, "p1")
	drafts := launches(epoch, domain(1), 500)
	if _, err := log.AppendFenced(t.Context(), epoch, passDraft(epoch), drafts); err != nil {
		t.Fatal(err)
	}

	t.Run("envelopes and events", func(t *testing.T) {
		g, stop, failed := tail(t, log, projections.TailStart{From: 1})
		g.waitFor(t, 503)
		m, err := rawStream(t, nc, "epum_events").GetMsg(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		want := events.Envelope{Key: d.Key, Type: events.TypeDomainAdded, Seq: 1, Time: m.Time.UTC(), ID: d.ID, Actor: "alice", CausationID: "alice/c1"}
		if diff := cmp.Diff(want, g.envs[0]); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(d.Event, g.evs[0]); diff != "" {
			t.Error(diff)
		}
		if e := g.envs[10]; e.Epoch != epoch || e.Actor != "leader/p1" || g.evs[10].Type() != events.TypeLaunchRequested {
			t.Errorf("%+v %v", e, g.evs[10])
		}
		for n, seq := range g.seqs() {
			if seq != uint64(n)+1 {
				t.Fatalf("event %d has sequence %d", n, seq)
			}
		}
		mustAppend(t, log, added(2))
		g.waitFor(t, 504)
		stop()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("stopped with %v", err)
		}
	})
	t.Run("from the middle", func(t *testing.T) {
		g, _, _ := tail(t, log, projections.TailStart{From: 400})
		g.waitFor(t, 105)
		if seqs := g.seqs(); seqs[0] != 400 {
			t.Errorf("began at %d", seqs[0])
		}
	})
	t.Run("from behind the end", func(t *testing.T) {
		end, err := log.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g, _, _ := tail(t, log, projections.TailStart{From: end.Seq + 3})
		for n := range 4 {
			mustAppend(t, log, added(100+n))
		}
		g.waitFor(t, 2)
		if seqs := g.seqs(); seqs[0] != end.Seq+3 {
			t.Errorf("%v, the end was %d", seqs, end.Seq)
		}
	})
	t.Run("no event", func(t *testing.T) {
		js, err := natsjs.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), "epum.event.domain.bob.x", []byte(`no json`))
		if err != nil {
			t.Fatal(err)
		}
		g, _, _ := tail(t, log, projections.TailStart{From: ack.Sequence})
		g.waitFor(t, 1)
		if _, ok := g.evs[0].(events.Foreign); !ok || g.envs[0].ID != "" {
			t.Errorf("%+v %+v", g.envs[0], g.evs[0])
		}
	})
}

func TestLog_Tail_since(t *testing.T) {
	cell, nc := newCell(t)
	log := cell.Log()
	for n := range 10 {
		mustAppend(t, log, added(n))
	}
	m, err := rawStream(t, nc, "epum_events").GetMsg(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		start projections.TailStart
		first uint64
	}{
		"before from":       {projections.TailStart{From: 8, Since: m.Time}, 4},
		"behind from":       {projections.TailStart{From: 2, Since: m.Time}, 2},
		"older than all":    {projections.TailStart{From: 8, Since: m.Time.Add(-time.Hour)}, 1},
		"younger than all":  {projections.TailStart{From: 8, Since: time.Now().Add(time.Hour)}, 7}, // as a clock that was set back makes it seem
		"no since":          {projections.TailStart{From: 8}, 8},
		"from the very end": {projections.TailStart{From: 11, Since: m.Time}, 4},
		"no from":           {projections.TailStart{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := tail(t, log, c.start)
			g.waitFor(t, 11-int(c.first))
			var want []uint64
			for seq := c.first; seq <= 10; seq++ {
				want = append(want, seq)
			}
			if diff := cmp.Diff(want, g.seqs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLog_Tail_breaks(t *testing.T) {
	t.Parallel()
	t.Run("the consumer is deleted", func(t *testing.T) {
		cell, nc := newCell(t)
		log := cell.Log()
		mustAppend(t, log, added(1))
		g, _, failed := tail(t, log, projections.TailStart{From: 1})
		g.waitFor(t, 1)
		stream := rawStream(t, nc, "epum_events")
		for name := range stream.ConsumerNames(t.Context()).Name() {
			if err := stream.DeleteConsumer(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, log, added(2))
		if err := <-failed; !errors.Is(err, jetstream.ErrTailBroken) {
			t.Fatal(err)
		}
		again, _, _ := tail(t, log, projections.TailStart{From: 2})
		again.waitFor(t, 1)
	})
	t.Run("the server restarts", func(t *testing.T) {
		dir := t.TempDir()
		srv := startServer(t, jetstream.EmbeddedConfig{StoreDir: dir})
		log := openCell(t, connect(t, srv.ClientURL()), jetstream.Config{}).Log()
		mustAppend(t, log, added(1))
		g, _, failed := tail(t, log, projections.TailStart{From: 1})
		g.waitFor(t, 1)
		srv.Shutdown()
		startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, Listen: srv.ClientURL()[len("nats://"):]})
		if err := <-failed; !errors.Is(err, jetstream.ErrTailBroken) {
			t.Fatal(err)
		}
		eventually(t, func() error {
			_, err := log.Append(t.Context(), added(2))
			return err
		})
		again, _, _ := tail(t, log, projections.TailStart{From: 2})
		again.waitFor(t, 1)
	})
}

func TestLog_Keys(t *testing.T) {
	cell, _ := newCell(t)
	log := cell.Log()
	var all []events.Key
	for n := range 300 {
		mustAppend(t, log, added(n))
		all = append(all, domain(n).Key())
	}
	for _, c := range []struct{ after, upTo, first, end uint64 }{
		{0, 300, 0, 300}, {0, 1, 0, 1}, {100, 200, 100, 200}, {299, 300, 299, 300}, {290, 400, 290, 300}, {300, 300, 0, 0}, {7, 3, 0, 0}, {300, 310, 0, 0}, {400, 410, 0, 0},
	} {
		t.Run(fmt.Sprintf("%d to %d", c.after, c.upTo), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			got := []events.Key{}
			err := log.Keys(ctx, c.after, c.upTo, func(k events.Key) { got = append(got, k) })
			// A log that does not have the last one asked for may be a copy that lags.
			if short := c.upTo > c.after && c.upTo > 300; short != errors.Is(err, projections.ErrNoQuorum) || !short && err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]events.Key{}, all[c.first:c.end]...), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
