package projections

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// staleTail is how long a tail may take to reach a barrier before it is opened
// anew (design §2, 2).
const staleTail = time.Second

// Between two tails lies a pause that grows while they break at once, as they do
// where the log has no quorum.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// Replica is the fold of all events, in memory, kept up to date by tailing the
// log. It is safe for concurrent use.
type Replica struct {
	source *steady
	bucket Bucket
	origin *Origin
	log    *slog.Logger

	mu      sync.RWMutex
	state   *events.State
	created time.Time // the stream's creation time; zero: not started
	lastID  string    // ce-id of the event at state.Seq; "": not known
	repeats repeats   // command ids of the last two minutes
	primeAt uint64    // the event that ends the reading back of command ids
	primed  bool      // it was read
	heard   uint64    // events received, to tell a slow tail from a dead one
	// rejected is the bucket's checkpoint where it was found to be of no use:
	// until a projector has written another, nobody may read the bucket.
	rejected Checkpoint
	gap      uint64         // the first event behind a gap in the log, where there is one to be explained
	gapless  uint64         // up to this event no gap has to be explained: nobody can
	rebuild  string         // the last rebuild after which the log was folded, or the bucket read
	second   *refold        // a second fold that is kept where the first is; nil: there is none
	feeds    map[*Feed]bool // who wants to hear of changes
	waiters  waiters        // who waits for a sequence

	barrier barrier
	retail  chan struct{} // asks for the tail to be opened anew
}

// NewReplica makes a replica that is empty until Run has started it.
func NewReplica(source Source, bucket, purged Bucket, log *slog.Logger) *Replica {
	return &Replica{
		source: &steady{Source: source}, bucket: bucket, origin: NewOrigin(purged), log: log,
		state: events.NewState(), repeats: newRepeats(),
		feeds:  map[*Feed]bool{},
		retail: make(chan struct{}, 1),
	}
}

// View calls read with the state, which does not change meanwhile. read must
// neither block nor keep slices of the state; documents it may keep.
func (r *Replica) View(read func(*events.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	read(r.state)
}

// Applied is the sequence of the last event folded.
func (r *Replica) Applied() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.Seq
}

// Repeat gives the sequence of the event that a command id (<caller>/<id>)
// caused within the last two minutes of stream time.
func (r *Replica) Repeat(causation string) (uint64, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.repeats.find(causation)
}

// RepeatsSince is the stream time from which on Repeat knows all command ids: two
// minutes before the last event folded, or the first event that was read.
func (r *Replica) RepeatsSince() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.repeats.since(r.state.Time)
}

// WaitFor returns when the event at seq is folded, or with ctx's error.
func (r *Replica) WaitFor(ctx context.Context, seq uint64) error {
	// Most ask for what is folded already, and must not stand in the fold's way.
	r.mu.RLock()
	caught := r.caught(seq)
	r.mu.RUnlock()
	if caught {
		return nil
	}
	r.mu.Lock()
	if r.caught(seq) {
		r.mu.Unlock()
		return nil
	}
	w := &waiter{seq: seq, done: make(chan struct{})}
	heap.Push(&r.waiters, w)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.waiters.forget(w)
		r.mu.Unlock()
	}()
	stale := time.NewTicker(staleTail)
	defer stale.Stop()
	heard := r.received()
	for {
		select {
		case <-w.done:
			return nil
		case <-stale.C:
			now := r.received()
			if now == heard {
				r.openAnew()
			}
			heard = now
		case <-ctx.Done():
			return fmt.Errorf("wait for event %d: %w", seq, ctx.Err())
		}
	}
}

// Barrier asks the log for its end and returns that sequence once it is folded.
// The error wraps ErrNoQuorum where the end could not be had.
func (r *Replica) Barrier(ctx context.Context) (uint64, error) {
	seq, err := r.End(ctx)
	if err != nil {
		return 0, err
	}
	return seq, r.WaitFor(ctx, seq)
}

// End gives the log's last sequence, asked from its leader after the call came
// in. Calls that arrive while one is under way share the next.
func (r *Replica) End(ctx context.Context) (uint64, error) {
	return r.barrier.end(ctx, r.source)
}

// caught reports whether the event at seq, and the command ids before it, are
// known. The caller holds the lock.
func (r *Replica) caught(seq uint64) bool { return r.primed && r.state.Seq >= seq }

func (r *Replica) received() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.heard
}

