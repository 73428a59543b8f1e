package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Fold folds events for a snapshot, with the command ids that it needs. It is not
// safe for concurrent use.
type Fold struct {
	State   *events.State
	repeats repeats
	lastID  string
}

// Fold gives the fold at a purge point, to be folded on.
func (o *Origin) Fold(ctx context.Context, point PurgePoint) (*Fold, error) {
	f := &Fold{State: events.NewState(), repeats: newRepeats(), lastID: point.EventID}
	if point.Seq == 0 {
		return f, nil
	}
	var err error
	if f.State, err = o.State(ctx, point); err != nil {
		return nil, err
	}
	ids, err := o.repeats(ctx, point)
	f.repeats.restore(ids)
	return f, err
}

// Apply folds the next event.
func (f *Fold) Apply(env events.Envelope, ev events.Event) {
	events.Apply(f.State, env, ev)
	f.lastID = env.ID
	if env.CausationID != "" && env.Epoch == 0 {
		f.repeats.remember(env)
	}
}

// Write makes a fold the snapshot of the log, created at a time: from then on the
// events before it may be purged. It writes beside the snapshot that there is, which
// counts until the last of it is written, and may be interrupted at any time. A purge
// point that was forged it takes for none. The error is an *events.ConflictError where
// somebody else does the same.
func (o *Origin) Write(ctx context.Context, f *Fold, created time.Time) (PurgePoint, error) {
	if err := o.bucket.Ensure(ctx); err != nil {
		return PurgePoint{}, err
	}
	old, revision, err := o.point(ctx)
	forged := errors.Is(err, ErrForged)
	if err != nil && !forged {
		return PurgePoint{}, err
	}
	next := PurgePoint{
		Checkpoint: Checkpoint{Seq: f.State.Seq, Time: f.State.Time, EventID: f.lastID, Created: created, Digest: f.State.Digest, FoldVersion: events.FoldVersion},
		Snapshot:   fmt.Sprintf("v%d-%d", events.FoldVersion, f.State.Seq),
	}
	switch {
	case next.Seq < old.Seq && old.Created.Equal(created):
		return PurgePoint{}, fmt.Errorf("projections: the log was purged up to %d already, a snapshot at %d is of no use", old.Seq, next.Seq)
	case next.Snapshot == old.Snapshot && next.EventID == old.EventID && old.Created.Equal(created):
		if _, err := o.State(ctx, old); err == nil {
			return old, nil
		}
	}
	if forged { // until the last of it is written nobody may take the log for whole
		old = PurgePoint{Checkpoint: next.Checkpoint}
		old.FoldVersion = askedVersion
	}
	if f.State.HasUnknown() {
		return PurgePoint{}, errors.New("projections: the log has events that this version does not know: a newer one has to make the snapshot")
	}
	return o.replace(ctx, f, old, next, revision)
}

// replace writes the snapshot of next, and then makes it the one that counts.
func (o *Origin) replace(ctx context.Context, f *Fold, old, next PurgePoint, revision uint64) (PurgePoint, error) {
	ids, err := next.remember(f.repeats.all())
	if err != nil {
		return PurgePoint{}, err
	}
	next.Entries = len(ids)
	for range f.State.Documents() {
		next.Entries++
	}
	kept := old
	if next.Snapshot == old.Snapshot {
		kept = PurgePoint{} // it is of no use, and written over: what next does not have has to go
	}
	stale, err := o.others(ctx, kept, func(k events.Key) bool {
		own, ok := next.key(k) // left by an attempt that was interrupted: it is written over
		return ok && (f.State.Document(own) != nil || slices.ContainsFunc(ids, func(e Entry) bool { return e.Key == k }))
	})
	if err != nil {
		return PurgePoint{}, err
	}
	err = o.write(ctx, old, next, revision, func(yield func(Entry) bool) {
		for _, e := range slices.Concat(stale, ids) {
			if !yield(e) {
				return
			}
		}
		for k, d := range f.State.Documents() {
			if !yield(Entry{Key: next.entry(k), Value: d.AppendJSON(nil)}) {
				return
			}
		}
	})
	return next, err
}

// remember gives the entries of command ids.
func (p PurgePoint) remember(ids []remembered) (entries []Entry, err error) {
	for part := range slices.Chunk(ids, repeatsAtOnce) {
		e := Entry{Key: p.entry(repeatEntries + events.Key(fmt.Sprint(len(entries))))}
		if e.Value, err = json.Marshal(part); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Tidy removes all but the snapshot that counts.
func (o *Origin) Tidy(ctx context.Context) error {
	point, revision, err := o.point(ctx)
	if err != nil || revision == 0 {
		return err
	}
	stale, err := o.others(ctx, point, func(events.Key) bool { return false })
	if err != nil || len(stale) == 0 {
		return err
	}
	return o.write(ctx, point, point, revision, slices.Values(stale))
}

// others gives what purges the keys that are no part of a point's snapshot, nor to be
// kept.
func (o *Origin) others(ctx context.Context, point PurgePoint, keep func(events.Key) bool) ([]Entry, error) {
	var purges []Entry
	err := o.bucket.All(ctx, func(e Entry) error {
		_, own := point.key(e.Key)
		own = own && point.Seq > 0
		if e.Key != events.CheckpointKey && !own && !keep(e.Key) {
			purges = append(purges, Entry{Key: e.Key})
		}
		return nil
	})
	return purges, err
}

// write puts and purges entries; the last batch moves the point from old to next.
func (o *Origin) write(ctx context.Context, old, next PurgePoint, revision uint64, entries iter.Seq[Entry]) error {
	err := inBatches(entries, func(batch []Entry, last bool) error {
		point := old
		if last {
			point = next
		}
		value, err := json.Marshal(point)
		if err == nil {
			revision, err = o.bucket.Write(ctx, batch, value, revision)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("snapshot at the purge point %d: %w", next.Seq, err)
	}
	return nil
}
