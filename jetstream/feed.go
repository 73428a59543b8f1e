package jetstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// feedHeartbeat is how often the server says that an idle consumer lives
	// (design §2, 2).
	feedHeartbeat = 500 * time.Millisecond
	// feedSilence is when a consumer counts as lost: three heartbeats.
	feedSilence = 3 * feedHeartbeat
	// feedBuffer holds what the server sends ahead, in messages. Its window is
	// 32 MiB, and a message takes over 300 bytes of it.
	feedBuffer = 128 << 10
	// smallBuffer is for a feed that few messages come on.
	smallBuffer = 256
	// feedLinger is how long the server keeps the consumer of a reader that died.
	feedLinger = 30 * time.Second
)

// feed is an ordered reader of a stream: an ephemeral push consumer with flow
// control, without acks. A message missed, or silence, ends it: what reads it
// opens another one, and has a chance to see that the stream is another one too.
type feed struct {
	nc       *nats.Conn
	stream   string
	consumer string
	sub      *nats.Subscription
	messages chan *nats.Msg
	pending  uint64 // messages that matched when it was opened
	next     uint64 // consumer sequence of the next message
	silence  *time.Timer
}

// meta is what a message's reply subject says.
type meta struct {
	delivered uint64 // so many times, this one included
	seq       uint64 // in the stream
	index     uint64 // in the consumer, from 1
	time      time.Time
	pending   uint64 // messages that follow it now
}

// openFeed opens a feed; cfg says what it delivers, buffer how many messages may wait. The error wraps
// projections.ErrNoQuorum where nobody answers, and is an *apiError where the
// server refuses.
func openFeed(ctx context.Context, nc *nats.Conn, stream string, cfg natsjs.ConsumerConfig, buffer int) (*feed, error) {
	f := &feed{
		nc:       nc,
		stream:   stream,
		consumer: "epum-" + uuid.NewString(),
		messages: make(chan *nats.Msg, buffer),
		next:     1,
		silence:  time.NewTimer(feedSilence),
	}
	cfg.Name = f.consumer
	cfg.DeliverSubject = nc.NewInbox()
	cfg.AckPolicy = natsjs.AckNonePolicy
	cfg.MaxDeliver = 1
	cfg.FlowControl = true
	cfg.IdleHeartbeat = feedHeartbeat
	cfg.InactiveThreshold = feedLinger
	cfg.MemoryStorage = true
	cfg.Replicas = 1
	var err error
	if f.sub, err = nc.ChanSubscribe(cfg.DeliverSubject, f.messages); err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to %s: %w", stream, err)
	}
	request := struct {
		Stream string                `json:"stream_name"`
		Config natsjs.ConsumerConfig `json:"config"`
		Action string                `json:"action"`
	}{stream, cfg, "create"}
	var answer struct {
		Error   *apiError `json:"error"`
		Pending uint64    `json:"num_pending"`
	}
	err = askAPI(ctx, nc, "CONSUMER.CREATE."+stream+"."+f.consumer, request, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("jetstream: open a consumer of %s: %w", stream, err)
	}
	f.pending = answer.Pending
	return f, nil
}

// close ends the feed. It waits for nobody: the server forgets the consumer by
// itself where this is lost.
func (f *feed) close() {
	_ = f.sub.Unsubscribe()
	_ = f.nc.Publish("$JS.API.CONSUMER.DELETE."+f.stream+"."+f.consumer, nil)
	f.silence.Stop()
}

// read gives the next message. The error wraps ErrTailBroken where the consumer
// is lost or a message is missing, and is that of ctx where it ended.
func (f *feed) read(ctx context.Context) (*nats.Msg, meta, error) {
	return f.readUnless(ctx, func(*nats.Msg) bool { return false })
}

// readUntilIdle is read, but gives nil once the server says that it has nothing
// to send and all that it sent has come.
func (f *feed) readUntilIdle(ctx context.Context) (*nats.Msg, meta, error) {
	return f.readUnless(ctx, func(*nats.Msg) bool { return true })
}

// readUpTo is read, but gives nil once the server says that it has looked through the
// stream up to a sequence, and all that it sent has come.
func (f *feed) readUpTo(ctx context.Context, seq uint64) (*nats.Msg, meta, error) {
	return f.readUnless(ctx, func(heartbeat *nats.Msg) bool {
		looked, err := strconv.ParseUint(events.Header(heartbeat.Header, "Nats-Last-Stream"), 10, 64)
		return err == nil && looked >= seq
	})
}

