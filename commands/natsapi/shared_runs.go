package natsapi

import (
	"context"
	"slices"
	"sync"
)

// sharedRuns let requests for the same pass that come while one is under way share
// the next: whoever asks again in the meantime costs no pass of its own.
type sharedRuns struct {
	term context.Context
	run  func(ctx context.Context, pass string) (PassResult, error)

	mu    sync.Mutex
	begun map[string]*passRun // the last one of each pass
	next  map[string]*passRun // waits for the one begun
}

type passRun struct {
	done   chan struct{}
	result PassResult
	err    error
}

// newSharedRuns shares runs, each in the context of the term.
func newSharedRuns(term context.Context, run func(context.Context, string) (PassResult, error)) *sharedRuns {
	return &sharedRuns{term: term, run: run, begun: map[string]*passRun{}, next: map[string]*passRun{}}
}

// Run gives the result of a run that began after the call, unless ctx ends before.
func (s *sharedRuns) Run(ctx context.Context, pass string) (PassResult, error) {
	if !slices.Contains(Passes, pass) {
		return s.run(ctx, pass) // which refuses it
	}
	s.mu.Lock()
	r := s.next[pass]
	if r == nil {
		r = &passRun{done: make(chan struct{})}
		s.next[pass] = r
		go s.follow(s.begun[pass], r, pass)
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
		return PassResult{}, ctx.Err()
	}
}

// follow runs a pass once the run before (nil: none) has ended.
func (s *sharedRuns) follow(before, r *passRun, pass string) {
	defer close(r.done)
	if before != nil {
		<-before.done
	}
	s.mu.Lock()
	s.begun[pass] = r
	delete(s.next, pass)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.term, passTimeout)
	defer cancel()
	r.result, r.err = s.run(ctx, pass)
}
