package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
type Origin struct{ bucket Bucket }

// NewOrigin gives the origin of the log whose purges the bucket knows.
func NewOrigin(bucket Bucket) *Origin { return &Origin{bucket} }

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
	return p.readable()
}

// readable returns an error where the snapshot of a point is of another program's fold.
func (p PurgePoint) readable() error {
	if p.Seq == 0 || p.FoldVersion == events.FoldVersion {
		return nil
	}
	return fmt.Errorf("projections: the snapshot at the purge point %d is of fold version %d, this is %d; "+
		"'epum archive --purge --to DIR' of this version makes it anew from the archive", p.Seq, p.FoldVersion, events.FoldVersion)
}

// State gives the fold at a purge point. The error wraps errRepurged where the
// snapshot is gone or incomplete, as it is while another takes its place.
func (o *Origin) State(ctx context.Context, point PurgePoint) (*events.State, error) {
	state := events.NewState()
	if err := point.readable(); err != nil || point.Seq == 0 {
		return state, err
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
	if err := point.readable(); err != nil || point.Seq == 0 {
		return state, err
	}
	entries, err := o.read(ctx, point, keys...)
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

// lagPatience is how long a server of a replicated bucket may lag behind its leader.
const lagPatience = 2 * time.Second

// read gives the entries of a point's snapshot that keys name. Whichever server answers
// may lag behind the bucket's leader, which gave the point: then it is asked again. The
// error wraps errRepurged where the snapshot is no longer the one that counts.
func (o *Origin) read(ctx context.Context, point PurgePoint, keys ...events.Key) ([]Entry, error) {
	all := []events.Key{events.CheckpointKey}
	for _, k := range keys {
		all = append(all, point.entry(k))
	}
	for until := time.Now().Add(lagPatience); ; {
		entries, err := o.bucket.Read(ctx, all...)
		if errors.Is(err, ErrTooMany) {
			return o.search(ctx, all[1:])
		}
		if err != nil {
			return nil, err
		}
		n := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == events.CheckpointKey })
		var shown PurgePoint
		if n >= 0 && json.Unmarshal(entries[n].Value, &shown) == nil && shown.Snapshot == point.Snapshot && shown.EventID == point.EventID {
			return slices.Delete(entries, n, n+1), nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%w: a server shows the snapshot %q instead of %q", errRepurged, shown.Snapshot, point.Snapshot)
		}
		if !pause(ctx, shortestPause) {
			return nil, ctx.Err()
		}
	}
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
	entries, err := o.read(ctx, point, repeatEntries+"*")
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
