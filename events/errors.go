package events

import "errors"

var (
	// ErrDeposed is returned when a leader's append is refused since another
	// process was elected after it: the term is over, nothing was appended.
	ErrDeposed = errors.New("events: deposed: another leader was elected")
	// ErrUnavailable is returned when the log could not be reached in time, has
	// no quorum or no room: whether the append happened is not known.
	ErrUnavailable = errors.New("events: the log is unavailable, the outcome is unknown")
	// ErrLeaseHeld is returned when another process holds the lease.
	ErrLeaseHeld = errors.New("events: the lease is held by another process")
)

// DeadLetterError is returned for a report that no repeat can make acceptable;
// it goes to the dead letters with its reason.
type DeadLetterError struct{ Reason string }

func (e *DeadLetterError) Error() string { return "events: dead letter: " + e.Reason }