// readUnless is read, but gives nil after a heartbeat of an idle consumer that idle
// takes for the end.
func (f *feed) readUnless(ctx context.Context, idle func(heartbeat *nats.Msg) bool) (*nats.Msg, meta, error) {
	for {
		m, err := f.await(ctx)
		if err != nil {
			return nil, meta{}, err
		}
		info, ok, err := f.accept(m)
		if ok || err != nil {
			return m, info, err
		}
		// A heartbeat, which accept has compared. One that says that flow control has
		// stalled the consumer comes in the middle of what there is.
		if events.Header(m.Header, "Nats-Last-Consumer") != "" && events.Header(m.Header, headerStalled) == "" && idle(m) {
			return nil, meta{}, nil
		}
	}
}

// tryRead is read where a message has come already; ok is false where none has.
func (f *feed) tryRead() (m *nats.Msg, info meta, ok bool, err error) {
	for {
		select {
		case m = <-f.messages:
		default:
			return nil, meta{}, false, nil
		}
		if info, ok, err = f.accept(m); ok || err != nil {
			return m, info, ok, err
		}
	}
}

func (f *feed) await(ctx context.Context) (*nats.Msg, error) {
	select {
	case m := <-f.messages:
		return m, nil
	default:
	}
	f.silence.Reset(feedSilence)
	select {
	case m := <-f.messages:
		return m, nil
	case <-f.silence.C:
		return nil, fmt.Errorf("%w: nothing was heard of the consumer of %s for %s", ErrTailBroken, f.stream, feedSilence)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// accept checks what came; ok says that it is a message of the stream.
func (f *feed) accept(m *nats.Msg) (info meta, ok bool, err error) {
	if len(m.Data) == 0 && events.Header(m.Header, "Status") != "" {
		return meta{}, false, f.control(m)
	}
	info, ok = parseMeta(m.Reply)
	switch {
	case !ok:
		return meta{}, false, fmt.Errorf("%w: a message of %s without metadata: %q", ErrTailBroken, f.stream, m.Reply)
	case info.index != f.next:
		return meta{}, false, fmt.Errorf("%w: message %d of the consumer of %s came where %d was due", ErrTailBroken, info.index, f.stream, f.next)
	}
	f.next++
	return info, true, nil
}

// control answers flow control, and compares heartbeats with what came.
func (f *feed) control(m *nats.Msg) error {
	if events.Header(m.Header, "Status") != "100" {
		return fmt.Errorf("%w: the server ended the consumer of %s: %s", ErrTailBroken, f.stream, events.Header(m.Header, "Description"))
	}
	answer := m.Reply
	if answer == "" {
		answer = events.Header(m.Header, headerStalled)
	}
	if answer != "" {
		if err := f.nc.Publish(answer, nil); err != nil {
			return fmt.Errorf("%w: flow control of %s: %w", ErrTailBroken, f.stream, err)
		}
	}
	if last := events.Header(m.Header, "Nats-Last-Consumer"); last != "" {
		if n, err := strconv.ParseUint(last, 10, 64); err == nil && n >= f.next {
			return fmt.Errorf("%w: %d messages of the consumer of %s are missing", ErrTailBroken, n+1-f.next, f.stream)
		}
	}
	return nil
}

// parseMeta reads $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer
// seq>.<time>.<pending>, or the same with <domain>.<account> after ACK and maybe
// a token at the end.
func parseMeta(reply string) (meta, bool) {
	rest, ok := strings.CutPrefix(reply, "$JS.ACK.")
	if !ok {
		return meta{}, false
	}
	skip := 2
	if strings.Count(rest, ".") >= 8 {
		skip = 4
	}
	for range skip {
		_, rest, ok = strings.Cut(rest, ".")
		if !ok {
			return meta{}, false
		}
	}
	var numbers [5]uint64
	for n := range numbers {
		var digits string
		digits, rest, _ = strings.Cut(rest, ".")
		v, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return meta{}, false
		}
		numbers[n] = v
	}
	return meta{
		delivered: numbers[0], seq: numbers[1], index: numbers[2], time: time.Unix(0, int64(numbers[3])).UTC(), pending: numbers[4],
	}, true
}
