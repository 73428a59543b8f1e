package jetstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// What is told to the server of a message that it has delivered.
const (
	ackDone    = "+ACK" // it leaves the queue
	ackAgain   = "-NAK" // it is to come again
	ackWorking = "+WPI" // it is in good hands: its time begins anew
	ackDead    = "+TERM"
)

// delivery is one message on its way through a lane.
type delivery struct {
	subject string
	header  nats.Header // nil also where it could not be read
	body    []byte
	size    int    // of both, about, in bytes
	copied  bool   // the server made it of another message
	parked  bool   // header and body were let go of, and are to be read again
	reply   string // where the server is told
	seq     uint64
	stored  time.Time
	times   uint64    // it was delivered
	token   string    // of the subject: the instance's or the caller's
	owned   time.Time // since when, at the earliest, the server waits for an answer
}

// newDelivery reads what was delivered; nil where no consumer did it.
func newDelivery(m *nats.Msg) *delivery {
	info, ok := parseMeta(m.Reply)
	if !ok {
		return nil
	}
	d := &delivery{
		subject: m.Subject, header: m.Header, copied: events.Copied(m.Header), body: m.Data, reply: m.Reply,
		seq: info.seq, stored: info.time, times: info.delivered, owned: time.Now(),
	}
	if tokens := strings.SplitN(d.subject, ".", 4); len(tokens) > 2 {
		d.token = tokens[2]
	}
	d.size = len(d.body)
	for name, values := range d.header {
		for _, v := range values {
			d.size += len(name) + len(v)
		}
	}
	return d
}

// id names the message for good, whatever is delivered again.
func (d *delivery) id() string { return messageID(d.seq, d.stored) }

func messageID(seq uint64, stored time.Time) string {
	return strconv.FormatUint(seq, 10) + "/" + stored.UTC().Format(time.RFC3339Nano)
}

// park lets go of what takes room while a message waits.
func (d *delivery) park() { d.header, d.body, d.size, d.parked = nil, nil, 0, true }

// unpark reads again what was let go of; errGone where the message has left.
func (d *delivery) unpark(ctx context.Context, in *Inbox) error {
	m, err := readStored(ctx, in.js.Conn(), get{stream: in.stream, Seq: d.seq})
	switch {
	case notFound(err), err == nil && !m.Time.Equal(d.stored):
		return errGone
	case err != nil:
		return fmt.Errorf("read a message again: %w", err)
	}
	d.header, d.body, d.size, d.parked = m.header, m.Data, len(m.RawHdr)+len(m.Data), false
	return nil
}

// again asks for another delivery after a delay.
func (d *delivery) again(nc *nats.Conn, delay time.Duration) error {
	if delay <= 0 {
		return nc.Publish(d.reply, []byte(ackAgain))
	}
	return nc.Publish(d.reply, fmt.Appendf(nil, `%s {"delay":%d}`, ackAgain, delay.Nanoseconds()))
}