func (r *Replica) openAnew() {
	select {
	case r.retail <- struct{}{}:
	default:
	}
}

// apply folds one event and wakes whom it concerns. It is false where events before
// it are missing: then nothing more is folded until follow has found out why.
func (r *Replica) apply(env events.Envelope, ev events.Event) bool {
	if u, ok := ev.(events.Unknown); ok {
		r.log.Error("event of a type this version does not know", "seq", env.Seq, "key", env.Key, "type", u.Name, "error", u.Err)
	}
	if _, ok := ev.(events.Foreign); ok {
		r.log.Warn("a message in the log that is no event, somebody's answer maybe: ignored", "seq", env.Seq, "key", env.Key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if env.Seq > r.state.Seq+1 && env.Seq > r.gapless {
		r.gap = env.Seq
		return false
	}
	if r.repeats.from.IsZero() {
		r.repeats.from = env.Time
	}
	if env.CausationID != "" && env.Epoch == 0 {
		r.repeats.remember(env)
	}
	r.heard++
	if env.Seq >= r.primeAt {
		r.primed = true
	}
	if env.Seq > r.state.Seq { // else read back for its command id alone
		events.Apply(r.state, env, ev)
		r.lastID = env.ID
		if r.second != nil {
			events.Apply(r.second.state, env, ev)
			r.meet()
		}
		for f := range r.feeds {
			f.add(env)
		}
	}
	for len(r.waiters) > 0 && r.caught(r.waiters[0].seq) {
		close(r.waiters[0].done)
		heap.Pop(&r.waiters)
	}
	return true
}

// Run starts the replica from bucket and log, calls started once it has caught
// up with the log's end, and tails the log until ctx ends. When it finds that
// the log is no longer the one it knows, it starts anew.
func (r *Replica) Run(ctx context.Context, started func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { r.source.keep(ctx) })
	keeper.Go(func() { r.watchRebuild(ctx) })
	defer func() { cancel(); keeper.Wait() }()
	for ctx.Err() == nil {
		if err := r.start(ctx); err != nil {
			r.log.Warn("replica cannot start yet", "error", err)
			if !pause(ctx, 250*time.Millisecond) {
				break
			}
			continue
		}
		err := r.follow(ctx, func() {
			if started != nil {
				started()
				started = nil
			}
		})
		switch {
		case errors.Is(err, errOtherLog):
			r.log.Error("the log is not the one this replica has folded: starting anew from it", "error", err)
		case errors.Is(err, ErrPurged):
			r.log.Warn("the log was purged beyond what this replica has folded: starting anew from its snapshot", "error", err)
		}
	}
	return ctx.Err()
}

// follow tails the log until ctx ends or the log turns out to be another one.
func (r *Replica) follow(ctx context.Context, caughtUp func()) error {
	wait := shortestPause
	for ctx.Err() == nil {
		began := time.Now()
		err := r.checkLog(ctx)
		if err == nil {
			err = r.tail(ctx, caughtUp)
		}
		if errors.Is(err, errOtherLog) || errors.Is(err, ErrPurged) {
			return err
		}
		if ctx.Err() == nil && err != nil {
			r.log.Warn("tail of the log broke, opening it anew", "seq", r.Applied(), "error", err)
			if wait = min(2*wait, longestPause); time.Since(began) > staleTail {
				wait = shortestPause
			}
			pause(ctx, wait)
		}
	}
	return ctx.Err()
}

func (r *Replica) tail(whole context.Context, caughtUp func()) error {
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	select {
	case <-r.retail: // meant for the tail before
	default:
	}
	var watchers sync.WaitGroup
	watchers.Go(func() {
		select {
		case <-r.retail:
			cancel()
		case <-ctx.Done():
		}
	})
	watchers.Go(func() {
		for ctx.Err() == nil {
			if _, err := r.Barrier(ctx); err == nil {
				caughtUp()
				return
			}
			pause(ctx, 100*time.Millisecond)
		}
	})
	r.mu.RLock()
	start := TailStart{From: r.state.Seq + 1}
	if !r.primed {
		start.Since = horizon(r.state.Time)
	}
	r.mu.RUnlock()
	gap := false
	err := r.source.Tail(ctx, start, func(env events.Envelope, ev events.Event) {
		if !gap && !r.apply(env, ev) {
			gap = true
			cancel()
		}
	})
	cancel()
	watchers.Wait()
	if gap {
		return r.explainGap(whole)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
