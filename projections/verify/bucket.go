package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// isolated is how many documents are read in one look that no write cuts in two,
	// together with the checkpoint.
	isolated = 1000
	// settlePatience is how long the bucket may be between two checkpoints: as long as
	// its projector needs for its batches. Longer, and that one has gone.
	settlePatience = 10 * time.Second
)

// compareBucket folds the log up to where the bucket stands and compares the two. The
// bucket may move on meanwhile: then the fold follows.
func (v *verification) compareBucket(ctx context.Context) error {
	at, usable, err := v.settled(ctx)
	if err != nil || !usable {
		return err
	}
	if at.Seq > v.end.Seq { // which was asked for before
		if v.end, err = v.Log.End(ctx); err != nil {
			return err
		}
	}
	if at.Seq > v.end.Seq {
		return v.report(finding(KindBucket, at.Seq, string(events.CheckpointKey), restore,
			"the bucket is at event %d, and the log ends at %d: its last events are missing, or the bucket is of another log", at.Seq, v.end.Seq))
	}
	if err := v.foldTo(ctx, at.Seq); err != nil {
		return err
	}
	if why := v.otherLog(at); why != "" {
		return v.report(finding(KindBucket, at.Seq, string(events.CheckpointKey), rebuild, "%s", why))
	}
	if at.Digest != v.checker.state.Digest {
		err := v.report(finding(KindBucket, at.Seq, string(events.CheckpointKey), restore,
			"the events up to %d are not those that the service has folded, or not in their order", at.Seq))
		if err != nil {
			return err
		}
	}
	doubtful, err := v.glance(ctx)
	if err != nil {
		return err
	}
	for keys := range slices.Chunk(doubtful, isolated) {
		if err := v.compare(ctx, keys); err != nil {
			return err
		}
	}
	v.summary.Compared, v.summary.Checkpoint = true, v.summary.Seq
	return nil
}

