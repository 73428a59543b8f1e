package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// How much one file holds, at most. Half a minute of a busy log, or a week of a quiet
// one, is lost to a damaged file.
const (
	fileEvents = 100_000
	fileBytes  = 64 << 20 // before compression, some tenth of it after
)

// Job archives the log of a cell into a directory, and purges it. One program at a time
// works on a directory.
type Job struct {
	Cell *jetstream.Cell
	Dir  string
	// Progress is told what is done, from which event to which, and gives what is to be
	// called with each event that is done. Nil: nobody asks.
	Progress func(what string, first, last uint64) func(seq uint64)
	// FileEvents is how many events one file has at most; 0: 100,000.
	FileEvents uint64
	// Patience is how long it is waited for who still needs events that are to be purged;
	// 0: 15 s.
	Patience time.Duration
	// Step is for tests: it is called before every change of the directory or the cell;
	// its error ends the job there, as a kill would. Nil: nothing.
	Step func(what string) error

	log    *jetstream.Log
	origin *projections.Origin
	end    projections.Position
	point  projections.PurgePoint
	disk   *disk
	m      Manifest
}

// Result says what a job has done, and what there is now.
type Result struct {
	First    uint64 `json:"first"` // of the archive; 0: it is empty
	Last     uint64 `json:"last"`
	Archived uint64 `json:"archived"` // events that this job has added
	Files    int    `json:"files"`    // of the archive
	Bytes    int64  `json:"bytes"`
	Purged   uint64 `json:"purged"`      // keys of which this job has purged events
	Point    uint64 `json:"purge_point"` // up to here events may be missing from the log; 0: none
}

// Run archives the events before a point (a sequence, or a time) that the archive does
// not have yet, and then purges them from the log where it is told to. Whatever ends it,
// and whenever, the same call again goes on where it was.
func (j *Job) Run(ctx context.Context, before projections.Point, purge bool) (result Result, err error) {
	if j.Progress == nil {
		j.Progress = func(string, uint64, uint64) func(uint64) { return func(uint64) {} }
	}
	if j.FileEvents == 0 {
		j.FileEvents = fileEvents
	}
	if j.Patience == 0 {
		j.Patience = handledPatience
	}
	j.log, j.origin = j.Cell.Log(), projections.NewOrigin(j.Cell.Purged())
	if j.disk, err = openDisk(j.Dir, j.Step); err != nil {
		return result, err
	}
	defer j.disk.close()
	upTo, err := j.prepare(ctx, before)
	if err != nil {
		return result, err
	}
	had := j.m.Last()
	if err = j.archive(ctx, upTo); err == nil && purge && upTo > 0 {
		result.Purged, err = j.purge(ctx, upTo)
	}
	result.First, result.Last, result.Files, result.Point = j.m.First(), j.m.Last(), len(j.m.Files), j.point.Seq
	for _, f := range j.m.Files {
		result.Bytes += f.Bytes
		if f.First > had {
			result.Archived += f.Count
		}
	}
	return result, err
}

// prepare reads what there is, and gives the last event that comes before a point; 0:
// there is none.
func (j *Job) prepare(ctx context.Context, before projections.Point) (upTo uint64, err error) {
	if j.end, err = j.log.End(ctx); err != nil {
		return 0, err
	}
	if upTo, err = lastBefore(ctx, j.log, before, j.end); err != nil {
		return 0, err
	}
	j.point, err = j.origin.Point(ctx, j.end.Created)
	forged := err
	if err != nil && !errors.Is(err, projections.ErrForged) {
		return 0, err
	}
	j.m, err = readManifest(j.Dir)
	switch {
	case missing(err):
		if err := j.disk.unnamed(); err != nil {
			return 0, err
		}
		j.m = Manifest{Format: manifestFormat, Stream: j.Cell.Prefix().Stream(events.StreamEvents), Prefix: j.Cell.Prefix(), Created: j.end.Created}
	case err != nil:
		return 0, err
	}
	if forged != nil {
		// Whatever it was, an archive of all that was ever purged has more.
		if upTo = j.m.Last(); j.m.First() != 1 {
			return 0, forged
		}
	}
	if err := j.checkPoint(ctx); err != nil {
		return 0, err
	}
	if err := checkOf(ctx, j.Cell, &j.m, j.end, j.point); err != nil {
		return 0, fmt.Errorf("%s: %w", j.Dir, err)
	}
	return upTo, j.disk.tidy(&j.m)
}

