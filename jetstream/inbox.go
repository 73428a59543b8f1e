package jetstream

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// opInstanceInfo is the report that the inbox holds (design §4).
	opInstanceInfo = "instance_info"
	// inboxConsumer is the durable that all processes share.
	inboxConsumer = "workers"
	// inboxAckWait is when the server gives a report to another process.
	inboxAckWait = 30 * time.Second
	// inboxPatience bounds the handling of one report; it is then given back.
	inboxPatience = inboxAckWait / 2
	// inboxAckPending is how many reports may be out at all processes together.
	inboxAckPending = 2000
	// inboxPull is how many reports one process asks for at once.
	inboxPull = 512
	// inboxWorkers is how many instances' reports are handled at once: as many
	// single appends in flight reach the log's ceiling.
	inboxWorkers = 64
	// inboxGrace is how long a handler may go on after the inbox was stopped.
	inboxGrace = 10 * time.Second
	// inboxDrain is how long a stop waits for reports that are on their way.
	inboxDrain = 200 * time.Millisecond
	// nakFirst doubles with each delivery up to nakLongest.
	nakFirst   = 100 * time.Millisecond
	nakLongest = 30 * time.Second
)

// ReportHandler handles one report: the instance's id (a plain name) and the body.
// nil: it is done. An *events.DeadLetterError: no repeat can help. Any other error:
// it comes again.
type ReportHandler func(ctx context.Context, nodeID string, body []byte) error

// Inbox is the work queue of instance_info reports of a cell (design §4).
type Inbox struct {
	js     natsjs.JetStream
	pub    *publisher
	prefix events.Prefix
	stream string
	log    *slog.Logger
}

// Inbox is the cell's queue of reports.
func (c *Cell) Inbox() *Inbox {
	return &Inbox{js: c.js, pub: c.pub, prefix: c.cfg.Prefix, stream: c.streams.inbox.Name, log: c.cfg.Logger}
}

// Consume hands reports to handle until ctx ends; it shares them with every other
// process that consumes. Reports of one instance are handled one after the other,
// in their order as far as none had to be repeated; those of different instances
// at once. A report leaves the inbox when it was handled, or when the stream of
// the dead has it. Consume outlives lost connections and servers. When ctx ends,
// handlers that run may go on for 10 s, and reports not begun go back at once; then
// it returns ctx's error.
func (in *Inbox) Consume(ctx context.Context, handle ReportHandler) error {
	pause := newPause(50*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		if err := in.consume(ctx, handle); err != nil && ctx.Err() == nil {
			in.log.Warn("inbox interrupted", "stream", in.stream, "error", err)
		}
		if time.Since(began) > inboxAckWait {
			pause.policy.Reset()
		}
		pause.wait(ctx)
	}
	return ctx.Err()
}

// consume is one life of the consumer.
func (in *Inbox) consume(ctx context.Context, handle ReportHandler) error {
	open, cancel := context.WithTimeout(ctx, 2*readPatience)
	defer cancel()
	consumer, err := in.js.CreateOrUpdateConsumer(open, in.stream, natsjs.ConsumerConfig{
		Durable:       inboxConsumer,
		AckPolicy:     natsjs.AckExplicitPolicy,
		AckWait:       inboxAckWait,
		MaxAckPending: inboxAckPending,
		MaxDeliver:    -1,
	})
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	reports, err := consumer.Messages(natsjs.PullMaxMessages(inboxPull), natsjs.PullHeartbeat(2*time.Second))
	if err != nil {
		return fmt.Errorf("open the inbox: %w", err)
	}
	defer reports.Stop()

	grace, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	w := &inboxWork{inbox: in, stop: ctx, grace: grace, handle: handle}
	defer w.start()()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(inboxGrace, end) })()
	for {
		m, err := reports.Next(natsjs.NextContext(ctx))
		switch {
		case err == nil:
			w.take(m)
		case ctx.Err() != nil:
			giveBack(reports)
			return nil
		case errors.Is(err, natsjs.ErrNoHeartbeat):
			in.log.Debug("inbox waits for its server", "stream", in.stream)
		default:
			return fmt.Errorf("read the inbox: %w", err)
		}
	}
}

