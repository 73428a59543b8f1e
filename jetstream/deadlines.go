package jetstream

import (
	"context"
	"sync"
	"time"
)

// deadlines are contexts that many share, where one each would cost more than what
// it is for: they end at multiples of a step.
type deadlines struct {
	parent context.Context
	began  time.Time
	step   time.Duration

	mu   sync.Mutex
	ends map[time.Duration]sharedDeadline // after began
}

type sharedDeadline struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// before gives a context that ends at a time or up to one step earlier.
func (s *deadlines) before(late time.Time) context.Context {
	after := late.Sub(s.began) / s.step * s.step
	s.mu.Lock()
	defer s.mu.Unlock()
	if shared, ok := s.ends[after]; ok {
		return shared.ctx
	}
	if s.ends == nil {
		s.ends = map[time.Duration]sharedDeadline{}
	}
	for end, shared := range s.ends {
		if shared.ctx.Err() != nil {
			shared.cancel()
			delete(s.ends, end)
		}
	}
	ctx, cancel := context.WithDeadline(s.parent, s.began.Add(after))
	s.ends[after] = sharedDeadline{ctx, cancel}
	return ctx
}
