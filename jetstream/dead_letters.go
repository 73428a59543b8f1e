package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// ErrTruncated is returned for a dead letter that cannot be sent again, since only
// the beginning of its body was kept.
var ErrTruncated = errors.New("jetstream: only the beginning of the body was kept")

// errNoLetter is what is said of a message that says of none whose place it is in.
var errNoLetter = errors.New("no dead letter: somebody's answer maybe, that was sent here")

// DeadLetter is a message that nobody could make sense of.
type DeadLetter struct {
	Seq       uint64              `json:"seq"`       // among the dead letters
	Arrived   time.Time           `json:"arrived"`   // in the inbox, UTC
	Subject   string              `json:"subject"`   // that it was sent to
	Reason    string              `json:"reason"`    // one line
	Size      int                 `json:"size"`      // of the body, in bytes
	Truncated bool                `json:"truncated"` // only the beginning of the body was kept
	Headers   map[string][]string `json:"headers"`   // of the dead letter; nil in a list
	Body      []byte              `json:"-"`         // nil in a list
}

// Dead is the dead letters of a cell. It neither needs nor creates an open cell.
type Dead struct {
	nc     *nats.Conn
	prefix events.Prefix
	stream string
}

// NewDead gives the dead letters of the cell with a prefix.
func NewDead(nc *nats.Conn, prefix events.Prefix) *Dead {
	return &Dead{nc: nc, prefix: prefix, stream: prefix.Stream(events.StreamDead)}
}

// List gives the dead letters, the oldest first and without their bodies, at most
// limit of them (0: all); more is how many follow. The error wraps
// projections.ErrNotFound where there was never an epum, and
// projections.ErrNoQuorum where nobody answers.
func (d *Dead) List(ctx context.Context, limit int) (letters []DeadLetter, more int, err error) {
	f, err := openFeed(ctx, d.nc, d.stream, natsjs.ConsumerConfig{HeadersOnly: true}, feedBuffer)
	if err != nil {
		return nil, 0, fmt.Errorf("list dead letters: %w", d.known(err))
	}
	defer f.close()
	for n := range int(f.pending) {
		if limit > 0 && n == limit {
			return letters, int(f.pending) - limit, nil
		}
		m, info, err := f.readUntilIdle(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("list dead letters: %w", err)
		}
		if m == nil { // the rest was retried or purged meanwhile
			break
		}
		letter := deadLetter(info.seq, info.time, own(m.Header))
		if size, err := strconv.Atoi(events.Header(m.Header, "Nats-Msg-Size")); err == nil && !letter.Truncated {
			letter.Size = size
		}
		letters = append(letters, letter)
	}
	return letters, 0, nil
}

// Get gives one dead letter with its body; projections.ErrNotFound where there is
// none.
func (d *Dead) Get(ctx context.Context, seq uint64) (DeadLetter, error) {
	m, err := d.read(ctx, seq)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	letter := deadLetter(m.Seq, m.Time, m.header)
	letter.Headers, letter.Body = m.header, m.Data
	if !letter.Truncated {
		letter.Size = len(m.Data)
	}
	return letter, nil
}

// Retry sends a dead letter again to the subject that it was sent to, under a
// message id of its own, and then deletes it: should the second fail, the first may
// happen again under the same id. It gives the id, which a durable command's
// outcome is kept by. ErrTruncated: it has no whole body. The error wraps
// events.ErrUnavailable where nothing takes it.
func (d *Dead) Retry(ctx context.Context, seq uint64) (id string, err error) {
	letter, err := d.Get(ctx, seq)
	if err != nil {
		return "", err
	}
	switch {
	case letter.Subject == "":
		return "", fmt.Errorf("%w: send dead letter %d again: %w", ErrRefused, seq, errNoLetter)
	case letter.Truncated:
		return "", fmt.Errorf("dead letter %d: %w", seq, ErrTruncated)
	}
	if err := events.CheckSubject(letter.Subject); err != nil {
		return "", fmt.Errorf("send dead letter %d again: %w", seq, err)
	}
	id = "dead-" + strconv.FormatUint(seq, 10) + "-" + strconv.FormatInt(letter.Arrived.UnixNano(), 36)
	m := &nats.Msg{Subject: letter.Subject, Data: letter.Body, Header: nats.Header{
		headerMsgID: {id}, "Nats-Expected-Stream": {d.prefix.Stream(events.StreamInbox)},
	}}
	reply, err := d.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return "", fmt.Errorf("send dead letter %d again: %w: %w", seq, events.ErrUnavailable, err)
	}
	ack, err := parseAck(reply)
	if v := judge(ack, err); v != verdictStored {
		if err == nil {
			err = ack
		}
		return "", fmt.Errorf("send dead letter %d again: %w: %w", seq, events.ErrUnavailable, err)
	}
	return id, d.Delete(ctx, seq)
}

// Delete deletes a dead letter for good. One that has gone is no error.
func (d *Dead) Delete(ctx context.Context, seq uint64) error {
	if err := deleteStored(ctx, d.nc, d.stream, seq); err != nil {
		return fmt.Errorf("delete dead letter %d: %w", seq, err)
	}
	return nil
}

func (d *Dead) read(ctx context.Context, seq uint64) (stored, error) {
	if seq == 0 {
		return stored{}, projections.ErrNotFound
	}
	m, err := readStored(ctx, d.nc, get{stream: d.stream, Seq: seq})
	return m, d.known(err)
}

// known makes of a stream that does not exist one without the letter.
func (d *Dead) known(err error) error {
	if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeStreamNotFound {
		return fmt.Errorf("%w: there is no stream %s", projections.ErrNotFound, d.stream)
	}
	return err
}

func deadLetter(seq uint64, stored time.Time, h nats.Header) DeadLetter {
	if events.Header(h, HeaderDeadSubject) == "" {
		return DeadLetter{Seq: seq, Reason: errNoLetter.Error(), Arrived: stored.UTC()}
	}
	l := DeadLetter{
		Seq: seq, Subject: events.Header(h, HeaderDeadSubject), Reason: events.Header(h, HeaderDeadReason), Arrived: stored.UTC(),
	}
	if arrived, err := time.Parse(time.RFC3339Nano, events.Header(h, HeaderDeadTime)); err == nil {
		l.Arrived = arrived
	}
	if size, err := strconv.Atoi(events.Header(h, HeaderDeadTruncated)); err == nil {
		l.Truncated, l.Size = true, size
	}
	return l
}
