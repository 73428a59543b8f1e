package natsapi_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/projections"
)

// heldLog is a log that says nothing until it is let.
type heldLog struct {
	projections.Annals
	let chan struct{}
}

// End implements projections.Annals.
func (l heldLog) End(ctx context.Context) (projections.Position, error) {
	select {
	case <-l.let:
		return l.Annals.End(ctx)
	case <-ctx.Done():
		return projections.Position{}, ctx.Err()
	}
}

// TestGate: readings of history that take long hold up nothing else, and wait in no
// greater number than is good for them. A caller has half of the places, and is no sooner
// served than others for having more.
func TestGate(t *testing.T) {
	let := make(chan struct{})
	c := startCell(t, func(c *cell, conf *natsapi.Config) {
		conf.Past = projections.NewChronicle(heldLog{c.log, let}, c.purged)
	})
	const waiting = 64
	half, more := (max(1, runtime.GOMAXPROCS(0)/2)+waiting)/2, 10
	replies := map[string]chan *nats.Msg{}
	ask := func(caller string, n int) {
		t.Helper()
		c.ask(t, "epum.cmd."+caller+".add_domain", addD, nil)
		inbox := c.nc.NewInbox()
		replies[caller] = make(chan *nats.Msg, n)
		if _, err := c.nc.ChanSubscribe(inbox, replies[caller]); err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := c.nc.PublishRequest("epum.cmd."+caller+".describe_domain", inbox, []byte(`{"domain_id":"d","as_of":4}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := func(caller, refusal string) {
		t.Helper()
		select {
		case msg := <-replies[caller]:
			if code := msg.Header.Get(micro.ErrorCodeHeader); refusal == "" && code != "" || refusal != "" && (code != "503" || !strings.Contains(string(msg.Data), refusal)) {
				t.Errorf("%s: %s %s", caller, code, msg.Data)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no reply to " + caller)
		}
	}
	c.ask(t, "epum.cmd.alice.add_domain_definition", addF, nil)
	for _, caller := range []string{"alice", "bob"} {
		ask(caller, half+more)
		for range more {
			next(caller, "too many of your readings of history")
		}
	}
	ask("carol", 2) // there is at most one place
	next("carol", "too many readings of history")
	for n := range 5 {
		body := fmt.Sprintf(`{"domain_id":"d%d","definition_id":"f","config":{}}`, n)
		for _, msg := range []*nats.Msg{
			c.ask(t, "epum.cmd.alice.add_domain", body, nil),
			c.ask(t, "epum.cmd.alice.describe_domain", `{"domain_id":"d"}`, nil),
		} {
			if msg.Header.Get(micro.ErrorCodeHeader) != "" {
				t.Errorf("%s", msg.Data)
			}
		}
	}
	for len(replies["alice"])+len(replies["bob"]) < half {
		select {
		case let <- struct{}{}:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody reads")
		}
	}
	if alice, bob := len(replies["alice"]), len(replies["bob"]); min(alice, bob) < half/4 {
		t.Errorf("alice was answered %d times, bob %d times", alice, bob)
	}
	close(let)
	for range half {
		next("alice", "")
		next("bob", "")
	}
}
