package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// readPatience bounds one request to a stream's leader. A server that has the
// message answers in a millisecond; a longer silence is a lost leader.
const readPatience = 2 * time.Second

// stored is a message as a stream's leader has it.
type stored struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	RawHdr  []byte    `json:"hdrs,omitempty"`
	Data    []byte    `json:"data,omitempty"`
	Time    time.Time `json:"time"`

	header nats.Header // nil also where they cannot be read, as in what is delivered, and where it is a copy
	copied bool        // the server made it of another message
}

// get is a request for one message: by sequence, the last of a subject, or the
// next of a subject from a sequence or a time on.
type get struct {
	Seq    uint64     `json:"seq,omitempty"`
	Last   string     `json:"last_by_subj,omitempty"`
	Next   string     `json:"next_by_subj,omitempty"`
	Since  *time.Time `json:"start_time,omitempty"`
	stream string
}

type apiError struct {
	Code    int    `json:"code"`
	ErrCode int    `json:"err_code"`
	Text    string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Text, e.ErrCode) }

// readStored asks the stream's leader, which alone answers this request. The
// error wraps projections.ErrNotFound where there is no such message, and
// projections.ErrNoQuorum where nobody answers.
func readStored(ctx context.Context, nc *nats.Conn, req get) (stored, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Message *stored   `json:"message"`
	}
	if err := askAPI(ctx, nc, "STREAM.MSG.GET."+req.stream, req, &answer); err != nil {
		return stored{}, err
	}
	switch {
	case answer.Error != nil && answer.Error.ErrCode == codeNoMessage:
		return stored{}, projections.ErrNotFound
	case answer.Error != nil:
		return stored{}, fmt.Errorf("%w: %w", projections.ErrNoQuorum, answer.Error)
	case answer.Message == nil:
		return stored{}, fmt.Errorf("%w: an empty answer", projections.ErrNoQuorum)
	}
	m := *answer.Message
	if h, err := nats.DecodeHeadersMsg(m.RawHdr); err == nil {
		m.header, m.copied = own(h), events.Copied(h)
	}
	return m, nil
}

// deleteStored deletes one message of a stream; one that has gone is none of its
// errors. The error wraps projections.ErrNoQuorum where nobody answers.
func deleteStored(ctx context.Context, nc *nats.Conn, stream string, seq uint64) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	request := struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true}
	err := askAPI(ctx, nc, "STREAM.MSG.DELETE."+stream, request, &answer)
	switch {
	case err != nil:
		return err
	case answer.Error == nil:
		return nil
	}
	_, err = readStored(ctx, nc, get{stream: stream, Seq: seq})
	if notFound(err) {
		return nil
	}
	return fmt.Errorf("jetstream: delete message %d of %s: %w", seq, stream, answer.Error)
}

// askAPI sends a request to the JetStream API.
func askAPI(ctx context.Context, nc *nats.Conn, subject string, req, answer any) error {
	return askAPIFor(ctx, readPatience, nc, subject, req, answer)
}

// askAPIFor is askAPI for a request that may take its time.
func askAPIFor(ctx context.Context, patience time.Duration, nc *nats.Conn, subject string, req, answer any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("jetstream: %s: %w", subject, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", projections.ErrNoQuorum, subject, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("jetstream: answer of %s: %w", subject, err)
	}
	return nil
}

func notFound(err error) bool { return errors.Is(err, projections.ErrNotFound) }
