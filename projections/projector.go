package projections

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// When a flush is due (design §2, 3), and how much goes in one batch.
const (
	flushQuiet   = 10 * time.Millisecond  // after this long without a change
	flushLatest  = 250 * time.Millisecond // after the first change
	flushDirty   = 20_000                 // documents
	batchEntries = 999                    // the server takes 1,000 messages; one is the checkpoint
	batchBytes   = 8 << 20

	documentsPiece = 64 << 10 // bytes of memory that documents share on their way

	bucketCheck = time.Second // how often an idle projector looks whether its bucket is still there
)

// Projector writes what changes in a replica to the state bucket. Only the
// leader runs one; the checkpoint's revision guards every write, so that two
// cannot interleave.
type Projector struct {
	replica *Replica
	source  Source
	bucket  Bucket
	log     *slog.Logger
	epoch   uint64 // of the term
	feed    *Feed  // of all changes

	checkpoint Checkpoint // as this projector wrote it last
	revision   uint64     // of the checkpoint
	seen       uint64     // up to this revision nobody else's writes are left in the bucket
}

// NewProjector makes a projector of one leader's term.
func NewProjector(replica *Replica, source Source, bucket Bucket, log *slog.Logger) *Projector {
	return &Projector{replica: replica, source: source, bucket: bucket, log: log}
}

// Run brings the bucket up to the log and keeps it there until ctx ends, or
// until the replica folds an election later than epoch: then it returns
// events.ErrDeposed. Failures of the bucket are retried.
func (p *Projector) Run(ctx context.Context, epoch uint64) error {
	p.epoch = epoch
	p.feed = p.replica.NewFeed(nil)
	defer p.feed.Close()
	for ctx.Err() == nil {
		err := p.project(ctx)
		if errors.Is(err, events.ErrDeposed) {
			return err
		}
		if ctx.Err() == nil {
			p.log.Warn("projector starts anew", "error", err, "epoch", epoch)
			pause(ctx, 100*time.Millisecond)
		}
	}
	return ctx.Err()
}

// project takes the bucket over and follows the feed until something fails.
func (p *Projector) project(ctx context.Context) error {
	if err := p.takeOver(ctx); err != nil {
		return err
	}
	idle := time.NewTicker(bucketCheck)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			// What is folded already is worth a last flush, so that the next
			// process finds a bucket that is up to date.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLatest)
			defer cancel()
			_ = p.flush(last)
			return ctx.Err()
		case <-p.feed.Ready():
			p.settle(ctx)
			if err := p.flush(ctx); err != nil {
				return err
			}
		case <-idle.C:
			if err := p.stillMine(ctx); err != nil {
				return err
			}
			if err := p.repair(ctx); err != nil {
				return err
			}
		}
	}
}

// settle waits until a flush is due.
func (p *Projector) settle(ctx context.Context) {
	for began, seq := time.Now(), p.replica.Applied(); p.feed.Len() < flushDirty && time.Since(began) < flushLatest; {
		if !pause(ctx, flushQuiet) {
			return
		}
		now := p.replica.Applied()
		if now == seq {
			return
		}
		seq = now
	}
}

