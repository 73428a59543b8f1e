package passes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// batchDrafts is how many drafts go behind one pass message: the server takes
// 1,000 messages in an atomic batch.
const batchDrafts = 999

// batchBytes is how many bytes of bodies go in one batch, as far as they are not
// all one unit's: a batch has to be through within a few seconds.
const batchBytes = 8 << 20

// mostRefusals is how often a flush may be refused with nothing in it moved.
// Halved as often, a batch has long become a single unit, and it is no matter of
// others' writes.
const mostRefusals = 20

var errTooSlow = errors.New("passes: the engine took too long and is left behind")

// unit is what is to be appended together for one domain, or not at all.
type unit struct {
	domain     events.DomainID
	drafts     []events.Draft
	launched   int
	terminated int
	changed    int
	again      bool      // there is more to decide once this is folded
	wake       time.Time // decide again then; zero: no need
	// done hears whether the unit is in the log, or was left out since a guard no
	// longer holds. nil: nobody asks.
	done func(landed bool)
}

func (u *unit) tell(landed bool) {
	if u.done != nil {
		u.done(landed)
	}
}

// encode encodes the unit's events. What cannot be appended is found out here,
// where it hurts no other domain; and the work is done while a batch is under way.
func (u *unit) encode() error {
	const most = 512 << 10 // bytes of one event; a message of the log takes 1 MiB
	for n := range u.drafts {
		if err := u.drafts[n].Encode(); err != nil {
			return err
		}
		if size := len(u.drafts[n].Body); size > most {
			return fmt.Errorf("passes: the event on %s has %d bytes, at most %d are allowed", u.drafts[n].Key, size, most)
		}
	}
	return nil
}

func (u *unit) bytes() (n int) {
	for _, d := range u.drafts {
		n += len(d.Body)
	}
	return n
}

// packer packs units, many domains a batch, and commits them one batch at a
// time behind the fence. Guards of its units are sequences that were folded
// when the unit was made; the server refuses the batch if one has moved.
type packer struct {
	term   *Term
	pass   string
	result *Result
	units  []*unit
	drafts int
	bytes  int
}

// add takes what came of a domain, and commits when a batch is full.
func (p *packer) add(ctx context.Context, o outcome) error {
	if o.err != nil {
		p.failed(o.id, o.err)
		return nil
	}
	if !o.unit.wake.IsZero() {
		p.term.wakeAt(o.unit)
	}
	if len(o.unit.drafts) == 0 {
		return nil
	}
	bytes := o.unit.bytes()
	if p.drafts+len(o.unit.drafts) > batchDrafts || p.bytes+bytes > batchBytes {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	p.units = append(p.units, o.unit)
	p.drafts += len(o.unit.drafts)
	p.bytes += bytes
	return nil
}

// failed notes an engine that hurt its own domain, and no other.
func (p *packer) failed(id events.DomainID, err error) {
	p.result.Errors++
	p.term.failures.note(id, Failure{Time: p.term.now(time.Time{}).UTC(), Err: err})
	p.term.Logger.Error("engine failed", "owner", id.Owner, "domain", id.Name, "pass", p.pass, "error", err)
}

// wakeAt has a domain decided on at a time in the log's terms, where passes start
// by themselves.
func (t *Term) wakeAt(u *unit) {
	if t.ExternalDecide {
		return
	}
	in := u.wake.Sub(t.now(time.Time{}))
	t.wake.set(t.Clock().Add(max(in, 0)), u.domain)
}

// flush commits what has been added. After a refusal the units that moved are
// left out, and decided on again; the rest is sent in ever smaller batches.
func (p *packer) flush(ctx context.Context) error {
	queue, limit := p.units, batchDrafts
	p.units, p.drafts, p.bytes = nil, 0, 0
	for refusals := 0; len(queue) > 0; {
		n, drafts := cut(queue, limit)
		batch := queue[:n]
		seq, err := p.append(ctx, batch, drafts)
		var conflict *events.ConflictError
		switch {
		case err == nil:
			p.term.appended(seq)
			p.term.passTime.Store(p.term.Clock().UnixNano())
			p.committed(batch)
			queue = queue[n:]
		case errors.As(err, &conflict):
			p.term.Logger.Info("batch refused, deciding again on what moved", "pass", p.pass, "epoch", p.term.epoch, "error", err)
			before := len(queue)
			if queue, err = p.dropMoved(ctx, queue); err != nil {
				return err
			}
			limit = max(limit/2, 1)
			if refusals++; len(queue) < before {
				refusals = 0
			}
			if refusals > mostRefusals {
				return fmt.Errorf("commit %s pass: %w: refused %d times though its guards hold by the fold", p.pass, conflict, refusals)
			}
		default:
			return fmt.Errorf("commit %s pass: %w", p.pass, err)
		}
	}
	return nil
}

// append appends one batch. While it is under way, what the batches before it ask
// provisioners for is sent.
func (p *packer) append(ctx context.Context, batch []*unit, drafts []events.Draft) (seq uint64, err error) {
	pass := p.passDraft(batch)
	done := make(chan struct{})
	go func() {
		defer close(done)
		seq, err = p.term.Log.AppendFenced(ctx, p.term.epoch, pass, drafts)
	}()
	deposed := p.term.sendRequests()
	<-done
	return seq, cmp.Or(err, deposed)
}

// cut takes whole units from the front, at least one, up to limit drafts.
func cut(queue []*unit, limit int) (n int, drafts []events.Draft) {
	for n < len(queue) && (n == 0 || len(drafts)+len(queue[n].drafts) <= limit) {
		drafts = append(drafts, queue[n].drafts...)
		n++
	}
	return n, drafts
}

func (p *packer) passDraft(batch []*unit) events.Draft {
	pass := events.PassCommitted{Pass: p.pass, Domains: len(batch)}
	for _, u := range batch {
		pass.Launched += u.launched
		pass.Terminated += u.terminated
		pass.Changed += u.changed
	}
	fence := events.Guard{Key: events.LeaderKey, Seq: p.term.epoch}
	return p.term.draft(events.PassKey, pass, fence, "")
}

func (p *packer) committed(batch []*unit) {
	for _, u := range batch {
		p.result.Launched += u.launched
		p.result.Terminated += u.terminated
		p.result.Changed += u.changed
		if u.again {
			p.term.again[u.domain] = true
		}
		u.tell(true)
	}
}

// dropMoved catches up with the log and leaves out the units of which a guard
// no longer holds; their domains are decided on again.
func (p *packer) dropMoved(ctx context.Context, queue []*unit) ([]*unit, error) {
	if _, err := p.term.Replica.Barrier(ctx); err != nil {
		return nil, fmt.Errorf("catch up after a refused batch: %w", err)
	}
	var kept, moved []*unit
	p.term.Replica.View(func(s *events.State) {
		for _, u := range queue {
			if holds(s, u.drafts) {
				kept = append(kept, u)
			} else {
				moved = append(moved, u)
			}
		}
	})
	for _, u := range moved {
		p.term.again[u.domain] = true
		u.tell(false)
	}
	return kept, nil
}

func holds(s *events.State, drafts []events.Draft) bool {
	for _, d := range drafts {
		if d.Guard.Key != "" && s.SeqOf(d.Guard.Key) != d.Guard.Seq {
			return false
		}
	}
	return true
}
