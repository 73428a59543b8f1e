package projections

import (
	"context"
	"errors"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

var (
	// ErrNoQuorum is returned when the log cannot say what its end is: no
	// stream leader, too few followers, or no answer in time.
	ErrNoQuorum = errors.New("projections: the log cannot be reached or has no quorum")
	// ErrTooMany is returned by Bucket.Read when the keys match more documents
	// than one isolated answer can hold.
	ErrTooMany = errors.New("projections: more documents than one read can give")
	// ErrForged is returned by Bucket.Newest where the entry is no longer what was
	// written: somebody else's message has taken its place.
	ErrForged = errors.New("projections: overwritten by a message that no epum wrote")
	// ErrNotFound is returned when the log has no event, or the bucket no
	// document, where one was asked for.
	ErrNotFound = errors.New("projections: not found")
)

// Position is the end of a log, and which log it is.
type Position struct {
	Seq     uint64    // last sequence; 0: the log is empty
	Time    time.Time // timestamp of the last event; zero: the log is empty
	Created time.Time // the stream's creation time: another one is another log
	Leader  string    // of a replicated stream: who says so; "": the stream is not replicated
	Said    time.Time // when, by that leader's clock; zero: it does not tell
}

// TailStart is where a tail begins: at the first event that is both at From or
// later and, of those before From, at Since or later. The events before From
// are at most MaxRemembered.
type TailStart struct {
	From  uint64    // the first sequence that is wanted in any case; at least 1
	Since time.Time // how far back, in stream time, events before From are wanted too; zero: none
}

// MaxRemembered is how many events a start reads back for command ids alone.
const MaxRemembered = 1_000_000

// Source is the log as a replica reads it. It is safe for concurrent use.
type Source interface {
	// End asks the log's leader for its end. The error wraps ErrNoQuorum where
	// the answer could be old.
	End(ctx context.Context) (Position, error)
	// EventID gives the ce-id of the event at a sequence, read from the log's
	// leader; ErrNotFound where there is none.
	EventID(ctx context.Context, seq uint64) (string, error)
	// Tail calls apply with every event from start on, in order and from one
	// goroutine, until ctx ends or the tail breaks; then it returns the reason.
	Tail(ctx context.Context, start TailStart, apply func(events.Envelope, events.Event)) error
	// Keys calls seen with the key of each event in (after, upTo].
	Keys(ctx context.Context, after, upTo uint64, seen func(events.Key)) error
}

// Point is a point of the log: a sequence, or where the log was at a time. The zero
// Point is none.
type Point struct {
	Seq  uint64
	Time time.Time // stream time; zero: Seq says it
}

// Query says which events of the log are wanted.
type Query struct {
	// Keys are those of the aggregates. In each, "*" stands for any token and a ">" at
	// the end for all that follow; no two may match one key. None: all messages.
	Keys []events.Key
	From Point // the first event; at a time: the first one from then on; zero: the log's first
	To   Point // the last event; at a time: the last one till then; zero, or beyond the log: its last one now
	// Follow asks for what comes after the last one too, until ctx ends. To is then
	// not looked at.
	Follow bool
}

// History reads what was. It is safe for concurrent use.
type History interface {
	// History calls each with every event that a query asks for, in order and from one
	// goroutine, until each fails or ctx ends; then it returns the reason. No event is
	// left out that the log's leader had when it was asked. The error wraps ErrNoQuorum
	// where it does not answer. What each gets is used again once each has returned; what
	// that points to is not.
	History(ctx context.Context, q Query, each func(*events.Recorded) error) error
}

// Entry is one key of the state bucket.
type Entry struct {
	Key      events.Key
	Value    []byte // nil in a write: purge the key
	Revision uint64 // set by reads
}

// Bucket is the state bucket, or that of the snapshot which stands for the events that
// were purged from the log. It is safe for concurrent use.
type Bucket interface {
	// Ensure creates the bucket where there is none (any more).
	Ensure(ctx context.Context) error
	// Read gives the documents that the keys match (an events.DomainID's
	// AllInstances is the one wildcard) in one isolated answer, in no order;
	// ErrTooMany where they are more than 1,024. Purged keys are left out. Of a
	// replicated bucket, whichever server answers may lag behind its leader.
	Read(ctx context.Context, keys ...events.Key) ([]Entry, error)
	// Newest gives one entry as the bucket's leader has it; ErrNotFound where there
	// is none, ErrForged where no Write has written it, ErrNoQuorum where nobody can
	// say.
	Newest(ctx context.Context, key events.Key) (Entry, error)
	// All calls each with every entry of the bucket but purged ones, in no
	// order and not isolated from writes: an entry that is overwritten
	// meanwhile may be left out.
	All(ctx context.Context, each func(Entry) error) error
	// Strays gives the keys that somebody else than a Write has written or purged
	// after a revision and up to another one, which it gives too.
	Strays(ctx context.Context, after uint64) (keys []events.Key, upTo uint64, err error)
	// Write puts and purges entries and the checkpoint as one atomic batch,
	// guarded by the checkpoint's last revision (0: there is none), and gives
	// the checkpoint's new revision. It fails with an *events.ConflictError
	// where somebody else moved the checkpoint. At most 999 entries.
	Write(ctx context.Context, entries []Entry, checkpoint []byte, revision uint64) (uint64, error)
}

// LastEvent is the last event of one aggregate, as the log's leader has it.
type LastEvent struct {
	Seq  uint64
	ID   string // ce-id
	Type string // ce-type
}
