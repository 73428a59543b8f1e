package verify

import (
	"slices"
	"strconv"

	"github.com/seed-524e47bf/epum/events"
)

// batch is an atomic batch of a leader, as far as it was read.
type batch struct {
	id        string
	first     *message // its pass, without body and headers
	pass      events.PassCommitted
	whole     bool // its pass was read
	size      int  // messages
	decisions map[string]*decision

	launched, terminated, changed int
}

// decision is a decision record of a batch.
type decision struct {
	domain  events.DomainID // zero where it is on no decision's subject
	seq     uint64
	subject string
	open    []string // the actions that have not come yet, in its order
	acted   bool
}

// wrote reports whether a message is one of the batch.
func (b *batch) wrote(seq uint64) bool { return seq >= b.first.Seq }

// checkAppend puts an event into the batch it came in, and checks that this is whole and
// one that a leader makes.
func (c *checker) checkAppend(r *message) {
	h := &r.headers
	id := one(h.BatchID)
	if c.batch != nil && c.batch.id != id {
		c.leaveBatch(r)
	}
	if id == "" {
		if len(h.BatchSeq) > 0 || len(h.BatchCommit) > 0 {
			c.wrong(r, KindBatch, "it has headers of a batch, and no %s", events.HeaderBatchID)
		}
		if r.leads || r.Epoch > 0 && !known(r.Event) {
			c.wrong(r, KindBatch, "it stands alone: a leader appends in batches that a pass begins")
		}
		return
	}
	if c.batch == nil {
		c.beginBatch(r, id)
	}
	b := c.batch
	b.size++
	if n, err := strconv.Atoi(one(h.BatchSeq)); err != nil || n != b.size {
		c.wrong(r, KindBatch, "it is message %q of its batch, and stands where the %d. has to: one is missing, added or moved", one(h.BatchSeq), b.size)
	}
	c.count(r)
	if len(h.BatchCommit) > 0 {
		if commit := one(h.BatchCommit); commit != "1" {
			c.wrong(r, KindBatch, "it ends its batch with %q, not with 1", commit)
		}
		c.closing = true
	}
}

// one is a header's only value; "" where it has none or several.
func one(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return ""
}

func (c *checker) beginBatch(r *message, id string) {
	c.batch = &batch{id: id, first: &message{Recorded: &events.Recorded{Envelope: r.Envelope, Subject: r.Subject}}, decisions: map[string]*decision{}}
	if c.batch.pass, c.batch.whole = r.Event.(events.PassCommitted); !c.batch.whole {
		c.wrong(r, KindBatch, "its batch does not begin with a pass")
	}
}

// count counts what a batch does.
func (c *checker) count(r *message) {
	b := c.batch
	switch ev := r.Event.(type) {
	case events.PassCommitted:
		if b.size > 1 {
			c.wrong(r, KindBatch, "a pass within a batch: one begins with it")
		}
	case events.LaunchRequested:
		b.launched++
	case events.TerminateRequested:
		b.terminated++
	case events.DecisionMade:
		b.changed++
		d := &decision{seq: r.Seq, subject: r.Subject, open: slices.Concat(ev.Launches, ev.Terminations)}
		if r.Key.Kind() == events.KindDecision {
			d.domain = r.domain
		}
		b.decisions[r.ID] = d
	case events.HealthChanged, events.Reaped, events.DomainRemoved:
		b.changed++
	default:
		if r.Epoch == 0 {
			c.wrong(r, KindBatch, "%s in a leader's batch", r.Type)
		}
	}
}

// act notes an action of a decision; first says that it is the decision's first, ok that
// there is such a decision.
func (c *checker) act(r *message) (first, ok bool) {
	var d *decision
	if c.batch != nil {
		d = c.batch.decisions[r.CausationID]
	}
	if d == nil || d.domain != r.domain || r.Key.Kind() != events.KindInstance {
		c.wrong(r, KindDecision, "it is an action of the decision %q, which is not in its batch", r.CausationID)
		return false, false
	}
	n := slices.Index(d.open, r.name)
	if n < 0 {
		c.wrong(r, KindDecision, "the decision at %d did not ask for it, or has it already", d.seq)
		return false, false
	}
	if n == 0 {
		d.open = d.open[1:] // as it is where nothing is wrong; the others stay where they are
	} else {
		d.open = slices.Delete(d.open, n, n+1)
	}
	first, d.acted = !d.acted, true
	return first, true
}

// inBatch reports whether the last message has left a batch open.
func (c *checker) inBatch() bool { return c.batch != nil }

// endBatch tells of a batch that has no end.
func (c *checker) endBatch() error {
	if b := c.batch; b != nil {
		c.wrong(b.first, KindBatch, "the batch that it begins has no end: the message with %s is missing", events.HeaderBatchCommit)
		c.closeBatch()
	}
	return c.err
}

// leaveBatch tells of a batch that something else than its next message follows.
func (c *checker) leaveBatch(r *message) {
	if b := c.batch; b != nil {
		c.wrong(r, KindBatch, "it stands within the batch that begins at %d, or that one's end is missing", b.first.Seq)
		c.closeBatch()
	}
}

// closeBatch compares what a batch says of itself with what it had.
func (c *checker) closeBatch() {
	b := c.batch
	c.batch, c.closing = nil, false
	if b.whole && (b.pass.Launched != b.launched || b.pass.Terminated != b.terminated || b.pass.Changed != b.changed) {
		c.wrong(b.first, KindBatch, "the pass says that it launched %d, terminated %d and changed %d, and its batch has %d, %d and %d",
			b.pass.Launched, b.pass.Terminated, b.pass.Changed, b.launched, b.terminated, b.changed)
	}
	for id, d := range b.decisions {
		if len(d.open) > 0 {
			c.find(finding(KindDecision, d.seq, d.subject, restore, "decision %s asked for %d actions that are not in its batch, the first on instance %s", id, len(d.open), d.open[0]))
		}
	}
}
