package verify

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// checker looks at one message of a log after the other, before it folds it.
type checker struct {
	state  *events.State
	report func(Finding) error
	err    error // of report

	seq     uint64    // the last message
	id      string    // its ce-id
	time    time.Time // the latest timestamp
	seed    maphash.Seed
	last    table  // hash of a key → sequence of its last message
	ids     table  // hash of a ce-id → its first sequence
	batch   *batch // nil: the last message was none of a batch, or ended one
	closing bool   // the message that is being looked at ends it
	sealed  uint64 // every event from here on has a seal; 0: from the first that has one

	unsealed uint64          // events without a seal before that
	headers  map[string]bool // headers that epum does not write and that were told of
}

func newChecker(sealed uint64, report func(Finding) error) *checker {
	return &checker{
		state: events.NewState(), report: report, seed: maphash.MakeSeed(), sealed: sealed, headers: map[string]bool{},
	}
}

// check looks at a message and folds it. Its error is that of report.
func (c *checker) check(rec *events.Recorded) error {
	r := &message{Recorded: rec}
	if r.Seq != c.seq+1 {
		_ = c.missing(r.Seq)
	}
	if r.Time.Before(c.time) {
		c.warn(r, KindTime, "nothing: the server's clock was set back; the fold's time stands still until it has caught up",
			"it was stored at %s, before the one in front of it at %s", r.Time.Format(time.RFC3339Nano), c.time.Format(time.RFC3339Nano))
	} else {
		c.time = r.Time
	}
	c.seq, c.id = r.Seq, r.ID
	if _, foreign := r.Event.(events.Foreign); foreign {
		c.checkForeign(r)
	} else {
		r.read()
		c.checkMessage(r)
		c.checkEvent(r)
	}
	c.note(r)
	events.Apply(c.state, r.Envelope, r.Event)
	return c.err
}

// keep looks at a message that was left where others were purged. Its error is that of
// report.
func (c *checker) keep(rec *events.Recorded) error {
	r := &message{Recorded: rec}
	if _, foreign := r.Event.(events.Foreign); !foreign {
		r.read()
		c.checkMessage(r)
	}
	c.note(r)
	return c.err
}

// note notes that a message is the last one of its key.
func (c *checker) note(r *message) {
	if r.Key != "" {
		*c.last.at(c.hash(string(r.Key))) = r.Seq
	}
}

// begin goes on behind a state, whose last event has an id.
func (c *checker) begin(state *events.State, id string) {
	c.state, c.seq, c.id, c.time = state, state.Seq, id, state.Time
}

// missing tells of the sequences before one that the log does not have.
func (c *checker) missing(next uint64) error {
	what := "event %d is missing"
	args := []any{c.seq + 1}
	if next > c.seq+2 {
		what, args = "events %d to %d are missing", append(args, next-1)
	}
	c.find(finding(KindGap, c.seq+1, "", restore, what, args...))
	c.seq = next - 1
	return c.err
}

func (c *checker) find(f Finding) {
	if c.err == nil {
		c.err = c.report(f)
	}
}

// wrong tells of what is wrong with a message.
func (c *checker) wrong(r *message, kind Kind, format string, args ...any) {
	c.find(finding(kind, r.Seq, r.Subject, restore, format, args...))
}

func (c *checker) warn(r *message, kind Kind, do, format string, args ...any) {
	f := finding(kind, r.Seq, r.Subject, do, format, args...)
	f.Warning = true
	c.find(f)
}

func (c *checker) hash(text string) uint64 { return maphash.String(c.seed, text) }

// lastOf is the sequence of a key's last message; 0: there is none.
func (c *checker) lastOf(k events.Key) uint64 { return c.last.get(c.hash(string(k))) }

// copied are the headers that a server adds to the copy of a message.
var copied = []string{events.HeaderStream, "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}

// checkForeign looks at a message that no fold reads. One that says a part of what an
// event says was an event.
func (c *checker) checkForeign(r *message) {
	c.leaveBatch(r)
	switch {
	case events.Copied(r.Header):
		for _, name := range copied {
			if len(r.Header[name]) == 0 {
				c.wrong(r, KindForeign, "it says that it is a copy which a server made, and has no header %s as each such copy has", name)
				return
			}
		}
		c.warn(r, KindForeign, harmless, "a copy of another message that a server sent here: no event")
	case r.Key == "":
		c.warn(r, KindForeign, harmless, "a message of another stream that was delivered here: no event")
	default:
		for name := range r.Header {
			if strings.HasPrefix(name, "ce-") {
				c.wrong(r, KindForeign, "it has a header %s as an event has, and no %s", name, events.HeaderType)
				return
			}
		}
		c.warn(r, KindForeign, harmless, "a message without %s, somebody's answer maybe: no event", events.HeaderType)
	}
}

// checkMessage looks at an event's message: is it whole, and the only one?
func (c *checker) checkMessage(r *message) {
	c.checkSeal(r)
	for _, name := range r.headers.Others {
		if !c.headers[name] {
			c.headers[name] = true
			c.warn(r, KindHeader, "nothing, if you know who adds it", "it has the header %q, which epum does not write; others with it are not listed", name)
		}
	}
	if r.ID == "" {
		c.wrong(r, KindDoubled, "it has no %s", events.HeaderID)
		return
	}
	first := c.ids.at(c.hash(r.ID))
	if *first > 0 {
		c.wrong(r, KindDoubled, "it has the %s of event %d: %s", events.HeaderID, *first, r.ID)
		return
	}
	*first = r.Seq
}

// checkSeal checks that a message is as it was appended.
func (c *checker) checkSeal(r *message) {
	has, intact := r.Sealed(&r.headers)
	switch {
	case intact:
		if c.sealed == 0 {
			c.sealed = r.Seq
		}
	case has:
		c.wrong(r, KindSeal, "its seal is %q, which is not that of its subject, headers and body: one of them was altered", strings.Join(r.headers.Seal, ", "))
	case c.sealed > 0 && r.Seq >= c.sealed:
		c.find(finding(KindSeal, r.Seq, r.Subject, restore+"; where a process of an older epum ran beside newer ones, say with --sealed-from when it ended",
			"it has no seal; events are sealed from %d on", c.sealed))
	default:
		c.unsealed++
	}
}

// checkEvent looks at what an event says, and at its place in the log.
func (c *checker) checkEvent(r *message) {
	if u, unknown := r.Event.(events.Unknown); unknown && u.Err != nil {
		c.wrong(r, KindDecode, "the body of this %s cannot be read: %v", u.Name, u.Err)
	} else if unknown {
		c.find(finding(KindDecode, r.Seq, r.Subject, upgrade, "this version does not know the event type %q", u.Name))
	}
	c.checkAppend(r)
	c.checkEpoch(r)
	c.checkGuard(r)
	c.checkTransition(r)
	if c.closing {
		c.closeBatch()
	}
}
