package archive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// Joined is an archive and the log that it is of as one history: up to its last event
// the archive's, from there on the log's. It is safe for concurrent use.
type Joined struct {
	archive *Reader
	log     *jetstream.Log
	origin  *projections.Origin
	created time.Time
}

var _ projections.History = (*Joined)(nil)

// Join joins the archive in a directory and the log of a cell. The error wraps
// ErrOtherLog where they are not one of the other, and ErrIncomplete where events are
// in neither.
func Join(ctx context.Context, cell *jetstream.Cell, dir string) (*Joined, error) {
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	j := &Joined{archive: r, log: cell.Log(), origin: projections.NewOrigin(cell.Purged())}
	end, err := j.log.End(ctx)
	if err != nil {
		return nil, err
	}
	j.created = end.Created
	point, err := j.origin.Point(ctx, end.Created)
	if err == nil {
		err = checkOf(ctx, cell, &r.Manifest, end, point)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return j, nil
}

// First is the first sequence that there is.
func (j *Joined) First() uint64 { return max(j.archive.First(), 1) }

// Resolve is as jetstream.Log.Resolve.
func (j *Joined) Resolve(ctx context.Context, p projections.Point) (uint64, error) {
	if p.Time.IsZero() {
		return j.log.Resolve(ctx, p)
	}
	next, err := j.firstSince(ctx, p.Time.Add(time.Nanosecond))
	if err != nil || next > 0 {
		return next - min(next, 1), err
	}
	return j.log.Resolve(ctx, p)
}

// firstSince is the first event of the archive from a time on; 0: it has none.
func (j *Joined) firstSince(ctx context.Context, t time.Time) (first uint64, err error) {
	for _, f := range j.archive.Files {
		if f.LastTime.Before(t) {
			continue
		}
		err = j.archive.Read(ctx, f.First, f.Last, func(r *events.Recorded) error {
			if first = r.Seq; r.Time.Before(t) {
				return nil
			}
			return errStop
		})
		if errors.Is(err, errStop) {
			return first, nil
		}
		return 0, err
	}
	return 0, nil
}

// History implements projections.History.
func (j *Joined) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	q, nothing, err := j.settle(ctx, q)
	if nothing || err != nil {
		return err
	}
	last := j.archive.Last()
	if q.From.Time.IsZero() && q.From.Seq <= last {
		match, to := matcher(q.Keys), last
		if q.To.Time.IsZero() { // else it is beyond the archive
			to = min(last, q.To.Seq)
		}
		err := j.archive.Read(ctx, q.From.Seq, to, func(r *events.Recorded) error {
			if match(r.Key) {
				return each(r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		q.From = projections.Point{Seq: last + 1}
	}
	if q.To.Time.IsZero() && q.To.Seq <= last {
		return nil
	}
	err = j.log.History(ctx, q, func(r *events.Recorded) error {
		if r.Seq <= last { // a clock was set back
			return nil
		}
		return each(r)
	})
	if err != nil {
		return err
	}
	point, err := j.origin.Point(ctx, j.created)
	if err == nil && point.Seq > last {
		err = fmt.Errorf("%w: the log was purged up to event %d while it was read, and the archive ends at %d", ErrIncomplete, point.Seq, last)
	}
	return err
}

// settle makes sequences of the times of a query, as far as the archive has them, and
// of no end the last of all sequences. nothing says that there is none.
func (j *Joined) settle(ctx context.Context, q projections.Query) (settled projections.Query, nothing bool, err error) {
	first := j.archive.First()
	if q.From.Seq > 0 && q.From.Seq < first {
		return q, false, fmt.Errorf("%w: it begins at event %d, and event %d was asked for", ErrIncomplete, first, q.From.Seq)
	}
	if !q.From.Time.IsZero() {
		since, err := j.firstSince(ctx, q.From.Time)
		if err != nil {
			return q, false, err
		}
		if since > 0 {
			q.From = projections.Point{Seq: since}
		}
	}
	if q.Follow || q.To == (projections.Point{}) {
		q.To = projections.Point{Seq: math.MaxUint64}
	}
	if !q.To.Time.IsZero() {
		next, err := j.firstSince(ctx, q.To.Time.Add(time.Nanosecond))
		if err != nil {
			return q, false, err
		}
		if next > 0 {
			q.To = projections.Point{Seq: next - 1}
			nothing = next <= max(q.From.Seq, first)
		}
	}
	return q, nothing, nil
}

// matcher tells whether a key is one of those that a query names.
func matcher(patterns []events.Key) func(events.Key) bool {
	return func(k events.Key) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p events.Key) bool { return events.MatchSubject(string(p), string(k)) })
	}
}