// settled waits for a checkpoint that the bucket is exactly at. It is not usable where
// there is none that this program can compare; that is a finding.
func (v *verification) settled(ctx context.Context) (c projections.Checkpoint, usable bool, err error) {
	for deadline := time.Now().Add(settlePatience); ; {
		var found bool
		if c, _, found, err = v.read(ctx); err != nil {
			return c, false, err
		}
		switch {
		case !found:
			err = v.report(finding(KindBucket, 0, string(events.CheckpointKey), "start a process of the service: its leader writes it", "the state bucket has no checkpoint that can be read"))
			return c, false, err
		case c.FoldVersion != events.FoldVersion && c.FoldVersion > 0:
			do := upgrade + ", or 'epum rebuild' with this one"
			err = v.report(finding(KindBucket, 0, string(events.CheckpointKey), do, "it is of fold version %d, this is %d", c.FoldVersion, events.FoldVersion))
			return c, false, err
		case c.To == 0 && c.FoldVersion > 0:
			return c, true, nil
		case time.Now().After(deadline) && c.FoldVersion <= 0:
			err = v.report(finding(KindBucket, 0, string(events.CheckpointKey), "verify again once 'epum rebuild' has ended; the service's leader does it",
				"the bucket is being made anew, so nobody reads it"))
			return c, false, err
		case time.Now().After(deadline):
			err = v.report(finding(KindBucket, c.Seq, string(events.CheckpointKey), "start a process of the service: its leader finishes it",
				"the bucket has been between %d and %d for %s: whoever wrote it has gone", c.Seq, c.To, settlePatience))
			return c, false, err
		}
		if err := pause(ctx); err != nil {
			return c, false, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// otherLog says why a checkpoint is not of this log, which is folded up to its sequence;
// "": it is.
func (v *verification) otherLog(c projections.Checkpoint) string {
	switch {
	case !c.Created.Equal(v.end.Created):
		return fmt.Sprintf("it is of a log that was created at %s, this one was at %s", c.Created.Format(time.RFC3339Nano), v.end.Created.Format(time.RFC3339Nano))
	case c.EventID != "" && c.EventID != v.checker.id:
		return fmt.Sprintf("it says that event %d is %q, and that is %q", c.Seq, c.EventID, v.checker.id)
	case !c.Time.Equal(v.checker.state.Time):
		return fmt.Sprintf("it says that event %d was stored at %s, and the log's time there is %s", c.Seq, c.Time.Format(time.RFC3339Nano), v.checker.state.Time.Format(time.RFC3339Nano))
	}
	return ""
}

// glance reads the whole bucket once, which writes may come between, and gives the keys
// of which it did not show what the fold has: most have what they should.
func (v *verification) glance(ctx context.Context) ([]events.Key, error) {
	doubtful := map[events.Key]bool{}
	seen := map[uint64]bool{}
	var b []byte
	err := v.Bucket.All(ctx, func(e projections.Entry) error {
		if e.Key == events.CheckpointKey {
			return nil
		}
		doc := v.checker.state.Document(e.Key)
		if _, _, ok := e.Key.Parts(); !ok || e.Key.Kind() == events.KindPass {
			f := finding(KindBucket, 0, string(e.Key), harmless, "a key that is nobody's")
			f.Warning = true
			return v.report(f)
		}
		if doc == nil {
			doubtful[e.Key] = true
			return nil
		}
		if b = doc.AppendJSON(b[:0]); bytes.Equal(b, e.Value) {
			seen[v.checker.hash(string(e.Key))] = true
		} else {
			doubtful[e.Key] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	v.summary.Documents = len(seen)
	for k := range v.checker.state.Documents() {
		if !seen[v.checker.hash(string(k))] {
			doubtful[k] = true
		}
	}
	return slices.Sorted(maps.Keys(doubtful)), nil
}

// compare compares some documents with the fold in one isolated look, at the checkpoint
// that the look shows.
func (v *verification) compare(ctx context.Context, keys []events.Key) error {
	for deadline := time.Now().Add(settlePatience); ; {
		c, entries, found, err := v.read(ctx, keys...)
		switch {
		case err != nil:
			return err
		case found && c.To == 0 && c.Seq >= v.summary.Seq && c.FoldVersion == events.FoldVersion:
			if err := v.foldTo(ctx, c.Seq); err != nil {
				return err
			}
			return v.judge(keys, entries)
		case time.Now().After(deadline):
			return v.report(finding(KindBucket, c.Seq, string(events.CheckpointKey), "verify again once the service has a leader",
				"the bucket does not settle: %d documents could not be compared", len(keys)))
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// judge tells of the documents that are not as the fold has them.
func (v *verification) judge(keys []events.Key, entries map[events.Key][]byte) error {
	for _, k := range keys {
		var want []byte
		doc := v.checker.state.Document(k)
		if doc != nil {
			want = doc.AppendJSON(nil)
		}
		got, has := entries[k]
		if what := difference(k, got, want, has, doc != nil); what != "" {
			if err := v.report(finding(KindBucket, v.checker.state.SeqOf(k), string(k), rebuild, "%s", what)); err != nil {
				return err
			}
		} else if doc != nil {
			v.summary.Documents++
		}
	}
	return nil
}

// difference says how a document differs from what the fold has; "": it does not.
func difference(k events.Key, got, want []byte, has, wanted bool) string {
	switch {
	case !has && !wanted:
		return ""
	case !has:
		return "the document is missing"
	case !wanted:
		return "there is a document of what the log does not have"
	case bytes.Equal(got, want):
		return ""
	}
	if _, err := events.DecodeDocument(k, got); err != nil {
		return fmt.Sprintf("the document cannot be read: %v", err)
	}
	var g, w map[string]json.RawMessage
	if json.Unmarshal(got, &g) != nil || json.Unmarshal(want, &w) != nil {
		return "the document differs from what the log adds up to"
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(merged(g, w))) {
		if !bytes.Equal(g[name], w[name]) {
			names = append(names, fmt.Sprintf("%s is %s, and the log says %s", name, text(g[name]), text(w[name])))
		}
	}
	return strings.Join(names, "; ")
}

func merged(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// text is a JSON value as a finding shows it.
func text(v json.RawMessage) string {
	const most = 80 // characters
	switch r := []rune(string(v)); {
	case len(r) == 0:
		return "absent"
	case len(r) > most:
		return string(r[:most]) + "…"
	}
	return string(v)
}

// read gives documents and the checkpoint in one isolated look. found is false where
// there is no checkpoint that can be read.
func (v *verification) read(ctx context.Context, keys ...events.Key) (c projections.Checkpoint, values map[events.Key][]byte, found bool, err error) {
	entries, err := v.Bucket.Read(ctx, append(slices.Clone(keys), events.CheckpointKey)...)
	if err != nil {
		return c, nil, false, err
	}
	values = make(map[events.Key][]byte, len(entries))
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	value, has := values[events.CheckpointKey]
	found = has && json.Unmarshal(value, &c) == nil
	return c, values, found, nil
}
