package natsapi

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/seed-524e47bf/epum/commands"
)

// mostWaiting is how many readings of history may wait for their turn in one process.
const mostWaiting = 64

// gate bounds the readings of history that one process does at a time, which can each
// keep a processor busy for seconds: commands, other reads and the leader's passes
// never wait for them. It is safe for concurrent use.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int32
}

func newGate() *gate {
	return &gate{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// enter waits for a turn, unless too many wait already; leave ends it.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	if g.waiting.Add(1) > mostWaiting {
		g.waiting.Add(-1)
		return nil, commands.ErrUnavailable.With("too many readings of history are under way; try again")
	}
	defer g.waiting.Add(-1)
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots }, nil
	case <-ctx.Done():
		return nil, commands.ErrUnavailable.With("other readings of history took all the time; try again")
	}
}
