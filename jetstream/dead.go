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
	HeaderDeadHeaders   = "Epum-Dead-Headers"   // its headers as a quoted string, where they could not be read
)

const (
	// maxReason is the longest reason that is kept, in bytes.
	maxReason = 1 << 10
	// maxDeadSubject is the most of the original subject that is kept, in bytes:
	// twice what a line of the protocol has.
	maxDeadSubject = 8 << 10
	// maxUnread is how much is kept of headers that cannot be read, in bytes; quoted
	// it may be four times as long.
	maxUnread = 1 << 10
	// deadRoom is what the headers of a dead letter may take, in bytes.
	deadRoom = maxDeadSubject + maxReason + 4*maxUnread + 2<<10
)

// bury moves a message to the dead letters and returns when they have it. A repeat
// within two minutes is told by the message id.
func (in *Inbox) bury(ctx context.Context, d *delivery, reason string) error {
	unread, err := in.unreadHeaders(ctx, d)
	if err != nil {
		return err
	}
	if unread != "" {
		reason = "its headers cannot be read: " + reason
	}
	m := &nats.Msg{
		Subject: deadSubject(in.prefix, d.subject),
		Data:    d.body,
		Header: nats.Header{
			HeaderDeadReason:  {oneLine(reason)},
			HeaderDeadSubject: {fit(d.subject, maxDeadSubject)},
			HeaderDeadTime:    {d.stored.UTC().Format(time.RFC3339Nano)},
			headerMsgID:       {d.id()},
		},
	}
	if unread != "" {
		m.Header[HeaderDeadHeaders] = []string{unread}
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

// unreadHeaders gives the beginning of a message's headers as a quoted string; ""
// where it has none or they can be read.
func (in *Inbox) unreadHeaders(ctx context.Context, d *delivery) (string, error) {
	if d.header != nil || d.copied {
		return "", nil
	}
	m, err := readStored(ctx, in.js.Conn(), get{stream: in.stream, Seq: d.seq})
	if err != nil && !notFound(err) {
		return "", fmt.Errorf("bury a message: %w", err)
	}
	if m.header != nil || len(m.RawHdr) == 0 {
		return "", nil
	}
	return strconv.QuoteToASCII(string(m.RawHdr[:min(len(m.RawHdr), maxUnread)])), nil
}

// deadSubject is where a message of a subject is buried. Whoever sent it chose the
// subject: one that cannot be sent to is made what can, and stands in the header.
func deadSubject(prefix events.Prefix, original string) string {
	subject := strings.Map(func(r rune) rune {
		if r <= ' ' {
			return '_'
		}
		return r
	}, prefix.Dead(original))
	if len(subject) > events.MaxSubjectBytes {
		subject = strings.TrimRight(subject[:events.MaxSubjectBytes], ".")
	}
	return subject
}

// oneLine makes a reason fit for a header.
func oneLine(reason string) string { return fit(reason, maxReason) }

// fit makes a text fit for a header, with at most so many bytes.
func fit(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}
