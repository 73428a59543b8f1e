package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// purgesAtOnce is how many keys are purged at once: the server does one after the
	// other, but the way to it takes longer than most.
	purgesAtOnce = 4
	// handledPatience is how long it is waited for what still needs the events: a leader
	// looks for it every 5 s.
	handledPatience = 15 * time.Second
	handledPause    = 100 * time.Millisecond
	// commandSkew is how far before a durable command was published its event may be: that
	// of its first copy, and the clocks of servers are apart, twice.
	commandSkew = commands.RepeatedFor + 10*time.Second
)

// ErrNeeded is returned where events cannot be purged yet.
var ErrNeeded = errors.New("archive: the events are still needed in the log")

// purge removes the events up to a sequence from the log, but for the last one of each
// key, and gives of how many keys it did.
func (j *Job) purge(ctx context.Context, upTo uint64) (uint64, error) {
	if upTo < j.point.Seq {
		upTo = j.point.Seq // an earlier purge may not have ended
	}
	if err := (&Reader{Manifest: j.m, dir: j.Dir}).Check(ctx); err != nil {
		return 0, err
	}
	upTo, err := j.wholeBatches(ctx, upTo)
	if err != nil || upTo == 0 {
		return 0, err
	}
	if err := j.awaitHandled(ctx, upTo); err != nil {
		return 0, err
	}
	if err := j.snapshot(ctx, upTo); err != nil {
		return 0, err
	}
	return j.purgeKeys(ctx)
}

// wholeBatches gives the last sequence up to one that cuts no batch of events in two: what
// is left of one would look like damage.
func (j *Job) wholeBatches(ctx context.Context, upTo uint64) (uint64, error) {
	if upTo <= j.point.Seq {
		return upTo, nil
	}
	whole := upTo
	r := &Reader{Manifest: j.m, dir: j.Dir}
	err := r.Read(ctx, upTo, upTo, func(rec *events.Recorded) error {
		n := rec.Header[events.HeaderBatchSeq]
		if len(n) == 1 && len(rec.Header[events.HeaderBatchCommit]) == 0 {
			if before, err := strconv.ParseUint(n[0], 10, 64); err == nil {
				whole -= min(before, whole)
			}
		}
		return nil
	})
	return max(whole, j.point.Seq), err
}

