package projections

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// barrierTimeout bounds one question for the log's end.
const barrierTimeout = 2 * time.Second

// barrier shares questions for the log's end among the requests that wait for
// one. A request never gets the answer to a question asked before it came in.
type barrier struct {
	mu      sync.Mutex
	running *question // asked; nil: none
	next    *question // to be asked when running is answered; nil: nobody waits
}

type question struct {
	done chan struct{}
	pos  Position
	err  error
}

func (b *barrier) end(ctx context.Context, source Source) (uint64, error) {
	b.mu.Lock()
	q := b.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		if b.running == nil {
			b.running = q
			go b.ask(context.WithoutCancel(ctx), source, q)
		} else {
			b.next = q
		}
	}
	b.mu.Unlock()
	select {
	case <-q.done:
		return q.pos.Seq, q.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrNoQuorum, ctx.Err())
	}
}

// ask puts one question after the other for as long as requests wait.
func (b *barrier) ask(ctx context.Context, source Source, q *question) {
	for q != nil {
		askCtx, cancel := context.WithTimeout(ctx, barrierTimeout)
		q.pos, q.err = source.End(askCtx)
		cancel()
		close(q.done)
		b.mu.Lock()
		b.running, b.next = b.next, nil
		q = b.running
		b.mu.Unlock()
	}
}
