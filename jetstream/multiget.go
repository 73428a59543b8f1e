package jetstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// mostAnswered is how many messages the server answers a multi-get with.
const mostAnswered = 1024

// multiGet asks for the last message of every subject that matches, in one
// isolated answer of one server. It does not go through jetstreamext, which
// cannot tell an answer that the server cut short, or that lost a message on its
// way, from a whole one.
func multiGet(ctx context.Context, nc *nats.Conn, stream string, subjects []string) ([]*nats.Msg, error) {
	body, err := json.Marshal(map[string]any{"multi_last": subjects})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, mostAnswered+1)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return nil, err
	}
	messages := []*nats.Msg{}
	last := "0" // sequence of the message before, as the server counts
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: multi-get of %s: %w", projections.ErrNoQuorum, stream, ctx.Err())
		}
		if seq := answerHeader(m.Header, "Nats-Sequence"); seq != "" {
			if answerHeader(m.Header, "Nats-Last-Sequence") != last {
				return nil, fmt.Errorf("%w: multi-get of %s lost a message", projections.ErrNoQuorum, stream)
			}
			last = seq
			messages = append(messages, m)
			continue
		}
		switch status := events.Header(m.Header, "Status"); {
		case status == "204" && events.Header(m.Header, "Nats-Num-Pending") != "0", status == "413":
			return nil, projections.ErrTooMany
		case status == "204" && events.Header(m.Header, "Nats-Last-Sequence") == last:
			return messages, nil
		case status == "404" && len(messages) == 0:
			return messages, nil
		default:
			return nil, fmt.Errorf("%w: multi-get of %s: status %q: %s", projections.ErrNoQuorum, stream, status, events.Header(m.Header, "Description"))
		}
	}
}
