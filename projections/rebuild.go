package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// rebuildCheck is how often each process looks whether a rebuild was asked for.
	rebuildCheck = time.Second
	// askedVersion is the fold version of a checkpoint that nobody may trust: no program
	// has it, so every reader asks its replica until the bucket is written anew.
	askedVersion = -1
)

// AskRebuild asks for the state bucket to be made anew from the log, under an id that no
// other such question has. It only marks the checkpoint: whoever leads, now or next, does
// the rest, and every process folds the log anew. ErrNotFound where there is no checkpoint:
// then the next leader writes the bucket from the log anyway.
func AskRebuild(ctx context.Context, bucket Bucket, id string) error {
	for {
		c, revision, err := newestCheckpoint(ctx, bucket)
		if revision == 0 && err != nil {
			return fmt.Errorf("ask for a rebuild: %w", err)
		}
		c.FoldVersion, c.Rebuild = askedVersion, id // also where it cannot be read
		value, err := json.Marshal(c)
		if err != nil {
			return err
		}
		_, err = bucket.Write(ctx, nil, value, revision)
		if _, conflict := errors.AsType[*events.ConflictError](err); !conflict {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// RebuildProgress says how far the rebuild with an id is: done once the bucket is the fold
// of the log again. One that was asked for after it stands for it. The error wraps
// ErrNotFound where the bucket no longer knows of it, since it was deleted or a process of
// another version has written it.
func RebuildProgress(ctx context.Context, bucket Bucket, id string) (c Checkpoint, done bool, err error) {
	c, _, err = newestCheckpoint(ctx, bucket)
	switch {
	case errors.Is(err, ErrForged): // the leader puts it right
		return c, false, nil
	case err != nil:
		return c, false, err
	case c.Rebuild == "":
		return c, false, fmt.Errorf("projections: the rebuild %s: %w: the checkpoint names none", id, ErrNotFound)
	}
	return c, c.FoldVersion == events.FoldVersion && c.To == 0, nil
}

// refold is a second fold of the log, made while the first goes on.
type refold struct {
	of    *events.State // the first
	state *events.State
	met   chan struct{} // closed once both are at the same event, from when on they stay so, or the first is started anew
}

// watchRebuild looks at the checkpoint until ctx ends, and folds the log anew where a
// rebuild was asked for.
func (r *Replica) watchRebuild(ctx context.Context) {
	for pause(ctx, rebuildCheck) {
		c, _, err := readCheckpoint(ctx, r.bucket)
		if err != nil || c.Rebuild == "" || r.rebuilt(c.Rebuild) {
			continue
		}
		if err := r.refoldLog(ctx, c.Rebuild); err != nil && ctx.Err() == nil {
			r.log.Warn("folding the log anew failed, it is tried again", "rebuild", c.Rebuild, "error", err)
		}
	}
}

// rebuilt reports whether the replica has folded the whole log since a rebuild was asked
// for, or has started from the bucket that came of it.
func (r *Replica) rebuilt(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rebuild == id
}

// waitRebuilt returns once rebuilt holds, or with ctx's error; at once where there was no
// rebuild.
func (r *Replica) waitRebuilt(ctx context.Context, id string) error {
	for id != "" && !r.rebuilt(id) {
		if !pause(ctx, rebuildCheck/20) {
			return fmt.Errorf("wait for the rebuild %s: %w", id, ctx.Err())
		}
	}
	return nil
}

// refoldLog folds the whole log a second time, beside the fold that goes on, and puts it
// in that one's place if they differ.
func (r *Replica) refoldLog(ctx context.Context, id string) error {
	began := time.Now()
	r.log.Info("a rebuild was asked for: folding the log anew", "rebuild", id, "seq", r.Applied())
	state, err := r.originState(ctx)
	if err != nil {
		return err
	}
	second := &refold{state: state, met: make(chan struct{})}
	r.View(func(s *events.State) { second.of = s })
	defer r.drop(second)
	if err := r.catchUp(ctx, second); err != nil {
		return err
	}
	var before, after map[events.Key]events.Document
	var otherEvents bool // all is as it was, but came of other ones
	r.View(func(s *events.State) {
		before, after = maps.Collect(s.Documents()), maps.Collect(second.state.Documents())
		otherEvents = s.Digest != second.state.Digest
	})
	wrong, example := differing(before, after)
	if wrong == 0 && otherEvents {
		wrong, example = 1, events.CheckpointKey
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != second.of {
		return errors.New("projections: the replica was started anew meanwhile")
	}
	r.rebuild = id
	if wrong > 0 {
		r.log.Error("this replica was not what the log adds up to: it goes on with the new fold", "documents", wrong, "first", example, "rebuild", id)
		r.state = second.state
		for f := range r.feeds {
			f.breakOff()
		}
	}
	r.log.Info("the log is folded anew", "rebuild", id, "seq", r.state.Seq, "wrong", wrong, "took", time.Since(began))
	return nil
}

// originState is the fold at the purge point of the log that the replica follows.
func (r *Replica) originState(ctx context.Context) (*events.State, error) {
	end, err := r.source.End(ctx)
	if err != nil {
		return nil, err
	}
	point, err := r.origin.Point(ctx, end.Created)
	if err != nil {
		return nil, err
	}
	return r.loadOrigin(ctx, &point, end)
}

// missed reports whether events are missing between a second fold and one that comes,
// which the first was not told to do without.
func (r *Replica) missed(second *refold, env events.Envelope) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return env.Seq > second.state.Seq+1 && env.Seq > r.gapless
}

// catchUp brings a second fold to where the first is, and leaves it to apply to keep it
// there.
func (r *Replica) catchUp(ctx context.Context, second *refold) error {
	gap := false
	// A log in which nothing happens may end where a second fold begins.
	for handed := r.hand(second); !handed; {
		tail, stop := context.WithCancel(ctx)
		err := r.source.Tail(tail, TailStart{From: second.state.Seq + 1}, func(env events.Envelope, ev events.Event) {
			if gap = gap || r.missed(second, env); gap {
				stop()
			}
			if handed || gap {
				return
			}
			events.Apply(second.state, env, ev)
			if second.state.Seq >= r.Applied() && r.hand(second) {
				handed = true
				stop()
			}
		})
		stop()
		if gap {
			return fmt.Errorf("%w while it was folded anew", ErrPurged)
		}
		if !handed && !pause(ctx, shortestPause) {
			return fmt.Errorf("fold the log anew: %w", err)
		}
	}
	select {
	case <-second.met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hand gives a second fold to apply, if it is as far as the first or further: else the
// events between would be missing in it.
func (r *Replica) hand(second *refold) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if second.state.Seq < r.state.Seq {
		return false
	}
	r.second = second
	r.meet()
	return true
}

// meet notes that both folds are at the same event. The caller holds the lock.
func (r *Replica) meet() {
	if s := r.second; s != nil && s.state.Seq == r.state.Seq {
		s.letGo()
	}
}

// letGo ends the wait in catchUp. The caller holds the replica's lock.
func (s *refold) letGo() {
	select {
	case <-s.met:
	default:
		close(s.met)
	}
}

// drop forgets a second fold.
func (r *Replica) drop(second *refold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second == second {
		r.second = nil
	}
}

// differing counts the documents that are not the same, and names one of them.
func differing(a, b map[events.Key]events.Document) (n int, example events.Key) {
	differs := func(k events.Key) { n, example = n+1, k }
	for k, d := range a {
		if other, ok := b[k]; !ok || !bytes.Equal(d.AppendJSON(nil), other.AppendJSON(nil)) {
			differs(k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			differs(k)
		}
	}
	return n, example
}
