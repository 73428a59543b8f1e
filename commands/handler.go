package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// RetryFor is how long a command or report is decided again after conflicts
// (design §3).
const RetryFor = 5 * time.Second

const (
	// logPatience is how long a command waits for the log to take it or to say
	// where it ends, from its arrival on: with a last look for what became of it,
	// which takes half a second, its 503 goes out within 5 s (design §3).
	logPatience = 4200 * time.Millisecond
	// leastPatience is what is left of it for a command that others' writes have
	// kept from the log that long.
	leastPatience = 300 * time.Millisecond
)

// MaxCommandIDBytes is the longest command id.
const MaxCommandIDBytes = 256

// clockSkew is how far the clocks of a cluster's servers, which the times of
// streams come from, may be apart.
const clockSkew = 5 * time.Second

// RepeatedFor is for how long whoever leaves a durable command, and hears of no ack,
// leaves it again and again: the first copy may have been carried out so long before
// the last one was published.
const RepeatedFor = time.Minute

// Log is the event log as a writer sees it. It is safe for concurrent use.
type Log interface {
	// Append appends one event if its guard holds, and gives its sequence. It
	// fails with an *events.ConflictError where the guard does not hold, and
	// with an error that wraps events.ErrUnavailable where the outcome is not
	// known.
	Append(ctx context.Context, draft events.Draft) (uint64, error)
	// Last gives the last event of an aggregate, read from the log's leader;
	// projections.ErrNotFound where there is none.
	Last(ctx context.Context, key events.Key) (projections.LastEvent, error)
	// Caused gives the sequence of the aggregate's event that a causation id led
	// to, if it was appended in [from, until] of the stream's time; later ones may
	// be found, too. It is read from the log's leader; an error that wraps
	// projections.ErrNoQuorum says that nothing is known.
	Caused(ctx context.Context, key events.Key, causation string, from, until time.Time) (seq uint64, found bool, err error)
}

// Replica is the fold that commands are decided on, as projections.Replica.
type Replica interface {
	// View calls read with the state, which does not change meanwhile.
	View(read func(*events.State))
	// Barrier gives the log's last sequence once it is folded; the error wraps
	// projections.ErrNoQuorum where the log cannot say what its end is.
	Barrier(ctx context.Context) (uint64, error)
	// WaitFor returns when the event at seq is folded, or with ctx's error.
	WaitFor(ctx context.Context, seq uint64) error
	// Repeat gives the sequence of the event that a causation id led to within
	// the last two minutes.
	Repeat(causation string) (seq uint64, ok bool)
	// RepeatsSince is the stream time from which on Repeat knows all of them.
	RepeatsSince() time.Time
}

// Handler takes commands. It is safe for concurrent use; its fields are not to
// be changed once it is in use.
type Handler struct {
	Log     Log
	Replica Replica
	Engines *engines.Registry
	NewID   func() string    // ids of events
	Now     func() time.Time // nil: time.Now
}

// Do carries out a command and gives the sequence of its event, or the
// aggregate's last one where it changes nothing. caller is a plain name.
// commandID makes a repeat within two minutes answer with the first one's
// sequence; "" for none. It fails with an *Error, or with an error that AsError
// maps to one.
func (h *Handler) Do(ctx context.Context, caller, commandID string, cmd Command) (uint64, error) {
	return h.DoPublished(ctx, caller, commandID, time.Time{}, cmd)
}

// DoPublished is Do for a command that has been waiting since it was published, by
// the clock of a stream (zero: it has not). A repeat is known since a minute before
// then: what is too long ago for the replica is looked up in the log.
func (h *Handler) DoPublished(ctx context.Context, caller, commandID string, published time.Time, cmd Command) (uint64, error) {
	if err := checkNames("caller", caller); err != nil {
		return 0, err
	}
	causation, err := causationID(caller, commandID)
	if err != nil {
		return 0, err
	}
	if err := cmd.Check(h.Engines); err != nil {
		return 0, err
	}
	a := attempt{h: h, cmd: cmd, caller: caller, causation: causation, key: cmd.Key(caller)}
	if !published.IsZero() {
		a.waited, a.unread = true, published.Add(-RepeatedFor-clockSkew)
	}
	began := h.now()
	for patience := logPatience; ; {
		seq, done, err := a.tryFor(ctx, patience)
		if done || err != nil {
			return seq, err
		}
		taken := h.now().Sub(began)
		if a.conflicts > 0 && taken >= RetryFor {
			return 0, ErrWriteConflict.With("others kept writing to the same name for %s; try again", RetryFor)
		}
		patience = max(logPatience-taken, leastPatience)
	}
}

func (h *Handler) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}

// attempt is one command on its way.
type attempt struct {
	h         *Handler
	cmd       Command
	caller    string
	causation string
	key       events.Key
	id        string    // of the event, one for all tries; "": none was made yet
	waited    bool      // behind others of its caller: it is decided on what those have left
	sure      bool      // the replica has passed a barrier since the command came
	removed   uint64    // sequence of what guards a name that is not in the fold: a .removed event, or what is none; 0: nothing
	unread    time.Time // from here on the log may have its event, as far as is known; zero: what the replica remembers will do
	conflicts int
}

