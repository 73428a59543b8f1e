package jetstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// causesKept is how long what was read of an aggregate is kept for the next
// question: commands that waited together come one after the other.
const causesKept = time.Minute

// causes are the causation ids of some aggregates' events, as far as somebody has
// asked. A question reads only what no earlier one has, so that many commands on
// one aggregate cost no more than one reading of its events.
type causes struct {
	mu   sync.Mutex
	keys map[events.Key]*causeIndex
}

// causeIndex is what is known of one aggregate: of all its events from a time on,
// up to a sequence.
type causeIndex struct {
	mu   sync.Mutex
	used time.Time // under causes.mu

	from time.Time // zero: nothing was read
	next uint64    // read from here on; 0: nothing was found yet
	last time.Time // of the last event read
	seen map[string]caused
}

// caused is the last event of a causation id.
type caused struct {
	seq  uint64
	time time.Time
}

// of gives the index of an aggregate, and forgets those that nobody uses.
func (c *causes) of(key events.Key) *causeIndex {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	i := c.keys[key]
	if i == nil || now.Sub(i.used) > causesKept {
		for k, other := range c.keys {
			if now.Sub(other.used) > causesKept {
				delete(c.keys, k)
			}
		}
		i = &causeIndex{}
		if c.keys == nil {
			c.keys = map[events.Key]*causeIndex{}
		}
		c.keys[key] = i
	}
	i.used = now
	return i
}

// Caused gives the sequence of the event of a key that has a causation id and was
// stored in [from, until]; a later one may be found, too. It asks the stream's
// leader; the error wraps projections.ErrNoQuorum where nobody answers. What it
// reads it remembers for a minute.
func (l *Log) Caused(ctx context.Context, key events.Key, causation string, from, until time.Time) (uint64, bool, error) {
	i := l.causes.of(key)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.from.IsZero() || from.Before(i.from) {
		i.from, i.next, i.last, i.seen = from, 0, time.Time{}, map[string]caused{}
	}
	for !i.last.After(until) {
		req := get{stream: l.stream, Next: l.prefix.Event(key), Seq: i.next}
		if i.next == 0 {
			req.Since = &i.from
		}
		m, err := readStored(ctx, l.nc, req)
		if notFound(err) {
			break
		}
		if err != nil {
			return 0, false, fmt.Errorf("events of %s: %w", key, err)
		}
		i.next, i.last = m.Seq+1, m.Time
		if id := events.Header(m.header, events.HeaderCausation); id != "" {
			i.seen[id] = caused{m.Seq, m.Time}
		}
	}
	if e, ok := i.seen[causation]; ok && !e.time.Before(from) {
		return e.seq, true, nil
	}
	return 0, false, nil
}