// takeOver finds the bucket as an earlier projector left it and writes what it
// lacks, or everything where it is of no use.
func (p *Projector) takeOver(ctx context.Context) error {
	if err := p.bucket.Ensure(ctx); err != nil {
		return err
	}
	checkpoint, revision, err := readCheckpoint(ctx, p.bucket)
	if errors.Is(err, ErrNoQuorum) {
		return err // it may be of use yet
	}
	end, endErr := p.replica.source.End(ctx)
	if endErr != nil {
		return endErr
	}
	// Whoever wrote what is there had folded no more than this; a later election
	// that the replica has not heard of yet is found out here, too.
	if err := cmp.Or(p.replica.WaitFor(ctx, end.Seq), p.replica.waitRebuilt(ctx, checkpoint.Rebuild)); err != nil {
		return err
	}
	if err == nil {
		err = checkpoint.check(ctx, p.source, end)
	}
	p.checkpoint, p.revision = checkpoint, revision
	if p.seen == 0 || p.seen > revision {
		p.seen = revision
	}
	if err == nil && p.replica.refused(checkpoint) {
		err = errors.New("projections: the bucket has documents that cannot be read")
	}
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, ErrNotFound) {
			level = slog.LevelInfo // as on every first start
		}
		p.log.Log(ctx, level, "writing the state bucket anew", "reason", err.Error(), "seq", end.Seq)
		return p.rewrite(ctx)
	}
	keys := map[events.Key]uint64{}
	err = p.source.Keys(ctx, checkpoint.Seq, p.replica.Applied(), func(k events.Key) {
		if documented(k) {
			keys[k] = 0
		}
	})
	if err != nil {
		return err
	}
	snap, err := p.snapshot(func(*events.State) map[events.Key]uint64 {
		maps.Copy(keys, p.changed()) // what has been folded since Applied was asked
		return keys
	})
	if err != nil {
		return err
	}
	return p.write(ctx, snap)
}

