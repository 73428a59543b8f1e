package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// pubAck is a stream's answer to a publish.
type pubAck struct {
	seq          uint64 // of the message, or of the last one of a batch
	code         int    // error code of the server; 0: stored
	text         string // of the error
	noResponders bool   // no stream listens, or it has no leader: nothing was stored
}

// Error is what an answer says that is no success.
func (a pubAck) Error() string {
	if a.noResponders {
		return "no stream answers"
	}
	return fmt.Sprintf("%s (%d)", a.text, a.code)
}

// publisher sends messages to streams and hands each sender its own answer. One
// subscription serves all, so that thousands can be in flight at once.
type publisher struct {
	nc      *nats.Conn
	prefix  string // of the reply subjects
	sub     *nats.Subscription
	next    atomic.Uint64
	waiting [32]waiters // by token; split so that senders seldom meet on a lock
}

type waiters struct {
	mu sync.Mutex
	m  map[uint64]chan *nats.Msg
}

func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{nc: nc, prefix: nc.NewInbox() + "."}
	for n := range p.waiting {
		p.waiting[n].m = map[uint64]chan *nats.Msg{}
	}
	sub, err := nc.Subscribe(p.prefix+"*", p.answered)
	if err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to the acks: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to the acks: %w", err)
	}
	p.sub = sub
	return p, nil
}

func (p *publisher) close() { _ = p.sub.Unsubscribe() }

func (p *publisher) answered(m *nats.Msg) {
	token, err := strconv.ParseUint(m.Subject[len(p.prefix):], 36, 64)
	if err != nil {
		return
	}
	if ch := p.take(token); ch != nil {
		ch <- m
	}
}

func (p *publisher) take(token uint64) chan *nats.Msg {
	w := &p.waiting[token%uint64(len(p.waiting))]
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := w.m[token]
	delete(w.m, token)
	return ch
}

// put sends a message, unless its subject would cost the connection: the error then
// wraps ErrRefused.
func (p *publisher) put(m *nats.Msg) error {
	if err := events.CheckSubject(m.Subject); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return p.nc.PublishMsg(m)
}

// send publishes a message and waits for the stream's answer, at most for
// patience. An error says that there was none: the outcome is not known.
func (p *publisher) send(ctx context.Context, m *nats.Msg, patience time.Duration) (pubAck, error) {
	sent, err := p.publish(m)
	if err != nil {
		return pubAck{}, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	return p.await(ctx, sent, timer.C)
}

// sentMessage is a message whose answer is still to come.
type sentMessage struct {
	token  uint64
	answer chan *nats.Msg
}

// publish publishes a message; await has to follow.
func (p *publisher) publish(m *nats.Msg) (sentMessage, error) {
	sent := sentMessage{token: p.next.Add(1), answer: make(chan *nats.Msg, 1)}
	w := &p.waiting[sent.token%uint64(len(p.waiting))]
	w.mu.Lock()
	w.m[sent.token] = sent.answer
	w.mu.Unlock()
	m.Reply = p.prefix + strconv.FormatUint(sent.token, 36)
	if err := p.put(m); err != nil {
		p.take(sent.token)
		return sentMessage{}, err
	}
	return sent, nil
}

// await waits for the stream's answer, until late has an element.
func (p *publisher) await(ctx context.Context, sent sentMessage, late <-chan time.Time) (pubAck, error) {
	select {
	case answer := <-sent.answer:
		return parseAck(answer)
	case <-late:
		p.take(sent.token)
		return pubAck{}, nats.ErrTimeout
	case <-ctx.Done():
		p.take(sent.token)
		return pubAck{}, ctx.Err()
	}
}

// forget gives up waiting for answers.
func (p *publisher) forget(sent []sentMessage) {
	for _, s := range sent {
		p.take(s.token)
	}
}

func parseAck(m *nats.Msg) (pubAck, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return pubAck{noResponders: true}, nil
	}
	if seq := plainAck(m.Data); seq > 0 {
		return pubAck{seq: seq}, nil
	}
	var answer struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return pubAck{}, fmt.Errorf("read the ack: %w", err)
	}
	if answer.Error != nil && answer.Error.ErrCode == 0 {
		return pubAck{}, fmt.Errorf("the ack is an error without a code: %q", m.Data)
	}
	if answer.Error != nil {
		return pubAck{code: answer.Error.ErrCode, text: answer.Error.Description}, nil
	}
	if answer.Seq == 0 {
		return pubAck{}, fmt.Errorf("the ack has no sequence: %q", m.Data)
	}
	return pubAck{seq: answer.Seq}, nil
}

// plainAck reads what nearly every answer looks like, {"stream":"epum_events",
// "seq":17}; 0: it is another one.
func plainAck(data []byte) uint64 {
	rest, plain := bytes.CutPrefix(data, []byte(`{"stream":"`))
	_, rest, found := bytes.Cut(rest, []byte(`"seq":`))
	if !plain || !found || bytes.Contains(rest, []byte(`"error"`)) {
		return 0
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	seq, err := strconv.ParseUint(string(rest[:n]), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}