// tryFor is try, at most for a time.
func (a *attempt) tryFor(ctx context.Context, atMost time.Duration) (seq uint64, done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	return a.try(ctx)
}

// try decides once and appends. Neither done nor an error means: once more,
// the replica knows more now.
func (a *attempt) try(ctx context.Context) (seq uint64, done bool, err error) {
	if a.waited && !a.sure {
		if err := a.barrier(ctx); err != nil {
			return 0, false, err
		}
	}
	var v View
	a.h.Replica.View(func(s *events.State) { v = a.cmd.Look(s, a.caller) })
	// After the view: a first one that the view shows is then known as a repeat.
	if seq, done, err = a.repeated(ctx); done || err != nil {
		return seq, done, err
	}
	// Whoever was held up for too long must not decide any more: what it has seen
	// may be from before.
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	if v.Unknown != "" {
		return 0, true, ErrUnavailable.With("this process is too old for what was written there (%s); another one may know it", v.Unknown)
	}
	out, err := a.cmd.Decide(v, a.h.Engines)
	if err != nil || !out.Changes && a.causation == "" {
		if !a.sure {
			return 0, false, a.barrier(ctx)
		}
		return v.Seq, true, err
	}
	seq, err = a.h.Log.Append(ctx, a.draft(v, out.Event))
	if conflict, ok := errors.AsType[*events.ConflictError](err); ok {
		a.conflicts++
		return 0, false, a.catchUp(ctx, v, conflict)
	}
	return seq, true, err
}

// repeated looks whether the command has its event already.
func (a *attempt) repeated(ctx context.Context) (seq uint64, found bool, err error) {
	if a.causation == "" {
		return 0, false, nil
	}
	// Asked first: what is forgotten meanwhile is looked up.
	since := a.h.Replica.RepeatsSince()
	if seq, found = a.h.Replica.Repeat(a.causation); found || a.unread.IsZero() {
		return seq, found, nil
	}
	until := since.Add(clockSkew)
	if !until.After(a.unread) {
		return 0, false, nil
	}
	if seq, found, err = a.h.Log.Caused(ctx, a.key, a.causation, a.unread, until); err != nil {
		return 0, false, fmt.Errorf("look for the command in the log: %w", err)
	}
	a.unread = until
	return seq, found, nil
}

func (a *attempt) barrier(ctx context.Context) error {
	a.sure = true
	if _, err := a.h.Replica.Barrier(ctx); err != nil {
		return fmt.Errorf("barrier before an answer: %w", err)
	}
	return nil
}

func (a *attempt) draft(v View, ev events.Event) events.Draft {
	if a.id == "" {
		a.id = a.h.NewID()
	}
	guard := v.Seq
	if guard == 0 {
		guard = a.removed
	}
	return events.Draft{
		ID: a.id, Key: a.key, Event: ev, Guard: events.Guard{Key: a.key, Seq: guard},
		Actor: a.caller, CausationID: a.causation,
	}
}

// catchUp lets the replica fold what the append ran into. Where the name was
// not in the fold, it looks whether a removed one, or a message that is no event,
// guards it.
func (a *attempt) catchUp(ctx context.Context, v View, conflict *events.ConflictError) error {
	if v.Seq == 0 {
		last, err := a.h.Log.Last(ctx, a.key)
		if err != nil && !errors.Is(err, projections.ErrNotFound) {
			return fmt.Errorf("read the last event of %s: %w", a.key, err)
		}
		a.removed = 0
		switch last.Type {
		case events.TypeDomainRemoved, events.TypeDefinitionRemoved, events.Foreign{}.Type():
			a.removed = last.Seq // once it is folded, what stands before it is, too
		}
		return a.h.Replica.WaitFor(ctx, last.Seq)
	}
	if conflict.Got > v.Seq {
		return a.h.Replica.WaitFor(ctx, conflict.Got)
	}
	_, err := a.h.Replica.Barrier(ctx)
	return err
}

// causationID is what the log remembers of a command: <caller>/<command id>. A
// caller that would make that ambiguous, or that a header would not keep as it
// is, stands there as its token. It is "" without a command id.
func causationID(caller, commandID string) (string, error) {
	if commandID == "" {
		return "", nil
	}
	if err := CheckCommandID(commandID); err != nil {
		return "", err
	}
	if strings.ContainsFunc(caller, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '=' }) {
		caller = events.Token(caller)
	}
	return caller + "/" + commandID, nil
}

// CheckCommandID refuses with an ErrBadRequest what is no command id: 1 to 256
// bytes of UTF-8, no control characters, no space at either end.
func CheckCommandID(id string) error {
	if id == "" || len(id) > MaxCommandIDBytes || !utf8.ValidString(id) ||
		strings.TrimSpace(id) != id || strings.ContainsFunc(id, unicode.IsControl) {
		return badField("Nats-Msg-Id", "must have 1 to %d bytes of UTF-8, no control characters and no space at either end", MaxCommandIDBytes)
	}
	return nil
}
