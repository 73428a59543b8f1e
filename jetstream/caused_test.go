package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

func TestLog_Caused(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	nc := connect(t, srv.ClientURL())
	log := openCell(t, nc, jetstream.Config{}).Log()
	dom := domain(1)
	const all = 300
	times := make([]time.Time, all) // before the nth event
	last := uint64(0)
	for n := range all {
		if n%100 == 0 {
			time.Sleep(2 * time.Millisecond) // the stream's clock and this one are the same, but not as fine
		}
		times[n] = time.Now()
		d := guarded(dom.Key(), last, events.DomainReconfigured{})
		d.CausationID = fmt.Sprint("al/", n)
		last = mustAppend(t, log, d)
		mustAppend(t, log, guarded(domain(2+n).Key(), 0, events.DomainAdded{})) // somebody else's
	}
	end := time.Now().Add(time.Second)
	ask := func(id string, from, until time.Time, want uint64) (requests uint64) {
		t.Helper()
		before := nc.Stats().OutMsgs
		seq, found, err := log.Caused(t.Context(), dom.Key(), id, from, until)
		if err != nil || seq != want || found != (want > 0) {
			t.Errorf("%s: %d, %v, %v; want %d", id, seq, found, err, want)
		}
		return nc.Stats().OutMsgs - before
	}
	if n := ask("al/299", end, end.Add(time.Second), 0); n != 1 {
		t.Errorf("%d requests for what is not there", n)
	}
	if n := ask("al/210", times[200], end, 421); n > 101+1 {
		t.Errorf("%d requests for 100 events", n)
	}
	ask("al/100", times[200], end, 0) // before
	total := uint64(0)
	for n := range 100 {
		total += ask(fmt.Sprint("al/", 200+n), times[200], end, uint64(2*(200+n)+1))
	}
	if total > 100 {
		t.Errorf("%d requests for what was read before", total)
	}
	ask("al/0", times[0], end, 1)
	ask("al/0", times[100], end, 0) // the index goes further back than the question
	if _, found, err := log.Caused(t.Context(), domain(999).Key(), "al/0", times[0], end); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}
