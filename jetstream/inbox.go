package jetstream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

// Inbox is the work queue of a cell: the instance_info reports (design §4), and
// the durable commands (design §3).
type Inbox struct {
	js     natsjs.JetStream
	pub    *publisher
	prefix events.Prefix
	stream string
	log    *slog.Logger
}

// Inbox is the cell's queue of reports and durable commands.
func (c *Cell) Inbox() *Inbox {
	return &Inbox{js: c.js, pub: c.pub, prefix: c.cfg.Prefix, stream: c.streams.inbox.Name, log: c.cfg.Logger}
}

// OldestCommand is when the oldest durable command was published that is still in the
// inbox, by the stream's clock; zero: there is none. The error wraps
// projections.ErrNoQuorum where nobody answers.
func (in *Inbox) OldestCommand(ctx context.Context) (time.Time, error) {
	m, err := readStored(ctx, in.js.Conn(), get{stream: in.stream, Seq: 1, Next: string(in.prefix) + ".inbox.*.*"})
	if notFound(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("oldest durable command: %w", err)
	}
	return m.Time.UTC(), nil
}

// ReportHandler handles one report: the instance's id (a plain name) and the body.
// nil: it is done. An *events.DeadLetterError: no repeat can help. Any other error:
// it comes again.
type ReportHandler func(ctx context.Context, nodeID string, body []byte) error

// Consume hands reports to handlers until ctx ends; it shares them with every other
// process that consumes. Reports of one instance are handled one after the other,
// in their order as far as none had to be repeated, and by one handler that lanes
// gives for as long as there are any; those of different instances at once. A report leaves the inbox when it was handled, or when the stream of
// the dead has it. Consume outlives lost connections and servers. When ctx ends,
// handlers that run may go on for 10 s, and reports not begun go back at once; then
// it returns ctx's error.
func (in *Inbox) Consume(ctx context.Context, lanes func() ReportHandler) error {
	q := queue{
		inbox:    in,
		consumer: "workers",
		filter:   string(in.prefix) + ".node.*." + events.OpInstanceInfo,
		ackWait:  10 * time.Second, // what a process that dies has in hand comes again as late
		pending:  2000,
		pull:     512,
		longest:  30 * time.Second,
		grace:    10 * time.Second,
		lane:     func(string) lane { return reportLane{in.js.Conn(), lanes()} },
	}
	return q.run(ctx)
}

// reportLane handles reports.
type reportLane struct {
	nc     *nats.Conn
	report ReportHandler
}

func (l reportLane) handle(ctx context.Context, d *delivery) error {
	nodeID, err := events.ParseToken(d.token)
	if err != nil {
		return &events.DeadLetterError{Reason: "the subject's node id is not the canonical form of a name"}
	}
	return l.report(ctx, nodeID, d.body)
}

// ack waits for no answer: a report that comes again changes nothing.
func (l reportLane) ack(_ context.Context, d *delivery) error {
	return l.nc.Publish(d.reply, []byte(ackDone))
}
