package natsapi

import (
	"context"
	"runtime"
	"sync"

	"github.com/seed-524e47bf/epum/commands"
)

// mostWaiting is how many readings of history may wait for their turn in one process.
const mostWaiting = 64

// gate bounds the readings of history that one process does at a time, which can each
// keep a processor busy for seconds: commands, other reads and the leader's passes
// never wait for them. No caller has more than half of the places, and the callers
// take turns. It is safe for concurrent use.
type gate struct {
	slots   chan struct{} // an element for each reading under way
	mu      sync.Mutex
	here    int // readings that wait or are under way
	callers map[string]*queue
}

// queue is the readings of one caller.
type queue struct {
	slots chan struct{}
	here  int
}

func newGate() *gate {
	return &gate{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), callers: map[string]*queue{}}
}

// enter waits for a caller's turn, unless too many wait already; leave ends it.
func (g *gate) enter(ctx context.Context, caller string) (leave func(), err error) {
	q, err := g.arrive(caller)
	if err != nil {
		return nil, err
	}
	// A reading waits for those of its own caller first. So no more of a caller's stand
	// in the line for a slot than may be under way, and nobody else waits for the rest.
	var taken []chan struct{}
	leave = func() {
		for _, slots := range taken {
			<-slots
		}
		g.depart(caller)
	}
	for _, slots := range []chan struct{}{q.slots, g.slots} {
		select {
		case slots <- struct{}{}:
			taken = append(taken, slots)
		case <-ctx.Done():
			leave()
			return nil, commands.ErrUnavailable.With("other readings of history took all the time; try again")
		}
	}
	return leave, nil
}

// arrive takes a place.
func (g *gate) arrive(caller string) (*queue, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	places := cap(g.slots) + mostWaiting
	if g.here >= places {
		return nil, commands.ErrUnavailable.With("too many readings of history are under way; try again")
	}
	q := g.callers[caller]
	if q == nil {
		q = &queue{slots: make(chan struct{}, max(1, cap(g.slots)/2))}
		g.callers[caller] = q
	}
	if q.here >= places/2 {
		return nil, commands.ErrUnavailable.With("too many of your readings of history are under way; try again when one of them has ended")
	}
	g.here++
	q.here++
	return q, nil
}

// depart gives the place back.
func (g *gate) depart(caller string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.callers[caller]
	g.here--
	if q.here--; q.here == 0 {
		delete(g.callers, caller)
	}
}
