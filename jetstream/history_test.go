package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// recall gives the sequences that a query finds.
func recall(t testing.TB, log *jetstream.Log, q projections.Query) []uint64 {
	t.Helper()
	got := []uint64{}
	err := log.History(t.Context(), q, func(r *events.Recorded) error {
		got = append(got, r.Seq)
		return nil
	})
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return got
}

// TestLog_History reads parts of a log by key, sequence and time.
func TestLog_History(t *testing.T) {
	t.Parallel()
	cell, _ := newCell(t)
	log := cell.Log()
	if got := recall(t, log, projections.Query{}); len(got) > 0 {
		t.Errorf("an empty log has %v", got)
	}
	const many = 300 // events of one domain, so that more than one way to read them is needed
	mustAppend(t, log, added(0))
	at := make([]time.Time, 1, many+3)
	for n := range 2 {
		mustAppend(t, log, added(n+1))
	}
	for n := range many {
		seq := uint64(n + 3)
		if n == 0 {
			seq = 1
		}
		mustAppend(t, log, guarded(domain(0).Key(), seq, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: fmt.Sprint("o", n)}))
	}
	for _, d := range launches(1, domain(1), 2) {
		mustAppend(t, log, d)
	}
	err := log.History(t.Context(), projections.Query{}, func(r *events.Recorded) error {
		at = append(at, r.Time)
		var h events.Headers
		h.Read(r.Header)
		if _, intact := r.Sealed(&h); !intact || len(h.Others) > 0 {
			t.Errorf("event %d has the seal %v", r.Seq, r.Header[events.HeaderSeal])
		}
		if r.Subject != events.DefaultPrefix.Event(r.Key) || r.Type != r.Event.Type() || r.ID == "" || len(r.Body) == 0 {
			t.Errorf("%+v", r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(len(at) - 1)
	keys := func(k ...events.Key) []events.Key { return k }
	point := func(seq uint64) projections.Point { return projections.Point{Seq: seq} }
	when := func(seq uint64, off time.Duration) projections.Point {
		return projections.Point{Time: at[seq].Add(off)}
	}
	// The server counts nanoseconds, and not as far as these.
	ever, never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)
	ofZero := append([]uint64{1}, seqs(4, many+3)...)
	for name, c := range map[string]struct {
		q    projections.Query
		want []uint64
	}{
		"all":                      {projections.Query{}, seqs(1, last)},
		"a domain":                 {projections.Query{Keys: keys(domain(0).Key())}, ofZero},
		"a domain to its third":    {projections.Query{Keys: keys(domain(0).Key()), To: point(5)}, []uint64{1, 4, 5}},
		"another one":              {projections.Query{Keys: keys(domain(1).Key())}, []uint64{2}},
		"nobody":                   {projections.Query{Keys: keys(domain(7).Key())}, []uint64{}},
		"nobody of several":        {projections.Query{Keys: keys(domain(7).Key(), domain(8).Key())}, []uint64{}},
		"with its instances":       {projections.Query{Keys: keys(domain(1).Key(), domain(1).DecisionKey(), domain(1).AllInstances())}, []uint64{2, last - 1, last}},
		"instances to a sequence":  {projections.Query{Keys: keys(domain(1).AllInstances()), To: point(last - 1)}, []uint64{last - 1}},
		"all of an owner":          {projections.Query{Keys: keys("domain.alice.>"), From: point(2), To: point(4)}, []uint64{2, 3, 4}},
		"from beyond":              {projections.Query{From: point(last + 7)}, []uint64{}},
		"to beyond":                {projections.Query{From: point(last), To: point(last + 7)}, []uint64{last}},
		"from behind to":           {projections.Query{From: point(5), To: point(4)}, []uint64{}},
		"from a time":              {projections.Query{From: when(last-1, 0)}, []uint64{last - 1, last}},
		"from just after":          {projections.Query{From: when(last-1, 1)}, []uint64{last}},
		"from the future":          {projections.Query{From: when(last, time.Hour)}, []uint64{}},
		"to a time":                {projections.Query{To: when(2, 0)}, []uint64{1, 2}},
		"to just before":           {projections.Query{To: when(2, -1)}, []uint64{1}},
		"to before all":            {projections.Query{To: when(1, -time.Hour)}, []uint64{}},
		"to the end of time":       {projections.Query{From: point(last), To: projections.Point{Time: ever}}, []uint64{last}},
		"to before computers":      {projections.Query{To: projections.Point{Time: never}}, []uint64{}},
		"from the end of time":     {projections.Query{From: projections.Point{Time: ever}}, []uint64{}},
		"from before computers":    {projections.Query{From: projections.Point{Time: never}, To: point(2)}, []uint64{1, 2}},
		"to the future":            {projections.Query{From: point(last), To: when(last, time.Hour)}, []uint64{last}},
		"a domain between times":   {projections.Query{Keys: keys(domain(0).Key()), From: when(4, 0), To: when(6, 0)}, []uint64{4, 5, 6}},
		"a domain's last from far": {projections.Query{Keys: keys(domain(0).Key()), From: point(many + 3)}, []uint64{many + 3}},
	} {
		checkSeqs(t, name, c.want, recall(t, log, c.q))
	}
	for p, want := range map[projections.Point]uint64{
		{}: last, point(3): 3, point(last + 1): last, when(3, 0): 3, when(3, -1): 2, when(1, -1): 0, when(last, time.Hour): last,
	} {
		if got, err := log.Resolve(t.Context(), p); err != nil || got != want {
			t.Errorf("%+v is %d, %v, not %d", p, got, err, want)
		}
	}
}

func seqs(from, to uint64) (s []uint64) {
	for ; from <= to; from++ {
		s = append(s, from)
	}
	return s
}

// TestLog_History_ends is told to stop, in each way of reading.
func TestLog_History_ends(t *testing.T) {
	t.Parallel()
	cell, _ := newCell(t)
	log := cell.Log()
	mustAppend(t, log, added(0))
	mustAppend(t, log, added(1))
	enough := errors.New("enough")
	for _, q := range []projections.Query{{}, {Keys: []events.Key{domain(0).Key()}}, {Follow: true}} {
		calls := 0
		err := log.History(t.Context(), q, func(*events.Recorded) error { calls++; return enough })
		if !errors.Is(err, enough) || calls != 1 {
			t.Errorf("%+v: %d calls, %v", q, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := log.History(ctx, projections.Query{Follow: true}, func(r *events.Recorded) error {
		if r.Seq == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the end of ctx: %v", err)
	}
	for _, bad := range []events.Key{"", "a b"} {
		if err := log.History(t.Context(), projections.Query{Keys: []events.Key{bad}}, nil); !errors.Is(err, jetstream.ErrRefused) {
			t.Errorf("key %q: %v", bad, err)
		}
	}
}

// TestLog_History_follow goes on with what comes, also with another connection to the
// server in between.
func TestLog_History_follow(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	nc := connect(t, srv.ClientURL())
	log := openCell(t, nc, jetstream.Config{}).Log()
	got := make(chan uint64, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	for n := range 3 {
		mustAppend(t, log, added(n))
	}
	go func() {
		q := projections.Query{Keys: []events.Key{events.AllDomains("alice")}, From: projections.Point{Seq: 2}, Follow: true}
		ended <- log.History(ctx, q, func(r *events.Recorded) error { got <- r.Seq; return nil })
	}()
	want := func(seq uint64) {
		t.Helper()
		select {
		case s := <-got:
			if s != seq {
				t.Fatalf("event %d came, not %d", s, seq)
			}
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(patience):
			t.Fatalf("event %d did not come", seq)
		}
	}
	want(2)
	want(3)
	mustAppend(t, log, added(3))
	want(4)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, log, added(4))
	want(5)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestLog_History_purged has the log's last message purged, and one in it.
func TestLog_History_purged(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	log := cell.Log()
	for n := range 4 {
		mustAppend(t, log, added(n))
	}
	for _, n := range []int{1, 3} {
		subject := events.DefaultPrefix.Event(domain(n).Key())
		if err := rawStream(t, nc, "epum_events").Purge(t.Context(), natsjs.WithPurgeSubject(subject)); err != nil {
			t.Fatal(err)
		}
	}
	checkSeqs(t, "all", []uint64{1, 3}, recall(t, log, projections.Query{}))
	checkSeqs(t, "to a deleted one", []uint64{1}, recall(t, log, projections.Query{To: projections.Point{Seq: 2}}))
	checkSeqs(t, "the deleted one's", []uint64{}, recall(t, log, projections.Query{Keys: []events.Key{domain(3).Key()}}))
}

// TestAttach reads a cell that another has opened, and creates none.
func TestAttach(t *testing.T) {
	t.Parallel()
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	if _, err := jetstream.Attach(t.Context(), nc, jetstream.Config{Process: "operator"}); !errors.Is(err, projections.ErrNotFound) {
		t.Fatalf("nothing is there: %v", err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(t.Context()).Name() {
		t.Errorf("it has created %s", name)
	}
	mustAppend(t, openCell(t, nc, jetstream.Config{}).Log(), added(0))
	cell, err := jetstream.Attach(t.Context(), nc, jetstream.Config{Process: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	defer cell.Close()
	checkSeqs(t, "attached", []uint64{1}, recall(t, cell.Log(), projections.Query{}))
}
