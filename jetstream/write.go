package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// writePatience bounds a write whose context has no deadline, and the
	// repeats of one that the server has not decided on (design §6).
	writePatience = 5 * time.Second
	// ackPatience is how long one attempt waits for its answer before the log is
	// asked instead.
	ackPatience = 2 * time.Second
)

// write is one guarded write, of a message or of a batch.
type write struct {
	what string // for errors
	// send sends the same bytes each time.
	send func(ctx context.Context) (pubAck, error)
	// landed reads back whether an earlier attempt was stored, and as what; doubt says
	// that one may be, for the server did not say of all that they were not. Its error
	// ends the write, but for one that wraps projections.ErrNoQuorum: then it is asked
	// again.
	landed func(ctx context.Context, doubt bool) (seq uint64, found bool, err error)
	// conflict is the error of a failed guard.
	conflict func(ctx context.Context) error
	// repeatable says that a guard makes a second copy impossible, so it may be
	// sent again while the outcome of an earlier attempt is not known.
	repeatable bool
}

// verdict is what an answer says of a write.
type verdict int

const (
	verdictStored    verdict = iota
	verdictConflict          // a guard does not hold: nothing was written by this attempt
	verdictUndecided         // others write there: nothing was written, send it again
	verdictAbsent            // nobody could take it: nothing was written
	verdictUnknown           // no answer, or one that does not say
	verdictFull              // no room; it stays so until somebody helps
	verdictRefused           // for good
)

func judge(ack pubAck, err error) verdict {
	switch {
	case errors.Is(err, ErrRefused): // it could not even be made
		return verdictRefused
	case err != nil:
		return verdictUnknown
	case ack.noResponders:
		return verdictAbsent
	}
	switch ack.code {
	case 0:
		return verdictStored
	case codeWrongLastSeq:
		return verdictConflict
	case codeDuplicateInFlight, codeGuardNotReady, codeGuardInFlight:
		return verdictUndecided
	case codeBatchIncomplete, codeBatchesInFlight, codeTooManyRequests, codeClusterUnavailable, codeNotLeader:
		return verdictAbsent
	case codeAccountResources, codeInsufficient, codeStorageExceeded, codeStoreFailed:
		return verdictFull
	}
	return verdictRefused
}

// errNotRepeated is why a write without a guard of its own only waits.
var errNotRepeated = errors.New("not sent again: no guard protects from a second copy")

// do sends the write until its outcome is known: the sequence, the error of
// conflict, ErrRefused, an error of landed, or events.ErrUnavailable.
func (w write) do(ctx context.Context) (uint64, error) {
	until := time.Now().Add(writePatience)
	ack, err := w.send(ctx)
	if judge(ack, err) == verdictStored { // nearly always; it costs no timers
		return ack.seq, nil
	}
	return w.insist(ctx, until, ack, err)
}

// insist goes on behind a first attempt that gave ack or err, until ctx ends or,
// without a deadline, until.
func (w write) insist(ctx context.Context, until time.Time, ack pubAck, err error) (uint64, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	a := attempts{
		write:     w,
		undecided: until,
		short:     newPause(2*time.Millisecond, 50*time.Millisecond),
		long:      newPause(50*time.Millisecond, 500*time.Millisecond),
	}
	for {
		seq, wait, why := a.conclude(ctx, ack, err)
		if wait == nil {
			return seq, why
		}
		if !wait.wait(ctx) {
			return 0, fmt.Errorf("%s: %w: %w", w.what, events.ErrUnavailable, why)
		}
		if ack, err = (pubAck{}), errNotRepeated; w.repeatable || !a.unknown {
			ack, err = w.send(ctx)
		}
	}
}

// attempts are the attempts of one write.
type attempts struct {
	write
	unknown     bool      // an earlier attempt may still be stored
	undecided   time.Time // until when a write that nobody decides on is sent again
	short, long *pause
}

// conclude says what follows from an attempt. A pause says that another one must
// follow it, and the error then why.
func (a *attempts) conclude(ctx context.Context, ack pubAck, err error) (seq uint64, again *pause, why error) {
	v := judge(ack, err)
	if why = err; why == nil {
		why = ack
	}
	switch v {
	case verdictStored:
		return ack.seq, nil, nil
	case verdictRefused:
		return 0, nil, fmt.Errorf("%w: %s: %w", ErrRefused, a.what, why)
	case verdictFull:
		return 0, nil, fmt.Errorf("%s: %w: %w", a.what, events.ErrUnavailable, why)
	case verdictUndecided:
		if !a.unknown && time.Now().After(a.undecided) {
			return 0, nil, a.conflict(ctx)
		}
		return 0, a.short, why
	case verdictConflict, verdictUnknown:
		return a.settle(ctx, v, why)
	case verdictAbsent:
	}
	return 0, a.long, why
}

// settle asks the log what became of a write.
func (a *attempts) settle(ctx context.Context, v verdict, why error) (seq uint64, again *pause, err error) {
	a.unknown = a.unknown || v == verdictUnknown
	seq, found, err := a.readBack(ctx, a.unknown)
	switch {
	case err != nil && !noQuorum(err):
		return 0, nil, fmt.Errorf("%s: %w", a.what, err)
	case err == nil && found:
		return seq, nil, nil
	case err == nil && v == verdictConflict:
		return 0, nil, a.conflict(ctx)
	}
	return 0, a.long, why
}

// readBack asks the log also where the write's own time is over: the answer is
// worth a moment more.
func (w write) readBack(ctx context.Context, doubt bool) (uint64, bool, error) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), readPatience/4)
		defer cancel()
	}
	return w.landed(ctx, doubt)
}