// awaitHandled waits until nobody needs the events up to a sequence for what has not
// been done yet: a subscriber to be told, or a durable command that may have been
// carried out already. Where nobody can say, it waits as well.
func (j *Job) awaitHandled(ctx context.Context, upTo uint64) error {
	for until := time.Now().Add(j.Patience); ; {
		err := j.handled(ctx, upTo)
		passes := errors.Is(err, ErrNeeded) || errors.Is(err, projections.ErrNoQuorum)
		if !passes || time.Now().After(until) {
			return err
		}
		select {
		case <-time.After(handledPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (j *Job) handled(ctx context.Context, upTo uint64) error {
	untold, err := j.Cell.Notices().Untold(ctx)
	if err != nil {
		return err
	}
	if untold > 0 && untold <= upTo {
		return fmt.Errorf("%w: subscribers were not told yet of what happened from event %d on; let a service run, or purge --before %d", ErrNeeded, untold, untold)
	}
	waits, err := j.Cell.Inbox().OldestCommand(ctx)
	if err != nil || waits.IsZero() {
		return err
	}
	needed, err := lastBefore(ctx, j.log, projections.Point{Time: waits.Add(-commandSkew)}, j.end)
	if err == nil && needed < upTo {
		err = fmt.Errorf("%w: a durable command waits since %s, and it is known by its event if it was carried out; let a service run, or purge --before %d",
			ErrNeeded, waits.Format(time.RFC3339), needed+1)
	}
	return err
}

// snapshot makes the fold at a sequence the one that stands for the events up to there.
// What it is folded from is compared, event by event, with what is still in the log.
func (j *Job) snapshot(ctx context.Context, upTo uint64) error {
	fold, err := j.foldFrom(ctx)
	if err != nil {
		return err
	}
	from := fold.State.Seq + 1
	if from <= upTo && (j.m.First() == 0 || j.m.First() > from || j.m.Last() < upTo) {
		return fmt.Errorf("%w: to purge up to %d it has to have events %d to %d, it has %d to %d", ErrIncomplete, upTo, from, upTo, j.m.First(), j.m.Last())
	}
	if err := j.foldOn(ctx, fold, upTo); err != nil {
		return err
	}
	if err := j.wholeBehind(ctx, upTo); err != nil {
		return err
	}
	if err := j.disk.step("snapshot"); err != nil {
		return err
	}
	j.point, err = j.origin.Write(ctx, fold, j.end.Created)
	if _, conflict := errors.AsType[*events.ConflictError](err); conflict {
		return fmt.Errorf("another 'epum archive --purge' works on this log; try again when it has ended: %w", err)
	}
	return err
}

// wholeBehind returns an error where there is no purge point, so that nothing may have
// been purged, and yet events behind a sequence are missing from the log: the point was
// lost, and a new one there would hide that.
func (j *Job) wholeBehind(ctx context.Context, seq uint64) error {
	if j.point.Seq > 0 {
		return nil
	}
	last := j.m.Last()
	n, err := j.missing(ctx, last, j.end.Seq)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: behind its last event %d the log lacks %d, and no purge explains it; are they in another archive? See 'epum verify'", ErrIncomplete, last, n)
	}
	if err != nil {
		return err
	}
	n, err = j.missing(ctx, seq, last)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: behind event %d the log lacks %d that the archive has, and no purge explains it; if it was purged so far before, purge --before %d",
			ErrIncomplete, seq, n, last+1)
	}
	return err
}

// missing counts the events in (after, upTo] that the log lacks.
func (j *Job) missing(ctx context.Context, after, upTo uint64) (n uint64, err error) {
	n = upTo - after
	err = j.log.Keys(ctx, after, upTo, func(events.Key) { n-- })
	return n, err
}

// foldFrom gives the fold at the purge point, or that of nothing where its snapshot is
// of no use and the archive can replace it.
func (j *Job) foldFrom(ctx context.Context) (*projections.Fold, error) {
	if j.point.FoldVersion == events.FoldVersion || j.point.Seq == 0 {
		fold, err := j.origin.Fold(ctx, j.point)
		if err == nil || j.m.First() != 1 || errors.Is(err, projections.ErrNoQuorum) {
			return fold, err
		}
	}
	return j.origin.Fold(ctx, projections.PurgePoint{})
}

// foldOn folds the archive's events up to a sequence.
func (j *Job) foldOn(ctx context.Context, fold *projections.Fold, upTo uint64) error {
	from := fold.State.Seq + 1
	if from > upTo {
		return nil
	}
	done := j.Progress("check", from, upTo)
	next, stop := iter.Pull2(j.read(ctx, from, upTo))
	defer stop()
	at := fold.State.Seq
	var kept *events.Recorded
	advance := func(to uint64) error {
		for at < to {
			r, err, ok := next()
			switch {
			case err != nil:
				return err
			case !ok:
				return fmt.Errorf("%w: it ends at event %d", ErrIncomplete, at)
			}
			kept, at = r, r.Seq
			fold.Apply(r.Envelope, r.Event)
			done(at)
		}
		return nil
	}
	q := projections.Query{From: projections.Point{Seq: from}, To: projections.Point{Seq: upTo}}
	err := j.log.History(ctx, q, func(r *events.Recorded) error {
		if err := advance(r.Seq); err != nil {
			return err
		}
		if !same(kept, r) {
			return fmt.Errorf("%w: event %d of the archive is not that of the log", ErrOtherLog, r.Seq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return advance(upTo)
}

// read is the archive's events in [from, to], or the error that ended the reading.
func (j *Job) read(ctx context.Context, from, to uint64) iter.Seq2[*events.Recorded, error] {
	return func(yield func(*events.Recorded, error) bool) {
		err := (&Reader{Manifest: j.m, dir: j.Dir}).Read(ctx, from, to, func(r *events.Recorded) error {
			if !yield(r, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// same reports whether two messages are the same, byte for byte.
func same(a, b *events.Recorded) bool {
	return a.Seq == b.Seq && a.Subject == b.Subject && a.Time.Equal(b.Time) && bytes.Equal(a.Body, b.Body) &&
		maps.EqualFunc(a.Header, b.Header, slices.Equal[[]string])
}

// purgeKeys removes of each key what comes before its last event at the purge point. It
// looks into the log for what is left to do, so it may be interrupted at any time.
func (j *Job) purgeKeys(ctx context.Context) (purged uint64, err error) {
	lasts, err := j.log.Lasts(ctx, j.point.Seq, j.Progress("look", 1, j.point.Seq))
	if err != nil {
		return 0, err
	}
	maps.DeleteFunc(lasts, func(_ events.Key, l jetstream.LastOf) bool { return l.Count < 2 })
	if purged, err = j.purgeEach(ctx, lasts); err == nil {
		err = j.disk.step("tidy")
	}
	if err == nil {
		err = j.origin.Tidy(ctx)
	}
	return purged, err
}

func (j *Job) purgeEach(ctx context.Context, lasts map[events.Key]jetstream.LastOf) (purged uint64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := make(chan events.Key)
	var workers sync.WaitGroup
	for range purgesAtOnce {
		workers.Go(func() {
			for key := range keys {
				if err := j.log.PurgeBefore(ctx, key, lasts[key].Seq); err != nil {
					cancel(err)
				}
			}
		})
	}
	done := j.Progress("purge", 0, uint64(len(lasts)))
	for key := range lasts {
		if ctx.Err() != nil {
			break
		}
		if err := j.disk.step("purge"); err != nil {
			cancel(err)
			break
		}
		keys <- key
		purged++
		done(purged)
	}
	close(keys)
	workers.Wait()
	return purged, context.Cause(ctx)
}
