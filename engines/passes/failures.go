package passes

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Failure is an engine that failed.
type Failure struct {
	Time time.Time // the leader's now, UTC
	Err  error
}

// failures are those of the engines that have not decided since. They are no part
// of the log: a term begins with none. It is safe for concurrent use.
type failures struct {
	count atomic.Int64 // nearly always 0, which spares the lock

	mu sync.Mutex
	of map[events.DomainID]Failure
}

func (f *failures) note(id events.DomainID, failure Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[events.DomainID]Failure{}
	}
	f.of[id] = failure
	f.count.Store(int64(len(f.of)))
}

func (f *failures) forget(id events.DomainID) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, id)
	f.count.Store(int64(len(f.of)))
}

// Failure gives how a domain's engine failed last, where it has not decided since.
// It may be called from anywhere.
func (t *Term) Failure(id events.DomainID) (Failure, bool) {
	t.failures.mu.Lock()
	defer t.failures.mu.Unlock()
	failure, ok := t.failures.of[id]
	return failure, ok
}
