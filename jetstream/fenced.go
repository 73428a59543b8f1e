package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// maxBatch is the most messages that the server takes in one atomic batch.
const maxBatch = 1000

// AppendFenced appends pass and drafts, in this order, as one atomic batch of at
// most 1,000 messages, and gives the sequence of the last; the others stand
// directly before it. The pass must be guarded by {events.LeaderKey, epoch}, the
// fence. In the batch a guard on a key must stand before the first message of that
// key, and guards on one key must agree; the error wraps ErrRefused otherwise.
//
// It fails with events.ErrDeposed where another leader was elected, with an
// *events.ConflictError (its guard is zero: the batch does not say which) where a
// guard does not hold, and with an error that wraps events.ErrUnavailable where
// the outcome is not known when ctx ends, without a deadline after 5 s. Where a guard
// fails, or an answer was lost, and the pass is the log's last one already, the
// batch has landed: that is a success. A batch in which no draft guards its own key is never sent a second time while its
// outcome is not known. Only one may be under way.
func (l *Log) AppendFenced(ctx context.Context, epoch uint64, pass events.Draft, drafts []events.Draft) (uint64, error) {
	if err := checkFenced(epoch, pass, drafts); err != nil {
		return 0, err
	}
	message := l.messages(pass, drafts)
	repeatable := false
	for _, d := range drafts {
		repeatable = repeatable || d.Guard.Key == d.Key
	}
	return write{
		what:       "append a batch of the leader",
		send:       func(ctx context.Context) (pubAck, error) { return l.pub.sendBatch(ctx, len(drafts)+1, message) },
		landed:     func(ctx context.Context, _ bool) (uint64, bool, error) { return l.findBatch(ctx, epoch, pass, drafts) },
		conflict:   func(context.Context) error { return &events.ConflictError{} },
		repeatable: repeatable,
	}.do(ctx)
}

func checkFenced(epoch uint64, pass events.Draft, drafts []events.Draft) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: append a batch of the leader: %w", ErrRefused, fmt.Errorf(format, args...))
	}
	switch fence := (events.Guard{Key: events.LeaderKey, Seq: epoch}); {
	case epoch == 0:
		return refuse("epoch 0 fences nothing")
	case pass.Key != events.PassKey:
		return refuse("the first message is on %s, not on %s", pass.Key, events.PassKey)
	case pass.Guard != fence:
		return refuse("the pass is guarded by %v, not by the fence %v", pass.Guard, fence)
	case len(drafts)+1 > maxBatch:
		return refuse("%d messages, at most %d are allowed", len(drafts)+1, maxBatch)
	}
	written := map[events.Key]bool{pass.Key: true}
	expected := map[events.Key]uint64{events.LeaderKey: epoch}
	for _, d := range drafts {
		if d.Key == events.LeaderKey || d.Key == events.PassKey {
			return refuse("a draft on %s", d.Key)
		}
		if d.Guard != (events.Guard{}) {
			if written[d.Guard.Key] {
				return refuse("a guard on %s behind a message of it", d.Guard.Key)
			}
			if seq, ok := expected[d.Guard.Key]; ok && seq != d.Guard.Seq {
				return refuse("guards on %s that expect %d and %d", d.Guard.Key, seq, d.Guard.Seq)
			}
			expected[d.Guard.Key] = d.Guard.Seq
		}
		written[d.Key] = true
	}
	return nil
}

// messages makes the messages of a batch, each when it is asked for first and
// then the same again.
func (l *Log) messages(pass events.Draft, drafts []events.Draft) func(n int) (*nats.Msg, error) {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	made := make([]*nats.Msg, len(drafts)+1)
	return func(n int) (m *nats.Msg, err error) {
		if made[n] != nil {
			return made[n], nil
		}
		draft := pass
		if n > 0 {
			draft = drafts[n-1]
		}
		made[n], err = l.message(draft, now, batchHeaders)
		return made[n], err
	}
}

// batchHeaders is how many headers sendBatch adds to a message.
const batchHeaders = 3

// sendBatch sends size messages as one atomic batch, under a new batch id each
// time. Only the last one asks for an answer: the server makes all its checks
// there. It works on the first while the next are being made. Where one cannot be
// made the batch is left without its end, and the server forgets it.
func (p *publisher) sendBatch(ctx context.Context, size int, message func(n int) (*nats.Msg, error)) (pubAck, error) {
	id := []string{uuid.NewString()}
	for n := range size {
		m, err := message(n)
		if err != nil {
			return pubAck{}, err
		}
		m.Header[events.HeaderBatchID] = id
		m.Header[events.HeaderBatchSeq] = []string{strconv.Itoa(n + 1)}
		if n == size-1 {
			m.Header[events.HeaderBatchCommit] = []string{"1"}
			return p.send(ctx, m, ackPatience)
		}
		if err := p.put(m); err != nil {
			return pubAck{}, err
		}
	}
	return pubAck{}, errors.New("jetstream: an empty batch")
}

// findBatch tells whether a batch is in the log, by its pass; if not it checks
// that the term is not over.
func (l *Log) findBatch(ctx context.Context, epoch uint64, pass events.Draft, drafts []events.Draft) (uint64, bool, error) {
	seq, found, err := l.findPass(ctx, pass, drafts)
	if found || err != nil {
		return seq, found, err
	}
	leader, err := l.Last(ctx, events.LeaderKey)
	switch {
	case notFound(err):
		return 0, false, fmt.Errorf("%w: the log has no election", events.ErrDeposed)
	case err != nil:
		return 0, false, err
	case leader.Seq != epoch:
		// The election may have come between the batch and the first look.
		if seq, found, err = l.findPass(ctx, pass, drafts); found || err != nil {
			return seq, found, err
		}
		return 0, false, fmt.Errorf("%w: at %d, this term is %d", events.ErrDeposed, leader.Seq, epoch)
	}
	return 0, false, nil
}

func (l *Log) findPass(ctx context.Context, pass events.Draft, drafts []events.Draft) (uint64, bool, error) {
	last, err := l.Last(ctx, events.PassKey)
	switch {
	case notFound(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case last.ID != pass.ID:
		return 0, false, nil
	case len(drafts) == 0:
		return last.Seq, true, nil
	}
	end := last.Seq + uint64(len(drafts))
	id, err := l.EventID(ctx, end)
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return 0, false, fmt.Errorf("the batch of pass %d: %w", last.Seq, err)
	case err != nil:
		return 0, false, err
	case id != drafts[len(drafts)-1].ID:
		return 0, false, fmt.Errorf("%w: the pass %s is in the log with other events", ErrRefused, pass.ID)
	}
	return end, true, nil
}
