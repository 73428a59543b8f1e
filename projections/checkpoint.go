package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// errOtherLog is returned when the log is not the one that was folded: it was
// made anew, restored to an earlier state, or lost its tail (design §2, 6).
var errOtherLog = errors.New("projections: another log")

// Checkpoint is the bucket's document that says what the others add up to: the
// fold at Seq, or, while To is set, something between Seq and To.
type Checkpoint struct {
	Seq         uint64    `json:"seq"`
	To          uint64    `json:"to,omitempty"`
	Time        time.Time `json:"time"`                  // timestamp of the event at Seq
	EventID     string    `json:"event_id,omitempty"`    // ce-id of the event at Seq
	ToEventID   string    `json:"to_event_id,omitempty"` // ce-id of the event at To
	Created     time.Time `json:"stream_created"`        // which log
	Digest      uint64    `json:"digest,string"`         // of the events up to Seq
	FoldVersion int       `json:"fold_version"`
	Rebuild     string    `json:"rebuild,omitempty"` // the last rebuild that was asked for; "": none was
}

// check says why a checkpoint is of no use with a log; nil where it is.
func (c Checkpoint) check(ctx context.Context, source Source, end Position) error {
	if c.FoldVersion != events.FoldVersion {
		return fmt.Errorf("projections: the bucket is of fold version %d, this is %d", c.FoldVersion, events.FoldVersion)
	}
	if err := checkIdentity(ctx, source, end, c.Created, c.Seq, c.EventID); err != nil {
		return err
	}
	if c.To == 0 {
		return nil
	}
	return checkIdentity(ctx, source, end, c.Created, c.To, c.ToEventID)
}

// checkIdentity returns an error that wraps errOtherLog unless the log was
// created at the given time and has the event with the given id at seq.
func checkIdentity(ctx context.Context, source Source, end Position, created time.Time, seq uint64, id string) error {
	if !end.Created.Equal(created) {
		return fmt.Errorf("%w: created %s, not %s", errOtherLog, end.Created, created)
	}
	if end.Seq < seq {
		return fmt.Errorf("%w: it ends at %d, before %d", errOtherLog, end.Seq, seq)
	}
	if seq == 0 || id == "" {
		return nil
	}
	got, err := source.EventID(ctx, seq)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: it has no event %d", errOtherLog, seq)
	}
	if err != nil {
		return fmt.Errorf("read event %d: %w", seq, err)
	}
	if got != id {
		return fmt.Errorf("%w: event %d is %s, not %s", errOtherLog, seq, got, id)
	}
	return nil
}

// readCheckpoint gives the bucket's checkpoint and its revision; ErrNotFound
// where there is none. It may be an earlier one, as Bucket.Read says.
func readCheckpoint(ctx context.Context, bucket Bucket) (Checkpoint, uint64, error) {
	entries, err := bucket.Read(ctx, events.CheckpointKey)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	if len(entries) == 0 {
		return Checkpoint{}, 0, fmt.Errorf("checkpoint: %w", ErrNotFound)
	}
	return decodeCheckpoint(entries[0])
}

// newestCheckpoint is readCheckpoint from the bucket's leader: never an earlier one. The
// revision is there also where the error wraps ErrForged.
func newestCheckpoint(ctx context.Context, bucket Bucket) (Checkpoint, uint64, error) {
	entry, err := bucket.Newest(ctx, events.CheckpointKey)
	if err != nil {
		return Checkpoint{}, entry.Revision, err
	}
	return decodeCheckpoint(entry)
}

func decodeCheckpoint(e Entry) (c Checkpoint, revision uint64, err error) {
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return Checkpoint{}, e.Revision, fmt.Errorf("projections: checkpoint: %w", err)
	}
	return c, e.Revision, nil
}