// giveBack returns what has come but was not begun, so that another process gets
// it at once and not after inboxAckWait.
func giveBack(reports natsjs.MessagesContext) {
	reports.Drain()
	for {
		m, err := reports.Next(natsjs.NextMaxWait(inboxDrain))
		if err != nil {
			return
		}
		if m.Nak() != nil {
			return
		}
	}
}

// report is one report on its way to its worker.
type report struct {
	msg      natsjs.Msg
	meta     *natsjs.MsgMetadata
	nodeID   string
	received time.Time
}

// inboxWork spreads reports over workers by their instance.
type inboxWork struct {
	inbox  *Inbox
	stop   context.Context // ended: begin nothing more
	grace  context.Context // ended: give up what runs
	handle ReportHandler
	queues [inboxWorkers]chan report
}

// start starts the workers; the function it gives waits until they are done.
func (w *inboxWork) start() (wait func()) {
	var group sync.WaitGroup
	for n := range w.queues {
		w.queues[n] = make(chan report, inboxPull/inboxWorkers)
		group.Go(func() {
			for r := range w.queues[n] {
				w.work(r)
			}
		})
	}
	return func() {
		for _, q := range w.queues {
			close(q)
		}
		group.Wait()
	}
}

func (w *inboxWork) take(m natsjs.Msg) {
	r := report{msg: m, received: time.Now()}
	var err error
	if r.meta, err = m.Metadata(); err != nil {
		w.inbox.log.Error("report without metadata", "subject", m.Subject(), "error", err)
		return
	}
	token := strings.TrimSuffix(strings.TrimPrefix(m.Subject(), string(w.inbox.prefix)+".node."), "."+opInstanceInfo)
	if r.nodeID, err = events.ParseToken(token); err != nil {
		r.nodeID = ""
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(token))
	w.queues[hash.Sum32()%inboxWorkers] <- r
}

// work handles one report and tells the server.
func (w *inboxWork) work(r report) {
	log := w.inbox.log.With("instance", r.nodeID, "report", r.meta.Sequence.Stream)
	switch {
	case w.stop.Err() != nil:
		w.answered(log, r.msg.Nak())
		return
	case time.Since(r.received) > inboxAckWait*3/4:
		return // too late: the server gives it to the next one
	}
	var err error
	if r.nodeID == "" {
		err = &events.DeadLetterError{Reason: "the subject's node id is not the canonical form of a name"}
	} else {
		ctx, cancel := context.WithTimeout(w.grace, inboxPatience)
		err = w.handle(ctx, r.nodeID, r.msg.Data())
		cancel()
	}
	if dead, ok := errors.AsType[*events.DeadLetterError](err); ok {
		if err = w.inbox.bury(w.grace, r, dead.Reason); err == nil {
			log.Warn("report refused for good", "reason", dead.Reason)
			w.answered(log, r.msg.TermWithReason(oneLine(dead.Reason)))
			return
		}
	}
	if err == nil {
		w.answered(log, r.msg.Ack())
		return
	}
	delay := nakDelay(r.meta.NumDelivered)
	log.Warn("report not handled, it comes again", "delivery", r.meta.NumDelivered, "delay", delay, "error", err)
	w.answered(log, r.msg.NakWithDelay(delay))
}

// answered logs an answer to the server that could not be sent; the report then
// comes again.
func (w *inboxWork) answered(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("report not acknowledged", "error", err)
	}
}

// nakDelay is how long a report waits after its nth delivery.
func nakDelay(delivered uint64) time.Duration {
	delay := nakFirst
	for n := uint64(1); n < delivered && delay < nakLongest; n++ {
		delay *= 2
	}
	return min(delay, nakLongest)
}
