package projections

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// On a replicated stream a leader that was cut off, and then replaced, takes its
// followers for its own again for some milliseconds once the way to them heals:
// their late answers reach it before the word of its successor does. What it says
// of the log's end is old then, and looks as good as any answer (measured in 2 of
// 20 healed partitions, nats-server 2.15). So an answer counts only at the end of
// an unbroken row of good answers of the same leader.
const (
	// provenAfter is how long such a row is: the late answers are worked off in a
	// tenth of it.
	provenAfter = 400 * time.Millisecond
	// rowGap is the longest gap in a row. A follower stands for election 3 s after
	// a cut at the earliest (the server's 4 s without its heartbeat of 1 s). A good
	// answer comes at most 2 s after it, for followers must have been heard within
	// these (jetstream, followerFresh). So no other was elected within the gap.
	rowGap = time.Second
	// keepEvery keeps a row unbroken where nobody asks.
	keepEvery = 300 * time.Millisecond
	// askAgain is the pause between two questions of one caller.
	askAgain = 50 * time.Millisecond
)

// steady is a source whose end comes from a leader that has proven itself.
type steady struct {
	Source

	mu     sync.Mutex
	leader string    // that gave the last good answer; "": the last one was none
	since  time.Time // when the first one of the row came
	last   time.Time // when the last one of the row was given, at the earliest
}

// End implements Source: it asks until the answer counts. Where ctx ends before,
// the error wraps ErrNoQuorum.
func (s *steady) End(ctx context.Context) (Position, error) {
	for {
		asked := time.Now()
		p, err := s.Source.End(ctx)
		if err != nil && ctx.Err() != nil {
			return p, err // that nobody waits any longer says nothing of the leader
		}
		if s.counts(p, err, asked, time.Now()) {
			return p, err
		}
		if !pause(ctx, askAgain) {
			return Position{}, fmt.Errorf("%w: the stream's leader %s has not yet proven itself", ErrNoQuorum, p.Leader)
		}
	}
}

// counts takes an answer, or its error, into account.
func (s *steady) counts(p Position, err error, asked, came time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || p.Leader == "" {
		s.leader = ""
		return true
	}
	given, latest := asked, came
	if !p.Said.IsZero() { // its own clock knows better: a slow answer is no gap
		given, latest = p.Said, p.Said
	}
	if p.Leader != s.leader || latest.Sub(s.last).Abs() > rowGap {
		s.leader, s.since, s.last = p.Leader, came, given
		return false
	}
	if given.After(s.last) {
		s.last = given
	}
	return asked.Sub(s.since) >= provenAfter
}

// keep asks all the time, where the stream is replicated, until ctx ends.
func (s *steady) keep(ctx context.Context) {
	for pause(ctx, keepEvery) {
		s.mu.Lock()
		replicated := s.leader != ""
		s.mu.Unlock()
		if replicated {
			ask, cancel := context.WithTimeout(ctx, barrierTimeout)
			_, _ = s.End(ask) // what comes of it is noted
			cancel()
		}
	}
}
