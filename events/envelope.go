package events

import (
	"fmt"
	"time"
)

// The headers of an event: CloudEvents 1.0 in the NATS binary mode, and three
// of epum's own (design §5).
const (
	HeaderSpecVersion = "ce-specversion"
	HeaderID          = "ce-id"
	HeaderSource      = "ce-source"
	HeaderType        = "ce-type"
	HeaderCETime      = "ce-time"
	HeaderActor       = "ce-actor"
	HeaderCEEpoch     = "ce-epoch"
	HeaderCausation   = "ce-causationid"
	HeaderSeal        = "ce-seal" // see Seal

	SpecVersion = "1.0"
)

// The headers of JetStream that the log keeps with an event: what its append expected,
// and which atomic batch it came in.
const (
	HeaderGuard        = "Nats-Expected-Last-Subject-Sequence"
	HeaderGuardSubject = "Nats-Expected-Last-Subject-Sequence-Subject" // absent: the event's own
	HeaderBatchID      = "Nats-Batch-Id"
	HeaderBatchSeq     = "Nats-Batch-Sequence" // from 1
	HeaderBatchCommit  = "Nats-Batch-Commit"   // "1" on the last one
)

// HeaderStream is in every copy that a NATS server makes of a stored message: it
// sends the answer to a direct get wherever the reader says, with the headers of the
// original. No program of ours sends it, so a message that has it was not sent to its
// subject by who may send there, and counts for nothing.
const HeaderStream = "Nats-Stream"

// Copied reports whether a message with these headers, as it is stored, is a copy that
// the server made of another one (HeaderStream).
func Copied(headers map[string][]string) bool { return len(headers[HeaderStream]) > 0 }

// HeaderCommand is in the outcome of a durable command: which message of the inbox
// it is the outcome of. What has none is no outcome.
const HeaderCommand = "Epum-Command"

// Envelope is what the log says around an event.
type Envelope struct {
	Key         Key
	Type        string    // ce-type
	Seq         uint64    // position in the log
	Time        time.Time // the stream's own timestamp, UTC: time in the fold
	ID          string    // ce-id, unique
	Actor       string    // caller, node, or leader/<process>
	CausationID string    // <caller>/<command id>, or the id of a decision; "": none
	Epoch       uint64    // of the leader that appended it; 0: not a leader's
}

// Draft is an event that is to be appended.
type Draft struct {
	ID          string // ce-id
	Key         Key
	Event       Event
	Guard       Guard
	Actor       string
	CausationID string
	Epoch       uint64 // 0: not a leader's
	Body        []byte // Event as Encode gives it; nil: whoever appends it encodes it
}

// Encode fills in Body.
func (d *Draft) Encode() (err error) {
	d.Body, err = Encode(d.Event)
	return err
}

// Guard is what a draft expects: that the last event of Key is at Seq (0: that
// there is none). The zero Guard expects nothing.
type Guard struct {
	Key Key
	Seq uint64
}

// ConflictError is returned by an append when the guard of one of its drafts
// does not hold: somebody else has written there since. Nothing was appended.
type ConflictError struct {
	Guard Guard  // the guard that failed; zero where a batch did not say which
	Got   uint64 // the sequence found there; 0: not known
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("events: conflict on %s: expected last sequence %d, found %d", e.Guard.Key, e.Guard.Seq, e.Got)
}
