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
// greater number than is good for them.
func TestGate(t *testing.T) {
	let := make(chan struct{})
	c := startCell(t, func(c *cell, conf *natsapi.Config) {
		conf.Past = projections.NewChronicle(heldLog{c.log, let}, c.purged)
	})
	c.ask(t, "epum.cmd.alice.add_domain_definition", addF, nil)
	c.ask(t, "epum.cmd.alice.add_domain", addD, nil)
	inbox := c.nc.NewInbox()
	replies := make(chan *nats.Msg, 1024)
	if _, err := c.nc.ChanSubscribe(inbox, replies); err != nil {
		t.Fatal(err)
	}
	const waiting = 64
	running, more := max(1, runtime.GOMAXPROCS(0)/2), 10
	for range running + waiting + more {
		if err := c.nc.PublishRequest("epum.cmd.alice.describe_domain", inbox, []byte(`{"domain_id":"d","as_of":2}`)); err != nil {
			t.Fatal(err)
		}
	}
	next := func() *nats.Msg {
		t.Helper()
		select {
		case msg := <-replies:
			return msg
		case <-time.After(10 * time.Second):
			t.Fatal("no reply")
			return nil
		}
	}
	for range more {
		if msg := next(); msg.Header.Get(micro.ErrorCodeHeader) != "503" || !strings.Contains(string(msg.Data), "too many readings of history") {
			t.Errorf("refused with %s", msg.Data)
		}
	}
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
	close(let)
	for range running + waiting {
		if msg := next(); msg.Header.Get(micro.ErrorCodeHeader) != "" {
			t.Errorf("%s", msg.Data)
		}
	}
}
