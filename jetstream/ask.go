package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// mostAnswer is how long an answer may be, in bytes.
const mostAnswer = 512 << 10

// Ask puts a question to whoever listens on a subject and gives the first answer.
// The error says in one clause why there is none. It is safe for concurrent use.
func (c *Cell) Ask(ctx context.Context, subject string, body []byte) ([]byte, error) {
	answer, err := c.nc.RequestWithContext(ctx, subject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errors.New("nobody listens there")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, errors.New("no answer in time")
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, fmt.Errorf("the view has %d bytes, more than the server takes", len(body))
	case err != nil:
		return nil, err
	case len(answer.Data) > mostAnswer:
		return nil, fmt.Errorf("the answer has %d bytes, at most %d are taken", len(answer.Data), mostAnswer)
	}
	return answer.Data, nil
}
