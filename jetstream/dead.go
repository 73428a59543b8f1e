package jetstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// The headers of a dead letter (design §4).
const (
	HeaderDeadReason    = "Epum-Dead-Reason"    // why, in one line
	HeaderDeadSubject   = "Epum-Dead-Subject"   // the subject that it was sent to
	HeaderDeadTime      = "Epum-Dead-Time"      // its arrival, RFC 3339 with nanoseconds, UTC
	HeaderDeadTruncated = "Epum-Dead-Truncated" // length of the body, in bytes, where only its beginning was kept
)

const (
	// maxReason is the longest reason that is kept, in bytes.
	maxReason = 1 << 10
	// deadRoom is what the headers of a dead letter may take, in bytes.
	deadRoom = 4 << 10
)

// bury moves a message to the dead letters and returns when they have it. A repeat
// within two minutes is told by the message id.
func (in *Inbox) bury(ctx context.Context, d delivery, reason string) error {
	m := &nats.Msg{
		Subject: in.prefix.Dead(d.msg.Subject()),
		Data:    d.msg.Data(),
		Header: nats.Header{
			HeaderDeadReason:  {oneLine(reason)},
			HeaderDeadSubject: {d.msg.Subject()},
			HeaderDeadTime:    {d.meta.Timestamp.UTC().Format(time.RFC3339Nano)},
			headerMsgID:       {d.id()},
		},
	}
	if most := max(int(in.pub.nc.MaxPayload())-deadRoom, 0); len(m.Data) > most {
		m.Header[HeaderDeadTruncated] = []string{strconv.Itoa(len(m.Data))}
		m.Data = m.Data[:most]
	}
	ack, err := in.pub.send(ctx, m, ackPatience)
	switch {
	case err != nil:
		return fmt.Errorf("bury a message: %w: %w", events.ErrUnavailable, err)
	case judge(ack, nil) != verdictStored:
		return fmt.Errorf("bury a message: %w: %w", events.ErrUnavailable, ack)
	}
	return nil
}

// oneLine makes a text fit for a header.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}
