package passes

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// evaluation is one run over domains, on a goroutine of its own so that an
// engine that does not return can be left behind.
type evaluation struct {
	term  *Term
	ids   []events.DomainID
	units chan outcome
	done  chan struct{}
	// at is the index of the domain whose engine is being called, or one of the
	// values below. It changes hands by compare-and-swap: whoever finds another
	// value there than its own has lost the domain to the other side.
	at atomic.Int64
}

// Values of evaluation.at that are no index.
const (
	between = -1 // no engine is being called
	left    = -2 // the pass has gone on without this goroutine
)

// outcome is what came of one domain, where anything did.
type outcome struct {
	id   events.DomainID
	unit *unit
	err  error
}

func newEvaluation(t *Term, ids []events.DomainID) *evaluation {
	// The buffer lets evaluation go on while a batch is being committed.
	e := &evaluation{term: t, ids: ids, units: make(chan outcome, 256), done: make(chan struct{})}
	e.at.Store(between)
	return e
}

// run evaluates one domain after the other. Only one evaluation of a term runs
// at a time, so it has the term's engines to itself, but for those that an
// evaluation that was left behind is still in.
func (e *evaluation) run() {
	defer close(e.done)
	var l look
	now := e.term.now(time.Time{})
	for n, id := range e.ids {
		e.term.look(id, now, &l)
		if l.domain == nil {
			delete(e.term.decider.runners, id)
			e.term.failures.forget(id)
			continue
		}
		if l.unknown {
			return // the projector ends the term
		}
		r := e.term.decider.runner(l.domain)
		if !r.busy.CompareAndSwap(false, true) {
			e.units <- outcome{id: id, err: errBusy}
			continue
		}
		if !e.at.CompareAndSwap(between, int64(n)) {
			r.busy.Store(false)
			return
		}
		unit, err := e.term.decider.evaluate(&l, r)
		if !e.at.CompareAndSwap(int64(n), between) {
			// Its memory of a decide that nobody waited for is worth nothing.
			r.engine = nil
			r.busy.Store(false)
			return
		}
		r.busy.Store(false)
		if err == nil && unit != nil {
			err = unit.encode()
		}
		if err == nil {
			e.term.failures.forget(id)
		}
		if unit != nil || err != nil {
			e.units <- outcome{id: id, unit: unit, err: err}
		}
	}
}

// collect commits what the evaluation gives until it is through, or an engine
// has taken too long: then that one is left behind. It gives how many domains
// are dealt with.
func (e *evaluation) collect(ctx context.Context, p *packer) (int, error) {
	watch := time.NewTicker(e.term.DecideTimeout / 4)
	defer watch.Stop()
	seen, since := int64(between), time.Time{}
	for {
		select {
		case <-ctx.Done():
			e.abandon()
			return 0, ctx.Err()
		case o := <-e.units:
			if err := p.add(ctx, o); err != nil {
				e.abandon()
				return 0, err
			}
		case <-watch.C:
			at, now := e.at.Load(), e.term.Clock()
			if at != seen {
				seen, since = at, now
			} else if at >= 0 && now.Sub(since) >= e.term.DecideTimeout && e.at.CompareAndSwap(at, left) {
				p.failed(e.ids[at], errTooSlow)
				e.term.passTime.Store(now.UnixNano()) // the pass gets on, however many engines hang
				return int(at) + 1, e.drain(ctx, p)
			}
		case <-e.done:
			return len(e.ids), e.drain(ctx, p)
		}
	}
}

// drain takes what is in the channel already.
func (e *evaluation) drain(ctx context.Context, p *packer) error {
	for {
		select {
		case o := <-e.units:
			if err := p.add(ctx, o); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// abandon makes the evaluation end, however it is just now.
func (e *evaluation) abandon() {
	e.at.Store(left)
	go func() {
		for {
			select {
			case <-e.units:
			case <-e.done:
				return
			}
		}
	}()
}
