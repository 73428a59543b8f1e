package passes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// ErrUnknownPass is returned by Run for a pass that this version does not have.
var ErrUnknownPass = errors.New("passes: no such pass")

type run struct {
	pass string
	done chan runResult
}

type runResult struct {
	result Result
	err    error
}

// barrierPatience bounds the wait for the log's end before a pass that was asked for.
const barrierPatience = 5 * time.Second

func (t *Term) onRun(ctx context.Context, r run) error {
	began := t.Clock()
	// Whoever asks expects the pass to see what was acknowledged before.
	barrier, cancel := context.WithTimeout(ctx, barrierPatience)
	defer cancel()
	if _, err := t.Replica.Barrier(barrier); err != nil {
		r.done <- runResult{err: fmt.Errorf("catch up before a pass: %w", err)}
		return nil
	}
	var result Result
	var err error
	switch r.pass {
	case PassDecide:
		result, err = t.decideAsked(ctx)
	case PassDoctor:
		result, err = t.examine(ctx)
	case PassReap:
		result, err = t.reap(ctx)
	default:
		r.done <- runResult{err: fmt.Errorf("%w: %q", ErrUnknownPass, r.pass)}
		return nil
	}
	if err == nil {
		err = t.flush(ctx)
	}
	if err == nil && t.ExternalDecide && r.pass == PassDecide {
		t.outbox.send(t.Clock(), true)
	}
	result.Duration = t.Clock().Sub(began)
	r.done <- runResult{result: result, err: err}
	return err
}

// Run runs a pass now and gives its result once it is committed and its
// requests are sent.
func (t *Term) Run(ctx context.Context, pass string) (Result, error) {
	r := run{pass: pass, done: make(chan runResult, 1)}
	select {
	case t.runs <- r:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	select {
	case done := <-r.done:
		return done.result, done.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// mostTurns is how often a pass that was asked for decides on a domain since something
// was got for it: one that waits for metrics may then wait for an answer.
const mostTurns = 2

// decideAsked runs the decide pass that somebody asked for. Where passes are driven
// from outside, it has metrics read, and waits for them and for the answers of
// engines that run outside; each domain is decided on as soon as it has its own.
func (t *Term) decideAsked(ctx context.Context) (Result, error) {
	if !t.ExternalDecide {
		return t.decide(ctx, nil)
	}
	if err := t.catchUp(ctx); err != nil {
		return Result{}, err
	}
	t.inputs.take() // what was got before is read anew
	later, ready := t.inputs.readAll(t.Clock()), map[events.DomainID]bool{}
	all := t.due(nil)
	for _, id := range all {
		if !later[id] {
			ready[id] = true
		}
	}
	result, err := t.decide(ctx, ready)
	for turns := map[events.DomainID]int{}; err == nil; {
		if ready, err = t.await(ctx, later); err != nil || ready == nil {
			break
		}
		for id := range ready {
			delete(later, id)
			if turns[id]++; turns[id] > mostTurns {
				delete(ready, id)
			}
		}
		var more Result
		more, err = t.decide(ctx, ready)
		result.add(more)
	}
	result.Domains = len(all)
	return result, err
}

// await waits until something was read or answered, and gives the domains that can be
// decided on, also those of later that could not be read; nil: nothing is left. The
// pass gets on meanwhile: each of what is waited for is bounded.
func (t *Term) await(ctx context.Context, later map[events.DomainID]bool) (map[events.DomainID]bool, error) {
	t.passTime.Store(0)
	over := false
	select {
	case <-t.inputs.ready:
	case <-t.inputs.nothing():
		over = true
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	got := t.inputs.take()
	for id := range later {
		if over || !t.inputs.reads(id) {
			got[id] = true
		}
	}
	if over && len(got) == 0 {
		return nil, nil //nolint:nilnil // nothing is left
	}
	return got, nil
}

// add adds what a further part of the same pass did.
func (r *Result) add(more Result) {
	r.Launched += more.Launched
	r.Terminated += more.Terminated
	r.Changed += more.Changed
	r.Errors += more.Errors
	r.Seq = max(r.Seq, more.Seq)
}
