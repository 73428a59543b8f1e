package projections

import (
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// repeatWindow is how long, in stream time, a command id is remembered (design §3).
const repeatWindow = 2 * time.Minute

// repeats remembers the command ids of the last two minutes of stream time.
type repeats struct {
	from  time.Time         // of the first event that was read, zero: none was
	seqs  map[string]uint64 // <caller>/<command id> → sequence of the command's event
	queue []repeat          // in the order of the log
	head  int               // queue[:head] is forgotten
}

type repeat struct {
	id   string
	time time.Time
}

func newRepeats() repeats { return repeats{seqs: map[string]uint64{}} }

func (r *repeats) find(id string) (uint64, bool) {
	seq, ok := r.seqs[id]
	return seq, ok
}

// since is the time from which on, seen at now, all command ids are known.
func (r *repeats) since(now time.Time) time.Time {
	if oldest := horizon(now); r.from.Before(oldest) {
		return oldest
	}
	return r.from
}

// horizon is how far back command ids matter; zero where nothing was folded.
func horizon(now time.Time) time.Time {
	if now.IsZero() {
		return time.Time{}
	}
	return now.Add(-repeatWindow)
}

// all gives what is remembered, oldest first.
func (r *repeats) all() []remembered {
	ids := make([]remembered, 0, len(r.queue)-r.head)
	for _, q := range r.queue[r.head:] {
		ids = append(ids, remembered{ID: q.id, Seq: r.seqs[q.id], Time: q.time})
	}
	return ids
}

// restore puts back what all gave.
func (r *repeats) restore(ids []remembered) {
	for _, id := range ids {
		r.remember(events.Envelope{CausationID: id.ID, Seq: id.Seq, Time: id.Time})
	}
}

// remember keeps the id of an event, with the first sequence that it had, and
// forgets those that have become too old.
func (r *repeats) remember(env events.Envelope) {
	oldest := horizon(env.Time)
	for r.head < len(r.queue) && r.queue[r.head].time.Before(oldest) {
		delete(r.seqs, r.queue[r.head].id)
		r.queue[r.head] = repeat{}
		r.head++
	}
	if r.head > 1024 && r.head > len(r.queue)/2 {
		r.queue = append([]repeat(nil), r.queue[r.head:]...)
		r.head = 0
	}
	// Only now: an id that has just become too old starts anew.
	if _, known := r.seqs[env.CausationID]; !known {
		r.seqs[env.CausationID] = env.Seq
		r.queue = append(r.queue, repeat{id: env.CausationID, time: env.Time})
	}
}
