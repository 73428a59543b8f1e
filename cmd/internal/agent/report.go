package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

// How a report is sent until it is acked.
const (
	ackTimeout   = 5 * time.Second        // an ack takes milliseconds, or the server is away
	firstRetry   = 100 * time.Millisecond // doubles
	longestRetry = 5 * time.Second        // the leader's own pace of re-sending
)

// report is an instance_info (design §4). Absent fields are not known, or not
// yet.
type report struct {
	NodeID     string               `json:"node_id"`
	State      events.InstanceState `json:"state"`
	Site       string               `json:"site"`
	Counter    uint64               `json:"update_counter"` // 1 is an instance's first report
	PID        int                  `json:"pid,omitempty"`
	Hostname   string               `json:"hostname,omitempty"`
	PublicIP   string               `json:"public_ip,omitempty"`
	PrivateIP  string               `json:"private_ip,omitempty"`
	ExitCode   *int                 `json:"exit_code,omitempty"`
	ExitSignal string               `json:"exit_signal,omitempty"` // as SIGKILL
	StderrTail string               `json:"stderr_tail,omitempty"`
	Error      string               `json:"error,omitempty"` // one sentence
}

// line is what all reporters of a program share.
type line struct {
	nc     *nats.Conn
	js     natsjs.JetStream
	prefix events.Prefix
	host   string // this machine's name
	log    *slog.Logger
	group  *sync.WaitGroup
}

func newLine(nc *nats.Conn, prefix events.Prefix, log *slog.Logger, group *sync.WaitGroup) (*line, error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return nil, err
	}
	return &line{nc: nc, js: js, prefix: prefix, log: log, group: group}, nil
}

// publish sends one report until it is acked. The error is ctx's.
func (l *line) publish(ctx context.Context, rep report) error {
	body, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.MaxInterval, pace.Multiplier = firstRetry, longestRetry, 2
	level := slog.LevelWarn // then quieter: many instances may be waiting for one server
	_, err = backoff.Retry(ctx, func() (*natsjs.PubAck, error) {
		attempt, cancel := context.WithTimeout(ctx, ackTimeout)
		defer cancel()
		return l.js.Publish(attempt, l.prefix.Node(rep.NodeID, events.OpInstanceInfo), body)
	}, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		l.log.Log(ctx, level, "report not acked, trying again", "instance", rep.NodeID, "state", rep.State, "error", err)
		level = slog.LevelDebug
	}))
	return err
}

// reporter sends one instance's reports in order. Any goroutine may push.
type reporter struct {
	line    *line
	drained func() // called when the last report was acked, by a goroutine that has nothing else left to do

	mu      sync.Mutex
	queue   []report // [0] may be under way
	sending bool
}

// push queues reports. One of the same state that still waits is replaced, so
// the queue never holds more than the states there are.
func (r *reporter) push(ctx context.Context, reports ...report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range reports {
		if last := len(r.queue) - 1; last > 0 && r.queue[last].State == rep.State {
			r.queue[last] = rep
		} else {
			r.queue = append(r.queue, rep)
		}
	}
	if !r.sending && len(r.queue) > 0 {
		r.sending = true
		r.line.group.Go(func() { r.drain(ctx) })
	}
}

// idle reports whether everything was acked.
func (r *reporter) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) == 0
}

func (r *reporter) drain(ctx context.Context) {
	for {
		rep, ok := r.next()
		if !ok {
			r.drained()
			return
		}
		if r.line.publish(ctx, rep) != nil {
			return // ctx is done; the next agent reports what was not acked
		}
		r.mu.Lock()
		r.queue = r.queue[1:]
		r.mu.Unlock()
	}
}

func (r *reporter) next() (report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.queue, r.sending = nil, false
		return report{}, false
	}
	return r.queue[0], true
}
