package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// queueSlots is how many messages of a queue are handled at once: as many
	// single appends in flight reach the log's ceiling.
	queueSlots = 128
	// queueDrain is how long a stop waits for messages that are on their way.
	queueDrain = 200 * time.Millisecond
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
	pending  int           // how many messages may be out at all processes together
	pull     int           // how many one process asks for at once, and how many it may have taken
	longest  time.Duration // of the growing delays between the deliveries of one message
	grace    time.Duration // how long a handler may go on after the queue was stopped
	// lane gives the lane of a token, when it has to run; it is called from one
	// goroutine.
	lane func(token string) lane
}

// lane handles the messages with one token, one after the other.
type lane interface {
	// handle deals with a message: nil says that it may be acknowledged, an
	// *events.DeadLetterError that no repeat can help, an *againError when it is to
	// come again, errGone that it has left the queue already. After any other error
	// it comes again, later each time.
	handle(ctx context.Context, d delivery) error
	// ack tells the server that a message is done.
	ack(ctx context.Context, d delivery) error
}

// errGone is a message that somebody else has acknowledged meanwhile.
var errGone = errors.New("jetstream: the message has left the queue")

// againError is a message that is to be delivered again after a delay.
type againError struct {
	delay time.Duration
	err   error // nil: it was only too early
}

func (e *againError) Error() string {
	if e.err == nil {
		return "jetstream: too early"
	}
	return e.err.Error()
}

func (e *againError) Unwrap() error { return e.err }

// delivery is one message on its way through a lane.
type delivery struct {
	msg      natsjs.Msg
	meta     *natsjs.MsgMetadata
	token    string // of the subject: the instance's or the caller's
	received time.Time
}

func (d delivery) seq() uint64 { return d.meta.Sequence.Stream }

// id names the message for good, whatever is delivered again.
func (d delivery) id() string { return messageID(d.seq(), d.meta.Timestamp) }

func messageID(seq uint64, stored time.Time) string {
	return strconv.FormatUint(seq, 10) + "/" + stored.UTC().Format(time.RFC3339Nano)
}

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
	consumer, err := q.inbox.js.CreateOrUpdateConsumer(open, q.inbox.stream, natsjs.ConsumerConfig{
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
	messages, err := consumer.Messages(natsjs.PullMaxMessages(q.pull), natsjs.PullHeartbeat(2*time.Second))
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	defer messages.Stop()

	grace, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	w := &queueWork{
		queue: q, stop: ctx, grace: grace,
		room: make(chan struct{}, q.pull), slots: make(chan struct{}, queueSlots), waiting: map[string][]delivery{},
	}
	defer w.running.Wait()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(q.grace, end) })()
	for {
		m, err := messages.Next(natsjs.NextContext(ctx))
		switch {
		case err == nil:
			w.take(m)
		case ctx.Err() != nil:
			giveBack(messages)
			return nil
		case errors.Is(err, natsjs.ErrNoHeartbeat):
			q.inbox.log.Debug("inbox waits for its server", "consumer", q.consumer)
		default:
			return fmt.Errorf("read the inbox: %w", err)
		}
	}
}

// giveBack returns what has come but was not begun, so that another process gets
// it at once and not when the server has waited long enough.
func giveBack(messages natsjs.MessagesContext) {
	messages.Drain()
	for {
		m, err := messages.Next(natsjs.NextMaxWait(queueDrain))
		if err != nil {
			return
		}
		if m.Nak() != nil {
			return
		}
	}
}

// queueWork spreads messages over lanes, one for each token.
type queueWork struct {
	queue *queue
	stop  context.Context // ended: begin nothing more
	grace context.Context // ended: give up what runs
	room  chan struct{}   // one for each message that was taken
	slots chan struct{}   // one for each message that is handled

	running sync.WaitGroup
	mu      sync.Mutex
	waiting map[string][]delivery // by token, for as long as its lane runs
}

func (w *queueWork) take(m natsjs.Msg) {
	d := delivery{msg: m, received: time.Now()}
	var err error
	if d.meta, err = m.Metadata(); err != nil {
		w.queue.inbox.log.Error("message of the inbox without metadata", "subject", m.Subject(), "error", err)
		return
	}
	if tokens := strings.SplitN(m.Subject(), ".", 4); len(tokens) > 2 {
		d.token = tokens[2]
	}
	w.room <- struct{}{}
	w.mu.Lock()
	earlier, running := w.waiting[d.token]
	w.waiting[d.token] = append(earlier, d)
	w.mu.Unlock()
	if !running {
		l := w.queue.lane(d.token)
		w.running.Go(func() { w.workOff(l, d.token) })
	}
}

// workOff runs a lane until nothing waits for it.
func (w *queueWork) workOff(l lane, token string) {
	for {
		w.mu.Lock()
		waiting := w.waiting[token]
		if len(waiting) == 0 {
			delete(w.waiting, token)
			w.mu.Unlock()
			return
		}
		w.waiting[token] = waiting[1:]
		w.mu.Unlock()
		w.slots <- struct{}{}
		w.work(l, waiting[0])
		<-w.slots
		<-w.room
	}
}

// work handles one message and tells the server.
func (w *queueWork) work(l lane, d delivery) {
	if w.stop.Err() != nil {
		w.answered(d, d.msg.Nak())
		return
	}
	late := d.received.Add(w.queue.ackWait * 3 / 4)
	if time.Now().After(late) {
		return // the server gives it to the next one
	}
	ctx, cancel := context.WithDeadline(w.grace, late)
	err := l.handle(ctx, d)
	cancel()
	if dead, ok := errors.AsType[*events.DeadLetterError](err); ok {
		if err = w.queue.inbox.bury(w.grace, d, dead.Reason); err == nil {
			w.queue.inbox.log.Warn("message refused for good", "subject", d.msg.Subject(), "message", d.seq(), "reason", dead.Reason)
			w.answered(d, d.msg.TermWithReason(oneLine(dead.Reason)))
			return
		}
	}
	switch {
	case err == nil:
		w.answered(d, l.ack(w.grace, d))
	case !errors.Is(err, errGone):
		w.again(d, err)
	}
}

// again has a message delivered again.
func (w *queueWork) again(d delivery, err error) {
	if w.stop.Err() != nil {
		w.answered(d, d.msg.Nak()) // whoever is next need not wait
		return
	}
	later, ok := errors.AsType[*againError](err)
	if !ok {
		later = &againError{nakDelay(d.meta.NumDelivered, w.queue.longest), err}
	}
	if later.err != nil {
		w.queue.inbox.log.Warn("message not handled, it comes again", "subject", d.msg.Subject(), "message", d.seq(),
			"delivery", d.meta.NumDelivered, "delay", later.delay, "error", later.err)
	}
	w.answered(d, d.msg.NakWithDelay(later.delay))
}

// answered logs an answer to the server that could not be sent; the message then
// comes again.
func (w *queueWork) answered(d delivery, err error) {
	if err != nil {
		w.queue.inbox.log.Warn("message not acknowledged", "subject", d.msg.Subject(), "message", d.seq(), "error", err)
	}
}

// nakDelay is how long a message waits after its nth delivery.
func nakDelay(delivered uint64, longest time.Duration) time.Duration {
	delay := nakFirst
	for n := uint64(1); n < delivered && delay < longest; n++ {
		delay *= 2
	}
	return min(delay, longest)
}
