package passes

import (
	"context"
	"sync"
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

	mu      sync.Mutex
	at      int       // index of the domain that is being evaluated
	began   time.Time // when that began
	running *runner   // its engine; nil: none is called
	left    bool      // the pass has gone on without this goroutine
}

// outcome is what came of one domain, where anything did.
type outcome struct {
	id   events.DomainID
	unit *unit
	err  error
}

func newEvaluation(t *Term, ids []events.DomainID) *evaluation {
	// The buffer lets evaluation go on while a batch is being committed.
	return &evaluation{term: t, ids: ids, units: make(chan outcome, 256), done: make(chan struct{}), began: t.Clock()}
}

// run evaluates one domain after the other. Only one evaluation of a term runs
// at a time, so it has the term's engines to itself, but for those that an
// evaluation that was left behind is still in.
func (e *evaluation) run() {
	defer close(e.done)
	var l look
	for n, id := range e.ids {
		e.term.look(id, &l)
		if l.domain == nil {
			delete(e.term.engines, id)
			continue
		}
		if l.unknown {
			return // the projector ends the term
		}
		r := e.term.runner(id, l.domain)
		if !e.enter(n, r) {
			e.units <- outcome{id: id, err: errBusy}
			continue
		}
		unit, err := e.term.evaluate(id, &l, r)
		if !e.leave(r) {
			return
		}
		if unit != nil || err != nil {
			e.units <- outcome{id: id, unit: unit, err: err}
		}
	}
}

// runner gives the domain's engine, a new one for each life of the name.
func (t *Term) runner(id events.DomainID, d *events.Domain) *runner {
	r := t.engines[id]
	if r == nil || r.addedSeq != d.AddedSeq {
		r = &runner{addedSeq: d.AddedSeq}
		t.engines[id] = r
	}
	return r
}

func (e *evaluation) enter(n int, r *runner) bool {
	if !r.busy.CompareAndSwap(false, true) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at, e.began, e.running = n, e.term.Clock(), r
	return true
}

// leave notes that the engine has returned; false where the pass has gone on
// without it, so that what it decided is void.
func (e *evaluation) leave(r *runner) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left {
		// Its memory of the decide that nobody waited for is worth nothing.
		r.engine = nil
	}
	r.busy.Store(false)
	e.running = nil
	return !e.left
}

// collect commits what the evaluation gives until it is through, or an engine
// has taken too long: then that one is left behind. It gives how many domains
// are dealt with.
func (e *evaluation) collect(ctx context.Context, p *packer) (int, error) {
	watch := time.NewTicker(e.term.DecideTimeout / 4)
	defer watch.Stop()
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
			if n, late := e.late(); late {
				p.failed(e.ids[n], errTooSlow)
				e.term.passTime.Store(e.term.Clock().UnixNano()) // the pass gets on
				return n + 1, e.drain(ctx, p)
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

// late reports whether the engine that is being called has taken too long, and
// if so leaves it behind.
func (e *evaluation) late() (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == nil || e.term.Clock().Sub(e.began) < e.term.DecideTimeout {
		return 0, false
	}
	e.left = true
	return e.at, true
}

// abandon makes the evaluation end, however it is just now.
func (e *evaluation) abandon() {
	e.mu.Lock()
	e.left = true
	e.mu.Unlock()
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
