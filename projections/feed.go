package projections

import (
	"sync"

	"github.com/seed-524e47bf/epum/events"
)

// Feed collects what changed in a replica until its reader takes it. Its size
// follows the number of keys that changed, not of the changes.
type Feed struct {
	replica *Replica
	wants   func(events.Envelope) bool // nil: all

	mu      sync.Mutex
	changed map[events.Key]uint64 // key → sequence of its last change
	ready   chan struct{}
	broken  bool
}

// NewFeed starts a feed of the changes that wants agrees to (nil: of all). The
// reader must Close it. wants is called while the replica is locked.
func (r *Replica) NewFeed(wants func(events.Envelope) bool) *Feed {
	f := &Feed{replica: r, wants: wants, changed: map[events.Key]uint64{}, ready: make(chan struct{}, 1)}
	r.mu.Lock()
	r.feeds[f] = true
	r.mu.Unlock()
	return f
}

// Ready has an element when there is something to take.
func (f *Feed) Ready() <-chan struct{} { return f.ready }

// Take gives the keys that changed since the last call, each with the sequence
// of its last change, and forgets them.
func (f *Feed) Take() map[events.Key]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := f.changed
	f.changed = make(map[events.Key]uint64, len(changed)) // as many as the last time, most likely
	return changed
}

// Broken reports whether the replica has started anew since, so that what the
// reader has learned from the feed may be void.
func (f *Feed) Broken() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// Len is the number of keys to take.
func (f *Feed) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.changed)
}

// Close ends the feed.
func (f *Feed) Close() {
	f.replica.mu.Lock()
	delete(f.replica.feeds, f)
	f.replica.mu.Unlock()
}

func (f *Feed) add(env events.Envelope) {
	if f.wants != nil && !f.wants(env) {
		return
	}
	f.mu.Lock()
	f.changed[env.Key] = env.Seq
	f.mu.Unlock()
	f.wake()
}

func (f *Feed) breakOff() {
	f.mu.Lock()
	f.broken = true
	f.mu.Unlock()
	f.wake()
}

func (f *Feed) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}
