package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// pullBytes bounds what one process has the server send ahead: it cuts off a
	// connection that 64 MiB wait for.
	pullBytes = 16 << 20
	// pullExpires is how long the server keeps a request.
	pullExpires = 30 * time.Second
	// pullHeartbeat is how often the server says that it has nothing.
	pullHeartbeat = time.Second
	// pullSilence is how often it is looked whether it has said anything.
	pullSilence = 3 * pullHeartbeat
	// pullFlush is how long a stop waits for messages that are on their way.
	pullFlush = time.Second
)

// pull asks a durable consumer for messages. Unlike the client's own it tells what
// the server says from what a stream has by where it was sent to, so that a message
// with the headers of an answer is a message like any other; and it ends where the
// consumer is gone, or silent.
type pull struct {
	nc       *nats.Conn
	subject  string // of requests
	inbox    string
	sub      *nats.Subscription
	messages chan *nats.Msg
	batch    int // messages that the server may send ahead
	open     int // of these were asked for and have not come
}

func openPull(nc *nats.Conn, stream, consumer string, batch int) (*pull, error) {
	p := &pull{
		nc: nc, subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer, inbox: nc.NewInbox(), batch: batch,
		messages: make(chan *nats.Msg, 2*batch), // what the server says must have room, too
	}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox, p.messages); err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to %s: %w", stream, err)
	}
	return p, nil
}

// each calls take with what comes until ctx ends, or the consumer is lost.
func (p *pull) each(ctx context.Context, take func(*nats.Msg)) error {
	silence := time.NewTicker(pullSilence)
	defer silence.Stop()
	heard := true
	for {
		if err := p.ask(); err != nil {
			return err
		}
		select {
		case m := <-p.messages:
			heard = true
			if m.Subject == p.inbox {
				if err := p.said(m); err != nil {
					return err
				}
				continue
			}
			p.open--
			take(m)
		case <-silence.C:
			if !heard {
				return fmt.Errorf("%w: nothing was heard for %s", ErrTailBroken, pullSilence)
			}
			heard = false
		case <-ctx.Done():
			return nil
		}
	}
}

// ask asks for more once half of what was asked for has come.
func (p *pull) ask() error {
	if p.open > p.batch/2 {
		return nil
	}
	body, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{p.batch - p.open, pullBytes, pullExpires, pullHeartbeat})
	if err != nil {
		return err
	}
	p.open = p.batch
	return p.nc.PublishRequest(p.subject, p.inbox, body)
}

// said hears what the server says.
func (p *pull) said(m *nats.Msg) error {
	switch events.Header(m.Header, "Status") {
	case "100": // it lives
		return nil
	case "503":
		return errors.New("the consumer is not there")
	}
	left, err := strconv.Atoi(events.Header(m.Header, "Nats-Pending-Messages"))
	if err != nil {
		return fmt.Errorf("the server ended the request: %s", events.Header(m.Header, "Description"))
	}
	p.open = max(p.open-left, 0) // it has expired, or has had its bytes
	return nil
}

// close ends it, and calls back with what has come and was not taken: another
// process is to get it at once and not when the server has waited long enough.
func (p *pull) close(back func(*nats.Msg)) {
	if p.sub.Drain() != nil || p.nc.FlushTimeout(pullFlush) != nil {
		return // the connection is lost
	}
	for {
		select {
		case m := <-p.messages:
			if m.Subject != p.inbox {
				back(m)
			}
		default:
			return
		}
	}
}