// rewrite makes the bucket hold the fold and nothing else.
func (p *Projector) rewrite(ctx context.Context) error {
	keys := map[events.Key]uint64{}
	err := p.bucket.All(ctx, func(e Entry) error {
		if e.Key == events.CheckpointKey {
			var c Checkpoint
			if err := json.Unmarshal(e.Value, &c); err == nil && c.Rebuild != p.checkpoint.Rebuild {
				return fmt.Errorf("projections: the rebuild %s was asked for meanwhile", c.Rebuild)
			}
			p.revision = e.Revision
		} else if documented(e.Key) {
			keys[e.Key] = 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Until the last batch is in, no reader may trust the bucket.
	p.checkpoint = Checkpoint{FoldVersion: askedVersion, Rebuild: p.checkpoint.Rebuild}
	snap, err := p.snapshot(func(s *events.State) map[events.Key]uint64 {
		for k := range s.Documents() {
			keys[k] = 0
		}
		return keys
	})
	if err != nil {
		return err
	}
	return p.write(ctx, snap)
}

// repair writes anew what somebody else has written to the bucket: whoever asks a
// server for something may name a key as the place for the answer.
func (p *Projector) repair(ctx context.Context) error {
	strays, upTo, err := p.bucket.Strays(ctx, p.seen)
	if err != nil {
		return err
	}
	keys := map[events.Key]uint64{}
	for _, k := range strays {
		if documented(k) {
			keys[k] = 0
		}
	}
	if len(keys) > 0 {
		p.log.Warn("documents that no projector wrote, somebody's answers maybe: written anew", "documents", len(keys), "first", strays[0])
		snap, err := p.snapshot(func(*events.State) map[events.Key]uint64 {
			maps.Copy(keys, p.changed())
			return keys
		})
		if err != nil {
			return err
		}
		if err := p.writeAll(ctx, snap); err != nil {
			return err
		}
	}
	p.seen = max(p.seen, upTo)
	return nil
}

// stillMine returns an error unless the checkpoint is as this projector left it.
func (p *Projector) stillMine(ctx context.Context) error {
	_, revision, err := readCheckpoint(ctx, p.bucket)
	if err != nil {
		return err
	}
	if revision != p.revision {
		return &events.ConflictError{Guard: events.Guard{Key: events.CheckpointKey, Seq: p.revision}, Got: revision}
	}
	return nil
}

// flush writes what the feed has collected.
func (p *Projector) flush(ctx context.Context) error {
	snap, err := p.snapshot(func(*events.State) map[events.Key]uint64 { return p.changed() })
	if err != nil {
		return err
	}
	return p.write(ctx, snap)
}

// changed takes from the feed the keys that may have a document.
func (p *Projector) changed() map[events.Key]uint64 {
	keys := p.feed.Take()
	maps.DeleteFunc(keys, func(k events.Key, _ uint64) bool { return !documented(k) })
	return keys
}

// snapshot is the documents of some keys as of one sequence.
type snapshot struct {
	keys       map[events.Key]uint64
	documents  map[events.Key]events.Document // a key of keys without one has none
	checkpoint Checkpoint
}

// snapshot takes the keys and their documents in one isolated look. It fails
// with events.ErrDeposed where the fold has a later election, an event that this
// program does not know, or was started anew.
func (p *Projector) snapshot(keys func(*events.State) map[events.Key]uint64) (snapshot, error) {
	r := p.replica
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p.feed.Broken() || r.state.Leader().Epoch > p.epoch || r.state.HasUnknown() {
		return snapshot{}, events.ErrDeposed
	}
	snap := snapshot{keys: keys(r.state), checkpoint: Checkpoint{
		Seq: r.state.Seq, Time: r.state.Time, EventID: r.lastID, Digest: r.state.Digest, Created: r.created,
		FoldVersion: events.FoldVersion, Rebuild: p.checkpoint.Rebuild,
	}}
	snap.documents = make(map[events.Key]events.Document, len(snap.keys))
	for k := range snap.keys {
		if d := r.state.Document(k); d != nil {
			snap.documents[k] = d
		}
	}
	return snap, nil
}

// write puts a snapshot into the bucket that is newer than what it has.
func (p *Projector) write(ctx context.Context, snap snapshot) error {
	if p.checkpoint.Seq == snap.checkpoint.Seq && p.checkpoint.To == 0 && p.checkpoint.FoldVersion == events.FoldVersion {
		return nil
	}
	return p.writeAll(ctx, snap)
}

// writeAll puts a snapshot into the bucket: in one batch where it fits, else in
// several, with the checkpoint saying so until the last.
func (p *Projector) writeAll(ctx context.Context, snap snapshot) error {
	between := p.checkpoint
	between.To, between.ToEventID = snap.checkpoint.Seq, snap.checkpoint.EventID
	return inBatches(snap.entries, func(batch []Entry, last bool) error {
		if last {
			return p.writeBatch(ctx, batch, snap.checkpoint)
		}
		return p.writeBatch(ctx, batch, between)
	})
}

// entries gives what writes the snapshot.
func (s snapshot) entries(yield func(Entry) bool) {
	var document, piece []byte // the latter holds many
	for k := range s.keys {
		e := Entry{Key: k}
		if d := s.documents[k]; d != nil {
			document = d.AppendJSON(document[:0])
			if len(document) > cap(piece)-len(piece) {
				piece = make([]byte, 0, max(len(document), documentsPiece))
			}
			from := len(piece)
			piece = append(piece, document...)
			e.Value = piece[from:len(piece):len(piece)]
		}
		if !yield(e) {
			return
		}
	}
}

// inBatches writes entries, each time as many as one atomic batch takes. The last
// batch may be empty.
func inBatches(entries iter.Seq[Entry], write func(batch []Entry, last bool) error) error {
	var batch []Entry
	bytes := 0
	for e := range entries {
		if len(batch) == batchEntries || bytes+len(e.Value) > batchBytes {
			if err := write(batch, false); err != nil {
				return err
			}
			batch, bytes = nil, 0
		}
		batch, bytes = append(batch, e), bytes+len(e.Value)
	}
	return write(batch, true)
}

// documented reports whether a key is of something that can have a document. Any
// subject may have a foreign message, also one that would hit the checkpoint.
func documented(k events.Key) bool {
	_, _, ok := k.Parts()
	return ok && k.Kind() != events.KindPass
}

func (p *Projector) writeBatch(ctx context.Context, batch []Entry, checkpoint Checkpoint) error {
	value, err := json.Marshal(checkpoint)
	if err != nil {
		return err
	}
	revision, err := p.bucket.Write(ctx, batch, value, p.revision)
	if err != nil {
		return err
	}
	p.checkpoint, p.revision = checkpoint, revision
	if revision == p.seen+uint64(len(batch))+1 { // nobody else's write lies between
		p.seen = revision
	}
	return nil
}
