package jetstream

import (
	"sync"
	"time"
)

// seldom lets something through once in a while, so that a warning that anybody
// can cause does not fill the log.
type seldom struct {
	every time.Duration

	mu   sync.Mutex
	last time.Time
	held int // since then
}

// now says whether it may be said now, and how often it was not since the last
// time.
func (s *seldom) now() (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < s.every {
		s.held++
		return 0, false
	}
	held, s.held, s.last = s.held, 0, time.Now()
	return held, true
}
