package jetstream_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestLog_HistoryTraced reads a domain out of a long log: with guards and without, with
// what no epum wrote and what is in a batch, each event is just as it is in the whole.
func TestLog_HistoryTraced(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	log := cell.Log()
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(4000))
	if err != nil {
		t.Fatal(err)
	}
	noise := func(n int) {
		t.Helper()
		for i := range n {
			m := &nats.Msg{Subject: events.DefaultPrefix.Event(domain(7 + i%50).Key()), Data: []byte("{}")}
			if _, err := js.PublishMsgAsync(m, natsjs.WithStallWait(patience)); err != nil {
				t.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	}
	id := domain(1)
	epoch := elect(t, log, "p")
	last := mustAppend(t, log, added(1))
	noise(20_000)
	all := launches(epoch, id, 3)
	if _, err := log.AppendFenced(t.Context(), epoch, passDraft(epoch), all); err != nil {
		t.Fatal(err)
	}
	seq := map[events.Key]uint64{id.Key(): last}
	for _, d := range all {
		found, err := log.Last(t.Context(), d.Key)
		if err != nil {
			t.Fatal(err)
		}
		seq[d.Key] = found.Seq
	}
	write := func(key events.Key, ev events.Event) {
		t.Helper()
		d := guarded(key, seq[key], ev)
		seq[key] = mustAppend(t, log, d)
	}
	keys := []events.Key{}
	for key := range seq {
		keys = append(keys, key)
	}
	for n := range 40 {
		write(id.DecisionKey(), events.DecisionMade{Reason: "r"})
		for _, key := range keys {
			if key.Kind() == events.KindInstance && n%3 > 0 {
				write(key, events.StateChanged{State: events.InstanceStates[n/4]})
			}
		}
		write(id.Key(), events.DomainSubscribed{SubscriberName: "s"})
		if n == 20 { // what no epum wrote, without a header and as a copy
			for _, m := range []*nats.Msg{
				{Subject: events.DefaultPrefix.Event(id.DecisionKey()), Data: []byte("x")},
				{Subject: events.DefaultPrefix.Event(id.Key()), Data: []byte("y"), Header: nats.Header{events.HeaderStream: {"other"}, "Nats-Sequence": {"5"}, "odd": {"1", "2"}}},
			} {
				ack, err := js.PublishMsg(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				seq[events.DefaultPrefix.EventKey(m.Subject)] = ack.Sequence
			}
			noise(20_000)
		}
	}
	noise(40_000)
	for _, key := range keys { // as a leader's, which has no guard on its own subject
		if key.Kind() == events.KindInstance {
			d := guarded(key, 0, events.TerminateRequested{})
			d.Guard = events.Guard{}
			seq[key] = mustAppend(t, log, d)
			write(key, events.StateChanged{State: events.Terminated})
		}
	}
	var whole []events.Recorded
	if err := log.History(t.Context(), projections.Query{}, func(r *events.Recorded) error {
		if domain, _, _ := r.Key.Parts(); domain == id {
			whole = append(whole, *r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to uint64 }{{0, 0}, {whole[10].Seq, 0}, {0, whole[len(whole)-3].Seq}, {5, whole[len(whole)-2].Seq}} {
		var want, got []events.Recorded
		for _, r := range whole {
			if r.Seq >= c.from && (c.to == 0 || r.Seq <= c.to) {
				want = append(want, r)
			}
		}
		q := projections.Query{
			Keys: []events.Key{id.Key(), id.DecisionKey(), id.AllInstances()},
			From: projections.Point{Seq: c.from}, To: projections.Point{Seq: c.to},
		}
		if err := log.History(t.Context(), q, func(r *events.Recorded) error {
			got = append(got, *r)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %d to %d: %d events (-whole +traced):\n%.3000s", c.from, c.to, len(want), diff)
		}
	}
}
