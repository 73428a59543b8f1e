package jetstream_test

import (
	"errors"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/jetstream"
)

func skip(t testing.TB, n *jetstream.Notices, done, upTo uint64) bool {
	t.Helper()
	skipped, err := n.Skip(t.Context(), done, upTo)
	if err != nil {
		t.Fatal(err)
	}
	return skipped
}

// TestNotices_Skip: what is skipped never comes, unless something before it is not
// done. A later skip to an earlier event changes nothing.
func TestNotices_Skip(t *testing.T) {
	cell, nc := newCell(t)
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 8)
	fetched := fetch(t, notices)
	if skip(t, notices, seqs[1], seqs[5]) {
		t.Error("it skips what is not done")
	}
	done(t, nc, fetched[:2]...)
	eventually(t, func() error { // an acknowledgement takes effect some time after it was sent
		if skip(t, notices, seqs[1], seqs[5]) {
			return nil
		}
		return errors.New("it does not skip")
	})
	if !skip(t, notices, seqs[1], seqs[3]) {
		t.Error("what was skipped is not done")
	}
	checkSeqs(t, "after a skip", seqs[6:], seqsOf(fetch(t, notices)))
	if at := rewind(t, notices, 1); at != seqs[5] {
		t.Errorf("rewound to %d, want %d", at, seqs[5])
	}
	checkSeqs(t, "after a rewind", seqs[6:], seqsOf(fetch(t, notices)))
}

// TestNotices_SkipOlder: a consumer as an older version created it cannot skip, and
// goes on.
func TestNotices_SkipOlder(t *testing.T) {
	cell, nc := newCell(t)
	stream := rawStream(t, nc, "epum_events")
	consumer, err := stream.Consumer(t.Context(), "notify")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.DeliverPolicy, cfg.OptStartSeq = natsjs.DeliverNewPolicy, 0
	if err := stream.DeleteConsumer(t.Context(), "notify"); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	openCell(t, nc, jetstream.Config{Process: "q"})
	notices := cell.Notices()
	seqs := reportEvents(t, cell.Log(), 3)
	if skip(t, notices, 0, seqs[1]) {
		t.Error("it skips")
	}
	checkSeqs(t, "after that", seqs, seqsOf(fetch(t, notices)))
}
