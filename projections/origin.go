package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// ErrPurged is returned where something asks for events that were purged from the
// log: they are in the archive.
var ErrPurged = errors.New("projections: the events were purged from the log")

// errRepurged is returned where the log was purged, or its snapshot written anew,
// while it was read: what was read counts for nothing.
var errRepurged = errors.New("projections: the log was purged while it was read")

// PurgePoint says up to which event (Seq) others may be missing from the log, and
// which snapshot stands for them: the fold at Seq, in the bucket of the purged. Of
// each key the last event at Seq or before is still in the log; so the one at Seq
// is. Seq 0: nothing was purged.
type PurgePoint struct {
	Checkpoint
	Snapshot string `json:"snapshot,omitempty"` // the first token of its keys
	Entries  int    `json:"entries,omitempty"`  // how many keys it has
}

// Origin is where every fold of a log begins: at nothing, or at the purge point.
// It is safe for concurrent use.
type Origin struct{ bucket Purged }

// NewOrigin gives the origin of the log whose purges the bucket knows.
func NewOrigin(bucket Purged) *Origin { return &Origin{bucket} }

// Point gives the purge point of the log that was created at a time, from the
// bucket's leader. The error wraps ErrNoQuorum where nobody can say.
func (o *Origin) Point(ctx context.Context, created time.Time) (PurgePoint, error) {
	point, _, err := o.point(ctx)
	if !point.Created.Equal(created) {
		return PurgePoint{}, err
	}
	return point, err
}

func (o *Origin) point(ctx context.Context) (PurgePoint, uint64, error) {
	var point PurgePoint
	entry, err := o.bucket.Newest(ctx, events.CheckpointKey)
	if errors.Is(err, ErrNotFound) {
		return point, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(entry.Value, &point)
	}
	if errors.Is(err, ErrForged) {
		err = fmt.Errorf("%w; 'epum archive --purge --to DIR' writes it anew from an archive that has all", err)
	}
	if err != nil {
		return PurgePoint{}, entry.Revision, fmt.Errorf("purge point: %w", err)
	}
	return point, entry.Revision, nil
}

// Hold calls read with the purge point until that is still the same at the end of
// it: whatever was in the log at the beginning was there all the time. read has to
// begin anew each time.
func (o *Origin) Hold(ctx context.Context, created time.Time, read func(PurgePoint) error) error {
	for {
		point, err := o.Point(ctx, created)
		if err != nil {
			return err
		}
		failed := read(point)
		if failed != nil && ctx.Err() != nil {
			return failed
		}
		now, err := o.Point(ctx, created)
		switch {
		case err != nil:
			return err
		case now == point:
			return failed
		}
	}
}

// usable returns an error unless the snapshot of a point can be read by this program
// and is of the log.
func (p PurgePoint) usable(ctx context.Context, source Source, end Position) error {
	if err := checkIdentity(ctx, source, end, p.Created, p.Seq, p.EventID); err != nil {
		return fmt.Errorf("the snapshot at the purge point: %w", err)
	}
	if p.FoldVersion != events.FoldVersion {
		return fmt.Errorf("projections: the snapshot at the purge point %d is of fold version %d, this is %d; "+
			"'epum archive --purge --to DIR' of this version makes it anew from the archive", p.Seq, p.FoldVersion, events.FoldVersion)
	}
	return nil
}

// State gives the fold at a purge point. The error wraps errRepurged where the
// snapshot is gone or incomplete, as it is while another takes its place.
func (o *Origin) State(ctx context.Context, point PurgePoint) (*events.State, error) {
	state := events.NewState()
	if point.Seq == 0 {
		return state, nil
	}
	found := 0
	err := o.bucket.All(ctx, func(e Entry) error {
		key, own := point.key(e.Key)
		if !own {
			return nil
		}
		found++
		if !documented(key) {
			return nil
		}
		return state.Load(key, e.Value)
	})
	if err == nil && found != point.Entries {
		err = fmt.Errorf("%w: its snapshot %s has %d of %d entries", errRepurged, point.Snapshot, found, point.Entries)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot at the purge point %d: %w", point.Seq, err)
	}
	state.Seq, state.Time, state.Digest = point.Seq, point.Time, point.Digest
	return state, nil
}

