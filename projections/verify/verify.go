package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Log is the log as it is verified.
type Log interface {
	projections.History
	// End asks the log's leader for its end.
	End(ctx context.Context) (projections.Position, error)
}

// Bucket is the state bucket as it is verified; its methods are projections.Bucket's.
type Bucket interface {
	// Read gives documents in one isolated answer.
	Read(ctx context.Context, keys ...events.Key) ([]projections.Entry, error)
	// All calls each with every entry.
	All(ctx context.Context, each func(projections.Entry) error) error
}

// Config says what is verified.
type Config struct {
	Log    Log
	Bucket Bucket
	Origin *projections.Origin // of the log; nil: it was never purged
	// SealedFrom is the sequence from which on every event has to have a seal; 0: the
	// first that has one. An older epum wrote none.
	SealedFrom uint64
	// Report is told of each finding as it is found. Its error ends the verification.
	Report func(Finding) error
	// Progress is told of each event: its sequence, and the last one's. nil: nobody is.
	Progress func(seq, last uint64)
}

// Summary is what was verified.
type Summary struct {
	Events     uint64 `json:"events"`     // messages of the log that were read
	Seq        uint64 `json:"seq"`        // the last one
	Unsealed   uint64 `json:"unsealed"`   // events of an older epum, without a seal, that count as they are
	Documents  int    `json:"documents"`  // of the state bucket that are as they should
	Compared   bool   `json:"compared"`   // the bucket was of use
	Checkpoint uint64 `json:"checkpoint"` // the sequence at which it was compared
	Purged     uint64 `json:"purged"`     // up to here most events were purged: it began at the snapshot of them; 0: none were
	Findings   int    `json:"findings"`
	Warnings   int    `json:"warnings"`
}

// verification is one run.
type verification struct {
	Config
	summary Summary
	checker *checker
	end     projections.Position
}

// Run verifies a log and its bucket while the service works on both. What it keeps in
// memory is the fold, and some 40 bytes for each event and each subject. Its error says
// why it could not be done; findings are none.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	v := &verification{Config: cfg}
	v.checker = newChecker(cfg.SealedFrom, v.report)
	err := v.run(ctx)
	v.summary.Unsealed = v.checker.unsealed
	return v.summary, err
}

// run compares the bucket where it stands, then checks the rest of the log.
func (v *verification) run(ctx context.Context) (err error) {
	if v.end, err = v.Log.End(ctx); err != nil {
		return err
	}
	point, err := v.point(ctx)
	if err == nil && point.Seq > 0 {
		err = v.begin(ctx, point)
	}
	if err == nil {
		err = v.compareBucket(ctx)
	}
	if err == nil {
		err = v.foldTo(ctx, v.end.Seq)
	}
	if err == nil {
		err = v.finishBatch(ctx)
	}
	if err != nil {
		return err
	}
	now, err := v.point(ctx)
	if err == nil && now.Seq != point.Seq {
		err = fmt.Errorf("%w up to %d while it was verified, so what is missing says nothing: verify it again", projections.ErrPurged, now.Seq)
	}
	return err
}

// point is the log's purge point.
func (v *verification) point(ctx context.Context) (projections.PurgePoint, error) {
	if v.Origin == nil {
		return projections.PurgePoint{}, nil
	}
	return v.Origin.Point(ctx, v.end.Created)
}

// begin takes the snapshot at a purge point for what the events up to there add up to,
// and looks at those of them that are left.
func (v *verification) begin(ctx context.Context, point projections.PurgePoint) error {
	state, err := v.Origin.State(ctx, point)
	if err != nil {
		return err
	}
	q := projections.Query{To: projections.Point{Seq: point.Seq}}
	if err := v.Log.History(ctx, q, func(r *events.Recorded) error {
		v.summary.Events++
		return v.checker.keep(r)
	}); err != nil {
		return err
	}
	v.checker.begin(state, point.EventID)
	v.summary.Seq, v.summary.Purged = point.Seq, point.Seq
	return nil
}

// report counts a finding and passes it on.
func (v *verification) report(f Finding) error {
	if f.Warning {
		v.summary.Warnings++
	} else {
		v.summary.Findings++
	}
	return v.Report(f)
}

// foldTo checks and folds the events up to a sequence.
func (v *verification) foldTo(ctx context.Context, seq uint64) error {
	if seq <= v.summary.Seq {
		return nil
	}
	last := max(seq, v.end.Seq)
	q := projections.Query{From: projections.Point{Seq: v.summary.Seq + 1}, To: projections.Point{Seq: seq}}
	err := v.Log.History(ctx, q, func(r *events.Recorded) error {
		v.summary.Events++
		v.summary.Seq = r.Seq
		if v.Progress != nil {
			v.Progress(r.Seq, last)
		}
		return v.checker.check(r)
	})
	if err != nil {
		return err
	}
	if v.summary.Seq < seq {
		// Nothing is left of the log's end; what is missing is a gap all the same.
		err = v.checker.missing(seq + 1)
		v.summary.Seq = seq
	}
	return err
}

// batchPatience is how long the rest of a batch may take that was about to be appended
// when the log's end was asked for.
const batchPatience = 2 * time.Second

// finishBatch reads on where the log's end was in the midst of a batch.
func (v *verification) finishBatch(ctx context.Context) error {
	for deadline := time.Now().Add(batchPatience); v.checker.inBatch() && time.Now().Before(deadline); {
		end, err := v.Log.End(ctx)
		if err != nil {
			return err
		}
		if end.Seq > v.summary.Seq {
			if err := v.foldTo(ctx, v.summary.Seq+1); err != nil {
				return err
			}
			continue
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return v.checker.endBatch()
}
