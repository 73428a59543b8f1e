package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// reportEvents appends n launches, one instance each, and gives their sequences.
func reportEvents(t testing.TB, log *jetstream.Log, n int) []uint64 {
	t.Helper()
	seqs := make([]uint64, n)
	for i, d := range launches(0, domain(0), n) {
		seqs[i] = mustAppend(t, log, d)
	}
	return seqs
}

// fetch fetches until there is nothing left.
func fetch(t testing.TB, n *jetstream.Notices) (all []projections.Notice) {
	t.Helper()
	for {
		batch, err := n.Fetch(t.Context(), 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			return all
		}
		all = append(all, batch...)
	}
}

func seqsOf(notices []projections.Notice) []uint64 {
	seqs := make([]uint64, len(notices))
	for i, n := range notices {
		seqs[i] = n.Envelope.Seq
	}
	return seqs
}

func done(t testing.TB, nc *nats.Conn, notices ...projections.Notice) {
	t.Helper()
	for _, n := range notices {
		if err := n.Done(); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func rewind(t testing.TB, n *jetstream.Notices, from uint64) uint64 {
	t.Helper()
	at, err := n.Rewind(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func checkSeqs(t testing.TB, what string, want, got []uint64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", what, diff)
	}
}

// TestNotices_Fetch: events of instances only, in order, more than fit in a batch.
func TestNotices_Fetch(t *testing.T) {
	cell, nc := newCell(t)
	log, notices := cell.Log(), cell.Notices()
	mustAppend(t, log, added(0))
	if got := fetch(t, notices); len(got) != 0 {
		t.Errorf("%d notices of a domain", len(got))
	}
	seqs := reportEvents(t, log, 600)
	got := fetch(t, notices)
	checkSeqs(t, "fetched", seqs, seqsOf(got))
	first := got[0]
	if first.Envelope.Type != events.TypeLaunchRequested || first.Envelope.ID == "" || first.Event.Type() != events.TypeLaunchRequested {
		t.Errorf("%+v", first)
	}
	done(t, nc, got...)
	if again := fetch(t, notices); len(again) != 0 {
		t.Errorf("%d come again", len(again))
	}
}

// TestNotices_FetchWaits: with a wait, the first event that comes ends it.
func TestNotices_FetchWaits(t *testing.T) {
	cell, _ := newCell(t)
	type result struct {
		batch []projections.Notice
		err   error
	}
	fetched := make(chan result, 1)
	go func() {
		batch, err := cell.Notices().Fetch(context.Background(), patience)
		fetched <- result{batch, err}
	}()
	seqs := reportEvents(t, cell.Log(), 1)
	select {
	case r := <-fetched:
		if r.err != nil || len(r.batch) != 1 || r.batch[0].Envelope.Seq != seqs[0] {
			t.Errorf("%v, %v", seqsOf(r.batch), r.err)
		}
	case <-time.After(patience / 2):
		t.Error("it waits though there is one")
	}
}

// TestNotices_Rewind: what a dead leader had fetched comes at once and in order,
// to whom comes next; what was done does not, but for what is behind a gap.
func TestNotices_Rewind(t *testing.T) {
	cell, nc := newCell(t)
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 6)
	if at := rewind(t, notices, 1); at != 0 {
		t.Errorf("a new consumer is at %d", at)
	}
	dead := fetch(t, notices)
	done(t, nc, dead[0], dead[1], dead[3])
	if left := fetch(t, notices); len(left) != 0 {
		t.Errorf("without a rewind there come %v", seqsOf(left))
	}
	if at := rewind(t, notices, 1); at != seqs[1] {
		t.Errorf("rewound to %d, want %d", at, seqs[1])
	}
	checkSeqs(t, "after the rewind", seqs[2:], seqsOf(fetch(t, notices)))
}

// TestNotices_LateAck: a deposed leader that wakes up acknowledges nothing but
// what it has stored itself.
func TestNotices_LateAck(t *testing.T) {
	cell, nc := newCell(t)
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 4)
	rewind(t, notices, 1)
	old := fetch(t, notices)[:2] // it stored these, and sleeps before it says so

	rewind(t, notices, 1) // the next leader
	done(t, nc, old...)   // not delivered again yet: of no effect
	fresh := fetch(t, notices)
	checkSeqs(t, "the next leader gets", seqs, seqsOf(fresh))
	done(t, nc, fresh[0])
	done(t, nc, old...) // true, whoever says so: event 2 is stored
	more := reportEvents(t, cell.Log(), 2)
	stolen := fetch(t, notices) // the deposed one fetches once more
	done(t, nc, stolen...)
	rewind(t, notices, 1) // and the next leader dies
	want := append(append([]uint64(nil), seqs[2:]...), more...)
	checkSeqs(t, "not done are", want, seqsOf(fetch(t, notices)))
}

// TestNotices_Cluster: with three copies a rewind waits until the others know of it.
func TestNotices_Cluster(t *testing.T) {
	_, urls := startCluster(t)
	nc := connect(t, urls)
	cell := openCell(t, nc, jetstream.Config{Replicas: 3})
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 300)
	got := map[uint64]bool{}
	eventually(t, func() error {
		for _, n := range fetch(t, notices) {
			got[n.Envelope.Seq] = true
			if n.Envelope.Seq <= seqs[99] {
				done(t, nc, n)
			}
		}
		if len(got) < len(seqs) {
			return fmt.Errorf("%d of %d fetched", len(got), len(seqs))
		}
		return nil
	})
	eventually(t, func() error {
		at := rewind(t, notices, 1)
		if at == seqs[99] {
			return nil
		}
		for _, n := range fetch(t, notices) { // a busy cluster loses acknowledgements: what comes again is acknowledged again
			if n.Envelope.Seq <= seqs[99] {
				done(t, nc, n)
			}
		}
		return fmt.Errorf("rewound to %d, want %d", at, seqs[99])
	})
	if !skip(t, notices, seqs[99], seqs[199]) {
		t.Error("it does not skip")
	}
	checkSeqs(t, "after the skip", seqs[200:], seqsOf(fetch(t, notices)))
	store := projections.Notification{ID: "id", Subscriber: events.Subscriber{Name: "s", Op: "o"}, Body: []byte(`{}`)}
	for range 2 {
		if err := notices.Store(t.Context(), []projections.Notification{store}); err != nil {
			t.Error(err)
		}
	}
	if n := rawStream(t, nc, "epum_notify").CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d are stored, want 1", n)
	}
}