// Documents gives the part of the fold at a purge point that keys name; a key may end
// in a wildcard, as in Bucket.Read. Use it inside Hold: a snapshot that another took
// the place of meanwhile looks empty. Where there are more than one answer can give, it
// reads the whole snapshot.
func (o *Origin) Documents(ctx context.Context, point PurgePoint, keys ...events.Key) (*events.State, error) {
	state := events.NewState()
	if point.Seq == 0 {
		return state, nil
	}
	own := make([]events.Key, len(keys))
	for n, k := range keys {
		own[n] = point.entry(k)
	}
	entries, err := o.bucket.Read(ctx, own...)
	if errors.Is(err, ErrTooMany) {
		entries, err = o.search(ctx, own)
	}
	if err != nil {
		return nil, fmt.Errorf("documents at the purge point %d: %w", point.Seq, err)
	}
	for _, e := range entries {
		if key, ok := point.key(e.Key); ok && documented(key) {
			if err := state.Load(key, e.Value); err != nil {
				return nil, err
			}
		}
	}
	state.Seq, state.Time, state.Digest = point.Seq, point.Time, point.Digest
	return state, nil
}

// search is Bucket.Read for any number of entries.
func (o *Origin) search(ctx context.Context, keys []events.Key) (found []Entry, err error) {
	err = o.bucket.All(ctx, func(e Entry) error {
		if slices.ContainsFunc(keys, func(k events.Key) bool {
			first, wild := strings.CutSuffix(string(k), "*")
			return e.Key == k || wild && strings.HasPrefix(string(e.Key), first)
		}) {
			found = append(found, e)
		}
		return nil
	})
	return found, err
}

// repeatEntries begins the keys of the entries that have the command ids of a snapshot,
// in the log's order.
const repeatEntries events.Key = "repeat."

// repeatsAtOnce is how many ids are in one entry.
const repeatsAtOnce = 1000

// remembered is a command id in a snapshot.
type remembered struct {
	ID   string    `json:"id"`
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
}

// repeats gives the command ids of the two minutes before a purge point.
func (o *Origin) repeats(ctx context.Context, point PurgePoint) ([]remembered, error) {
	entries, err := o.bucket.Read(ctx, point.entry(repeatEntries+"*"))
	if err != nil {
		return nil, fmt.Errorf("command ids at the purge point %d: %w", point.Seq, err)
	}
	parts := make(map[string][]remembered, len(entries))
	for _, e := range entries {
		var ids []remembered
		if err := json.Unmarshal(e.Value, &ids); err != nil {
			return nil, fmt.Errorf("command ids at the purge point %d: %w", point.Seq, err)
		}
		parts[string(e.Key)] = ids
	}
	var all []remembered
	for n := 0; len(parts) > 0; n++ {
		key := string(point.entry(repeatEntries + events.Key(fmt.Sprint(n))))
		ids, ok := parts[key]
		if !ok {
			return nil, fmt.Errorf("%w: command ids at the purge point %d are missing", errRepurged, point.Seq)
		}
		delete(parts, key)
		all = append(all, ids...)
	}
	return all, nil
}

func (p PurgePoint) entry(k events.Key) events.Key { return events.Key(p.Snapshot+".") + k }

// key gives what a key of the bucket is in the snapshot; ok is false where it is in
// another one.
func (p PurgePoint) key(k events.Key) (events.Key, bool) {
	rest, ok := strings.CutPrefix(string(k), p.Snapshot+".")
	return events.Key(rest), ok
}

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
	if err != nil && !errors.Is(err, ErrForged) {
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
	stale, err := o.others(ctx, old, func(k events.Key) bool {
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
