package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// asked is a provisioner that notes for whom it was asked.
type asked struct{ ids []string }

func (a *asked) provision(_ context.Context, _, id string, _ events.ProvisionRequest) {
	a.ids = append(a.ids, id)
}
func (a *asked) terminate(_ context.Context, _, id string) { a.ids = append(a.ids, id) }
func (a *asked) dump(_ context.Context, _, id string)      { a.ids = append(a.ids, id) }
func (*asked) prune(time.Time)                             {}
func (*asked) answer(context.Context, map[string]bool)     {}

// FuzzInbox_Take: a request is done for all its instances, each a name, or
// refused and done for none.
func FuzzInbox_Take(f *testing.F) {
	f.Fuzz(func(t *testing.T, op string, body []byte, when, epoch string) {
		in := &inbox{prefix: events.DefaultPrefix, fence: &fence{}, log: slog.New(slog.DiscardHandler)}
		a := &asked{}
		header := nats.Header{}
		if when != "" {
			header.Set(events.HeaderTime, when)
		}
		if epoch != "" {
			header.Set(events.HeaderEpoch, epoch)
		}
		err := in.take(t.Context(), &nats.Msg{Subject: "epum.provisioner.s." + op, Data: body, Header: header}, a)
		if err != nil && len(a.ids) > 0 {
			t.Fatalf("refused (%v), but done for %q", err, a.ids)
		}
		for _, id := range a.ids {
			if events.CheckName(id) != nil {
				t.Fatalf("done for %q", id)
			}
		}
	})
}
