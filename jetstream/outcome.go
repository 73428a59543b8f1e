package jetstream

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// outcome gives what is stored as the outcome of a command id; sequence 0 where
// nothing is.
func (in *Inbox) outcome(ctx context.Context, caller, commandID string) (stored, error) {
	if commandID == "" {
		return stored{}, nil
	}
	m, err := readStored(ctx, in.js.Conn(), get{stream: in.prefix.Stream(events.StreamResults), Last: in.prefix.Result(caller, commandID)})
	if err != nil && !notFound(err) {
		return stored{}, fmt.Errorf("look for an outcome: %w", err)
	}
	return m, nil
}

// keep stores an outcome if the last one of its subject is still the one at before.
func (in *Inbox) keep(ctx context.Context, outcome *nats.Msg, before uint64, command string) error {
	header := nats.Header{events.HeaderCommand: {command}, events.HeaderGuard: {strconv.FormatUint(before, 10)}}
	maps.Copy(header, outcome.Header)
	outcome.Header = header
	_, err := write{
		what: "store an outcome",
		send: func(ctx context.Context) (pubAck, error) { return in.pub.send(ctx, outcome, ackPatience) },
		landed: func(ctx context.Context, _ bool) (uint64, bool, error) {
			m, err := readStored(ctx, in.js.Conn(), get{stream: in.prefix.Stream(events.StreamResults), Last: outcome.Subject})
			if notFound(err) {
				return 0, false, nil
			}
			return m.Seq, err == nil && events.Header(m.header, events.HeaderCommand) == command, err
		},
		conflict: func(context.Context) error {
			return fmt.Errorf("store an outcome: %w: another one came first", events.ErrUnavailable)
		},
		repeatable: true,
	}.do(ctx)
	return err
}
