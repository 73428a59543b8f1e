package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// nakFirst doubles with each delivery.
	nakFirst = 100 * time.Millisecond
)

// queue is one durable consumer of the inbox, and how what it delivers is worked
// off: messages with the same third token of their subject one after the other,
// others at once.
type queue struct {
	inbox    *Inbox
	consumer string        // the durable
	filter   string        // of subjects; no two consumers of a work queue may share one
	ackWait  time.Duration // when the server gives a message to another process
	pending  int           // how many messages may be out at all processes together; -1: any number
	pull     int           // how many one process asks for at once
	longest  time.Duration // of the growing delays between the deliveries of one message
	grace    time.Duration // how long a handler may go on after the queue was stopped
	inTurn   bool          // a message that is to come again holds up its lane
	// lane gives the lane of a token, when it has to run; it is called from one
	// goroutine.
	lane func(token string) lane
}

// lane handles the messages with one token, one after the other.
type lane interface {
	// handle deals with a message: nil says that it may be acknowledged, an
	// *events.DeadLetterError that no repeat can help, an *earlyError when its turn
	// has not come, errGone that it has left the queue already. After any other
	// error it comes again, later each time.
	handle(ctx context.Context, d *delivery) error
	// ack tells the server that a message is done.
	ack(ctx context.Context, d *delivery) error
}

// errGone is a message that somebody else has acknowledged meanwhile.
var errGone = errors.New("jetstream: the message has left the queue")

// earlyError is a message whose turn has not come: it waits for a pause, or until
// something comes before it.
type earlyError struct{ pause time.Duration }

func (e *earlyError) Error() string { return "jetstream: too early" }

// run works the queue off until ctx ends. It outlives lost connections and
// servers. When ctx ends, handlers that run may go on for the queue's grace, and
// messages not begun go back at once; then it returns ctx's error.
func (q *queue) run(ctx context.Context) error {
	pause := newPause(50*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		if err := q.consume(ctx); err != nil && ctx.Err() == nil {
			q.inbox.log.Warn("inbox interrupted", "consumer", q.consumer, "error", err)
		}
		if time.Since(began) > 30*time.Second {
			pause.policy.Reset()
		}
		pause.wait(ctx)
	}
	return ctx.Err()
}

// consume is one life of the consumer.
func (q *queue) consume(ctx context.Context) error {
	open, cancel := context.WithTimeout(ctx, 2*readPatience)
	defer cancel()
	_, err := q.inbox.js.CreateOrUpdateConsumer(open, q.inbox.stream, natsjs.ConsumerConfig{
		Durable:       q.consumer,
		FilterSubject: q.filter,
		AckPolicy:     natsjs.AckExplicitPolicy,
		AckWait:       q.ackWait,
		MaxAckPending: q.pending,
		MaxDeliver:    -1,
	})
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	grace, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop, over := context.WithCancel(ctx)
	w := newLanes(stop, grace, q)
	defer w.end()
	defer context.AfterFunc(stop, func() { time.AfterFunc(q.grace, end) })()
	defer over()
	p, err := openPull(w.nc, q.inbox.stream, q.consumer, q.pull)
	if err != nil {
		return err
	}
	defer p.close(func(m *nats.Msg) { _ = m.RespondMsg(&nats.Msg{Data: []byte(ackAgain)}) }) // lost: it comes again later
	err = p.each(ctx, func(m *nats.Msg) {
		if d := newDelivery(m); d != nil {
			w.take(d)
		}
	})
	if err != nil {
		return fmt.Errorf("read the inbox: %w", err)
	}
	return nil
}
