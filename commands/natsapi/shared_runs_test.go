package natsapi_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// TestServeLeader_shared asks for the same pass again and again while one is under
// way: all share the next, and another pass waits for neither.
func TestServeLeader_shared(t *testing.T) {
	t.Parallel()
	c := startCell(t, nil)
	var runs atomic.Uint64
	begun, finish := make(chan struct{}, 100), make(chan struct{})
	stop, err := natsapi.ServeLeader(c.own, events.DefaultPrefix, natsapi.LeaderCalls{
		Run: func(_ context.Context, pass string) (natsapi.PassResult, error) {
			if pass == "reap" {
				return natsapi.PassResult{Pass: pass}, nil
			}
			n := runs.Add(1)
			begun <- struct{}{}
			<-finish
			return natsapi.PassResult{Pass: pass, Seq: n}, nil
		},
		Orphan:    func(string, string) {},
		Heartbeat: func(string, []byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	const again = 8
	results := make(chan *natsapi.PassResult, again+1)
	ask := func() {
		r, err := c.client("alice").RunPass(t.Context(), "decide")
		if err != nil {
			t.Error(err)
		}
		results <- r
	}
	go ask()
	<-begun
	asked, err := c.own.SubscribeSync(events.DefaultPrefix.LeaderCall("run_pass"))
	if err == nil {
		err = c.own.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for range again {
		go ask()
	}
	for range again {
		if _, err := asked.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := c.client("bob").RunPass(t.Context(), "reap"); err != nil || r.Pass != "reap" {
		t.Errorf("%+v, %v", r, err)
	}
	close(finish)
	last := map[uint64]int{}
	for range again + 1 {
		select {
		case r := <-results:
			last[r.Seq]++
		case <-time.After(10 * time.Second):
			t.Fatal(errors.New("a request is not answered"))
		}
	}
	// Two runs do, and one more for each that had not quite come when one began.
	if runs.Load() > again/2 || last[1] != 1 {
		t.Errorf("%d runs, results %v", runs.Load(), last)
	}
}