// TestNotices_Deleted: somebody deletes the consumer. It is created again where
// the reader stood, loudly.
func TestNotices_Deleted(t *testing.T) {
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	var said bytes.Buffer
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	if strings.Contains(said.String(), "consumer of notifications") {
		t.Errorf("a new cell says %s", &said)
	}
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 5)
	if err := rawStream(t, nc, "epum_events").DeleteConsumer(t.Context(), "notify"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if batch, err := notices.Fetch(t.Context(), 0); err == nil || time.Since(began) > time.Second {
		t.Errorf("a fetch with no consumer gives %v after %s", seqsOf(batch), time.Since(began))
	}
	if at := rewind(t, notices, seqs[2]); at != seqs[1] {
		t.Errorf("it stands at %d, want %d", at, seqs[1])
	}
	checkSeqs(t, "after it was deleted", seqs[2:], seqsOf(fetch(t, notices)))
	if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), fmt.Sprint("begins=", seqs[2])) {
		t.Errorf("it says %s", &said)
	}
	// Another process that opens the cell leaves it where it is.
	openCell(t, nc, jetstream.Config{Process: "q"})
	rewind(t, notices, 1)
	checkSeqs(t, "after another open", seqs[2:], seqsOf(fetch(t, notices)))
}

// TestNotices_Open puts back the settings that are relied on.
func TestNotices_Open(t *testing.T) {
	cell, nc := newCell(t)
	seqs := reportEvents(t, cell.Log(), 2)
	stream := rawStream(t, nc, "epum_events")
	consumer, err := stream.Consumer(t.Context(), "notify")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.AckWait, cfg.MaxDeliver, cfg.MaxAckPending, cfg.Metadata = time.Second, 2, 1, map[string]string{"owner": "ops"}
	if _, err := stream.UpdateConsumer(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	openCell(t, nc, jetstream.Config{})
	if consumer, err = stream.Consumer(t.Context(), "notify"); err != nil {
		t.Fatal(err)
	}
	cfg = consumer.CachedInfo().Config
	if cfg.AckWait != 30*time.Second || cfg.MaxDeliver != -1 || cfg.MaxAckPending != -1 || cfg.Metadata["owner"] != "ops" ||
		cfg.FilterSubject != "epum.event.instance.>" || cfg.AckPolicy != natsjs.AckExplicitPolicy {
		t.Errorf("%+v", cfg)
	}
	checkSeqs(t, "still there", seqs, seqsOf(fetch(t, cell.Notices())))
}

// TestNotices_Store: in order, each id once, more than are in flight at once.
func TestNotices_Store(t *testing.T) {
	cell, nc := newCell(t)
	var all []projections.Notification
	for i := range 2500 {
		all = append(all, projections.Notification{
			ID: fmt.Sprint("id", i), Subscriber: events.Subscriber{Name: "my sub", Op: "op.x"}, Body: fmt.Appendf(nil, `{"n":%d}`, i),
		})
	}
	for range 2 {
		if err := cell.Notices().Store(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	stream := rawStream(t, nc, "epum_notify")
	if n := stream.CachedInfo().State.Msgs; n != uint64(len(all)) {
		t.Fatalf("%d are stored, want %d", n, len(all))
	}
	for _, i := range []int{0, 999, 1000, 2499} {
		m, err := stream.GetMsg(t.Context(), uint64(i)+1)
		if err != nil || m.Subject != "epum.notify.my=20sub.op=2Ex" || m.Header.Get("Nats-Msg-Id") != all[i].ID || !bytes.Equal(m.Data, all[i].Body) {
			t.Errorf("%d: %+v, %v", i, m, err)
		}
	}
}

// TestNotices_StoreFails: one that no server takes is left out; without the stream
// nothing is said to be stored.
func TestNotices_StoreFails(t *testing.T) {
	cell, nc := newCell(t)
	big := projections.Notification{ID: "big", Subscriber: events.Subscriber{Name: "s", Op: "o"}, Body: make([]byte, 2<<20)}
	small := projections.Notification{ID: "small", Subscriber: big.Subscriber, Body: []byte(`{}`)}
	if err := cell.Notices().Store(t.Context(), []projections.Notification{big, small}); err != nil {
		t.Error(err)
	}
	stream := rawStream(t, nc, "epum_notify")
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d are stored, want 1", n)
	}
	js, err := natsjs.New(nc)
	if err == nil {
		err = js.DeleteStream(t.Context(), "epum_notify")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cell.Notices().Store(t.Context(), []projections.Notification{small}); err == nil {
		t.Error("stored without a stream")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cell.Notices().Fetch(ended, patience); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch after the end: %v", err)
	}
}
