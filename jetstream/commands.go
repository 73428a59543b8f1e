package jetstream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// turnLongest is how long a command waits at most before it looks again whether
	// an earlier one of its caller, which somebody else has in hand, is still there.
	turnLongest = nakFirst * 5 / 2
	// commandLongest is the longest time between two tries of a command.
	commandLongest = 5 * time.Second
)

// CommandHandler carries out one durable command, published at a time of the
// stream's, and gives its outcome: headers and body of what a request would have
// been answered with. An *events.DeadLetterError: it can have no outcome. Any other
// error: nothing is known of it, it comes again.
type CommandHandler func(ctx context.Context, m *nats.Msg, published time.Time) (outcome *nats.Msg, err error)

// ConsumeCommands hands durable commands to handle until ctx ends. The handler of
// a command runs only when no earlier one of its caller is in the inbox any more,
// whatever other processes do; commands of different callers are handled at once.
// A command leaves the inbox when its outcome is stored, or when the stream of the
// dead has it; it is tried for ever, at least every 5 s. Of several outcomes, as
// two processes may come to, the first stored is kept. ConsumeCommands outlives
// lost connections and servers. When ctx ends, handlers that run may go on for 1 s,
// and commands not begun go back at once; then it returns ctx's error.
func (in *Inbox) ConsumeCommands(ctx context.Context, handle CommandHandler) error {
	q := queue{
		inbox:    in,
		consumer: "commands",
		filter:   string(in.prefix) + ".inbox.*.*",
		ackWait:  10 * time.Second, // after a leader's death the next one waits as long
		pending:  -1,               // one caller's backlog must not use them up
		pull:     128,
		inTurn:   true,
		longest:  commandLongest,
		grace:    time.Second,
		lane:     func(string) lane { return &commandLane{inbox: in, command: handle} },
	}
	return q.run(ctx)
}

// commandLane handles one caller's commands, each in its turn.
type commandLane struct {
	inbox   *Inbox
	command CommandHandler
	removed uint64        // up to here none is in the inbox: each was the first when it ran, and left
	pause   time.Duration // grows with each look for an earlier command that is not here
}

func (l *commandLane) handle(ctx context.Context, d *delivery) error {
	caller, err := callerName(d.token)
	if err != nil {
		return err
	}
	first, err := l.first(ctx, caller, d)
	switch {
	case err != nil:
		return err
	case first > d.seq:
		return errGone
	case first < d.seq:
		l.pause = min(max(2*l.pause, nakFirst), turnLongest)
		return &earlyError{l.pause}
	}
	l.pause = 0
	return l.carryOut(ctx, caller, d)
}

// callerName is the plain name of a caller token; "" for the default user.
func callerName(token string) (string, error) {
	if token == "-" {
		return "", nil
	}
	caller, err := events.ParseToken(token)
	if err != nil {
		return "", &events.DeadLetterError{Reason: fmt.Sprintf("the caller token %.200q is not the canonical form of a name, so it could have no outcome; "+
			"publish it again on the subject of its caller", token)}
	}
	return caller, nil
}

// first is the sequence of the first command of a delivery's caller that is in the
// inbox still; above the delivery's where that one has left it. A command that was
// carried out but never acknowledged is removed on the way.
func (l *commandLane) first(ctx context.Context, caller string, d *delivery) (uint64, error) {
	from := l.removed + 1
	if from > d.seq {
		return from, nil
	}
	for from < d.seq {
		m, err := readStored(ctx, l.inbox.js.Conn(), get{stream: l.inbox.stream, Seq: from, Next: string(l.inbox.prefix) + ".inbox." + d.token + ".*"})
		switch {
		case notFound(err):
			return d.seq + 1, nil
		case err != nil:
			return 0, fmt.Errorf("look for earlier commands: %w", err)
		case m.Seq >= d.seq:
			return m.Seq, nil
		}
		outcome, err := l.inbox.outcome(ctx, caller, events.Header(m.header, headerMsgID))
		if err != nil {
			return 0, err
		}
		if events.Header(outcome.header, events.HeaderCommand) != messageID(m.Seq, m.Time) {
			return m.Seq, nil
		}
		if err := deleteStored(ctx, l.inbox.js.Conn(), l.inbox.stream, m.Seq); err != nil {
			return 0, err
		}
		from = m.Seq + 1
	}
	return d.seq, nil
}

// carryOut handles a command whose turn it is and stores its outcome, unless it
// has one.
func (l *commandLane) carryOut(ctx context.Context, caller string, d *delivery) error {
	id := events.Header(d.header, headerMsgID)
	before, err := l.inbox.outcome(ctx, caller, id)
	if err != nil {
		return err
	}
	if events.Header(before.header, events.HeaderCommand) == d.id() {
		return nil
	}
	outcome, err := l.command(ctx, &nats.Msg{Subject: d.subject, Header: d.header, Data: d.body}, d.stored)
	if err != nil {
		return err
	}
	return l.inbox.keep(ctx, &nats.Msg{Subject: l.inbox.prefix.Result(caller, id), Header: outcome.Header, Data: outcome.Data}, before.Seq, d.id())
}

// ack waits until the server has confirmed it: only then is it the next one's turn.
func (l *commandLane) ack(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, ackPatience)
	defer cancel()
	if _, err := l.inbox.js.Conn().RequestWithContext(ctx, d.reply, []byte(ackDone)); err != nil {
		return err
	}
	l.removed = d.seq
	return nil
}
