package natsapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// Durable carries out a command that was left in the inbox (design §3), at a time
// of the stream's, and gives what a request would have been answered with. It fails
// with an *events.DeadLetterError where the command has no id to keep its outcome
// by, and with another error where the outcome is unknown: then it has to come
// again. It is safe for concurrent use.
func (a *API) Durable(ctx context.Context, m *nats.Msg, published time.Time) (*nats.Msg, error) {
	if reason := badID(m.Header[nats.MsgIdHdr]); reason != "" {
		return nil, &events.DeadLetterError{Reason: reason + ", so its outcome could not be kept; publish it again with one id of 1 to 256 bytes in the header " +
			nats.MsgIdHdr + ", or retry it from here with a fresh one"}
	}
	op := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	body, err := a.try(ctx, op, a.durable, incoming{subject: m.Subject, header: m.Header, body: m.Data, published: published})
	if err == nil {
		return &nats.Msg{Data: body}, nil
	}
	told := a.told(op, m.Subject, err)
	if errors.Is(told, commands.ErrUnavailable) {
		return nil, err
	}
	return errorReply(told)
}

// badID says what is wrong with the values of the id's header; "": nothing.
func badID(ids []string) string {
	switch {
	case len(ids) == 0:
		return "the command has no id"
	case len(ids) > 1:
		return "the command has several ids"
	case commands.CheckCommandID(ids[0]) != nil:
		return "the command's id is none"
	}
	return ""
}

// durable carries out what may be left in the inbox.
func (a *API) durable(ctx context.Context, r *request) ([]byte, error) {
	if !slices.Contains(commands.Ops, r.op) {
		return nil, commands.ErrBadRequest.With("%q cannot be left in the inbox; these can: %s", r.op, strings.Join(commands.Ops, ", "))
	}
	return a.command(ctx, r)
}