// start sets the replica to what the bucket has, where that is of use, else to
// the log's origin. The tail adds the rest.
func (r *Replica) start(ctx context.Context) error {
	// The checkpoint comes first: one that is written after the log's end was
	// asked for would look like that of another log.
	checkpoint, _, unreadable := readCheckpoint(ctx, r.bucket)
	end, err := r.source.End(ctx)
	if err != nil {
		return err
	}
	point, err := r.origin.Point(ctx, end.Created)
	if err != nil {
		return err
	}
	var state *events.State
	if err = unreadable; err == nil {
		state, err = r.loadBucket(ctx, checkpoint, point, end)
	}
	if errors.Is(err, ErrNoQuorum) {
		return err // it may be of use yet
	}
	// Whatever comes next, the bucket or the log, is read after the question.
	asked := checkpoint.Rebuild
	var rejected Checkpoint
	if err != nil {
		r.log.Info("no usable state bucket: reading the log from its beginning", "reason", err.Error(), "seq", end.Seq, "purged", point.Seq)
		rejected = checkpoint
		if state, err = r.loadOrigin(ctx, &point, end); err != nil {
			return err
		}
		checkpoint = point.Checkpoint
	}
	repeats := newRepeats()
	if point.Seq > 0 && !point.Time.Before(horizon(state.Time)) {
		ids, err := r.origin.repeats(ctx, point)
		if err != nil {
			return err
		}
		repeats.restore(ids)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.created, r.lastID, r.rejected = state, end.Created, checkpoint.EventID, rejected
	r.repeats, r.primeAt, r.primed = repeats, state.Seq, state.Seq == 0
	r.gap, r.gapless = 0, 0
	if r.second != nil {
		r.second.letGo()
	}
	r.rebuild, r.second = asked, nil
	for f := range r.feeds {
		f.breakOff()
	}
	return nil
}

// loadOrigin gives the fold at the purge point. A snapshot that is another log's is
// none: then the point becomes the zero one.
func (r *Replica) loadOrigin(ctx context.Context, point *PurgePoint, end Position) (*events.State, error) {
	if point.Seq > 0 {
		err := point.usable(ctx, r.source, end)
		if errors.Is(err, errOtherLog) {
			r.log.Error("the snapshot of what was purged is of another log, so it stands for nothing in this one", "error", err)
			*point = PurgePoint{}
		} else if err != nil {
			return nil, err
		}
	}
	return r.origin.State(ctx, *point)
}

// gapPatience is how long a gap in the log has to stay without a purge that explains
// it: a server that was cut off may not know yet of the purge.
const gapPatience = 2 * time.Second

// explainGap says why events are missing behind what is folded: the error wraps
// ErrPurged where they were purged. Where nothing explains it, the next tail goes on
// behind what is missing: what is there is worth more than nothing.
func (r *Replica) explainGap(ctx context.Context) error {
	r.mu.RLock()
	from, to := r.state.Seq+1, r.gap-1
	r.mu.RUnlock()
	for until := time.Now().Add(gapPatience); time.Now().Before(until); {
		if err := r.purgedBeyond(ctx); err != nil {
			return err
		}
		if !pause(ctx, gapPatience/4) {
			return ctx.Err()
		}
	}
	end, err := r.source.End(ctx)
	if err != nil {
		return err
	}
	r.log.Error("events are missing from the log, and no purge explains it: folding what is there", "from", from, "to", to)
	r.mu.Lock()
	r.gapless = end.Seq
	r.mu.Unlock()
	return nil
}

// purgedBeyond returns an error that wraps ErrPurged where events that are not folded
// may be missing from the log.
func (r *Replica) purgedBeyond(ctx context.Context) error {
	r.mu.RLock()
	created, applied := r.created, r.state.Seq
	r.mu.RUnlock()
	point, err := r.origin.Point(ctx, created)
	if err == nil && point.Seq > applied {
		err = fmt.Errorf("%w: up to %d, but only those up to %d are folded", ErrPurged, point.Seq, applied)
	}
	return err
}

// refused reports whether a checkpoint is that of the bucket which this replica has
// found to be of no use.
func (r *Replica) refused(c Checkpoint) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return c.Seq == r.rejected.Seq && c.EventID == r.rejected.EventID && c.Rebuild == r.rejected.Rebuild
}

func (r *Replica) loadBucket(ctx context.Context, c Checkpoint, point PurgePoint, end Position) (*events.State, error) {
	if c.Seq < point.Seq {
		return nil, fmt.Errorf("%w up to %d, the bucket is at %d", ErrPurged, point.Seq, c.Seq)
	}
	if err := c.check(ctx, r.source, end); err != nil {
		return nil, err
	}
	state := events.NewState()
	err := r.bucket.All(ctx, func(e Entry) error {
		if !documented(e.Key) {
			return nil // the checkpoint, or nobody's
		}
		return state.Load(e.Key, e.Value)
	})
	if err == nil {
		err = r.loadChanged(ctx, c, state)
	}
	// The documents may be newer than the checkpoint that was read first; the
	// events up to theirs are then skipped.
	state.Seq, state.Time, state.Digest = c.Seq, c.Time, c.Digest
	return state, err
}

// loadChanged reads the documents again that were written after the checkpoint
// was read, as far as the first look missed them. Without its document, an event
// that creates nothing would be ignored.
func (r *Replica) loadChanged(ctx context.Context, c Checkpoint, state *events.State) error {
	end, err := r.source.End(ctx)
	if err != nil {
		return err
	}
	missed := map[events.Key]bool{}
	err = r.source.Keys(ctx, c.Seq, end.Seq, func(k events.Key) {
		if documented(k) && state.SeqOf(k) == 0 {
			missed[k] = true
		}
	})
	if err != nil {
		return err
	}
	const atOnce = 1000 // documents in one isolated read
	for keys := range slices.Chunk(slices.Collect(maps.Keys(missed)), atOnce) {
		entries, err := r.bucket.Read(ctx, append(keys, events.CheckpointKey)...)
		if err != nil {
			return err
		}
		at, err := loadEntries(state, entries)
		if err != nil {
			return err
		}
		if at.Seq < c.Seq { // a copy of the bucket that lags
			return fmt.Errorf("projections: read the documents of checkpoint %d after %d", at.Seq, c.Seq)
		}
	}
	return nil
}

// loadEntries loads documents and gives the checkpoint among them.
func loadEntries(state *events.State, entries []Entry) (c Checkpoint, err error) {
	for _, e := range entries {
		if e.Key == events.CheckpointKey {
			err = json.Unmarshal(e.Value, &c)
		} else if documented(e.Key) {
			err = state.Load(e.Key, e.Value)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// checkLog returns an error that wraps errOtherLog where the log is no longer
// the one that this replica folded.
func (r *Replica) checkLog(ctx context.Context) error {
	r.mu.RLock() // before the log is asked: this may go on meanwhile
	created, seq, id := r.created, r.state.Seq, r.lastID
	r.mu.RUnlock()
	end, err := r.source.End(ctx)
	if err != nil {
		return err
	}
	err = checkIdentity(ctx, r.source, end, created, seq, id)
	if errors.Is(err, errOtherLog) && end.Created.Equal(created) {
		if purged := r.purgedBeyond(ctx); purged != nil { // also the event that tells the log
			return purged
		}
	}
	return err
}