// checkPoint returns an error where the purge point is not one of the log as it is: one
// that was restored has events that no archive has.
func (j *Job) checkPoint(ctx context.Context) error {
	if j.point.Seq == 0 {
		return nil
	}
	id, err := j.log.EventID(ctx, j.point.Seq)
	if errors.Is(err, projections.ErrNotFound) {
		id, err = "none", nil
	}
	if err == nil && id != j.point.EventID {
		err = fmt.Errorf("%w: the purge point says that event %d is %s, in the log it is %s; if the log was restored, restore the bucket %s of the same time too, "+
			"or delete that bucket if nothing had been purged then", ErrOtherLog, j.point.Seq, j.point.EventID, id, j.Cell.Prefix().Stream(events.BucketPurged))
	}
	return err
}

// lastBefore gives the last sequence before a point; 0: there is none.
func lastBefore(ctx context.Context, log *jetstream.Log, before projections.Point, end projections.Position) (uint64, error) {
	switch {
	case before.Seq > 0:
		return min(before.Seq-1, end.Seq), nil
	case end.Seq == 0:
		return 0, nil
	}
	return log.Resolve(ctx, projections.Point{Time: before.Time.Add(-time.Nanosecond)})
}

// checkOf returns an error unless an archive is one of a log, and lacks nothing that the
// log no longer has.
func checkOf(ctx context.Context, cell *jetstream.Cell, m *Manifest, end projections.Position, point projections.PurgePoint) error {
	switch {
	case m.Prefix != cell.Prefix():
		return fmt.Errorf("%w: of the prefix %s, this is %s", ErrOtherLog, m.Prefix, cell.Prefix())
	case !m.Created.Equal(end.Created):
		return fmt.Errorf("%w: of a stream created %s, the log was created %s", ErrOtherLog, m.Created.Format(time.RFC3339Nano), end.Created.Format(time.RFC3339Nano))
	case m.Last() > end.Seq:
		return fmt.Errorf("%w: it has events up to %d, the log ends at %d", ErrOtherLog, m.Last(), end.Seq)
	case m.Last() == 0:
		return nil
	case m.Last() < point.Seq:
		return fmt.Errorf("%w: events %d to %d were purged from the log and are in another archive", ErrIncomplete, m.Last()+1, point.Seq)
	}
	id, err := cell.Log().EventID(ctx, m.Last())
	if errors.Is(err, projections.ErrNotFound) {
		return fmt.Errorf("%w: the log has no event %d, and no purge explains it", ErrOtherLog, m.Last())
	}
	if last := m.Files[len(m.Files)-1].LastID; err == nil && id != last {
		return fmt.Errorf("%w: event %d of the log is %s, of the archive %s", ErrOtherLog, m.Last(), id, last)
	}
	return err
}

// archive adds the events up to a sequence. Each file is complete before the manifest
// names it.
func (j *Job) archive(ctx context.Context, upTo uint64) error {
	from := j.m.Last() + 1
	if len(j.m.Files) == 0 {
		from = j.point.Seq + 1
	}
	if from > upTo {
		return nil
	}
	done := j.Progress("archive", from, upTo)
	var file *eventFile
	defer func() {
		if file != nil {
			file.drop()
		}
	}()
	finish := func() error {
		f := file
		file = nil
		if err := f.finish(); err != nil {
			f.drop()
			return err
		}
		j.m.Files = append(j.m.Files, f.File)
		return j.disk.writeManifest(&j.m)
	}
	next := from
	q := projections.Query{From: projections.Point{Seq: from}, To: projections.Point{Seq: upTo}}
	err := j.log.History(ctx, q, func(r *events.Recorded) (err error) {
		if r.Seq != next {
			return j.gap(ctx, next, r.Seq-1)
		}
		next++
		if file == nil {
			if file, err = j.create(r.Seq); err != nil {
				return err
			}
		}
		if err := file.add(r); err != nil {
			return err
		}
		done(r.Seq)
		if file.Count >= j.FileEvents || file.plain >= fileBytes {
			return finish()
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case next != upTo+1:
		return j.gap(ctx, next, upTo)
	case file != nil:
		return finish()
	}
	return nil
}

// create begins a file. The first one comes behind a manifest of none, so that files
// without a manifest mean that it was lost.
func (j *Job) create(first uint64) (*eventFile, error) {
	if len(j.m.Files) == 0 {
		if err := j.disk.writeManifest(&j.m); err != nil {
			return nil, err
		}
	}
	return j.disk.createEvents(first)
}

// gap is the error where events are missing from the log.
func (j *Job) gap(ctx context.Context, from, to uint64) error {
	point, err := j.origin.Point(ctx, j.end.Created)
	if err == nil && point.Seq >= from {
		return fmt.Errorf("%w: another 'epum archive' has purged the log up to event %d meanwhile, and events %d to %d are in its archive alone",
			ErrIncomplete, point.Seq, from, min(to, point.Seq))
	}
	return fmt.Errorf("%w: the log has no events %d to %d, and no purge explains it; see 'epum verify'", ErrIncomplete, from, to)
}
