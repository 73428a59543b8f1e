package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// snapshot puts the snapshot of a state into a bucket of the purged, with command ids as
// its Write has them.
func (b *memBucket) snapshot(s *events.State, eventID, repeats string) projections.PurgePoint {
	point := projections.PurgePoint{
		Checkpoint: projections.Checkpoint{Seq: s.Seq, Time: s.Time, EventID: eventID, Created: created, Digest: s.Digest, FoldVersion: events.FoldVersion},
		Snapshot:   fmt.Sprint("s", s.Seq),
	}
	docs := map[events.Key]string{}
	for k, d := range s.Documents() {
		docs[events.Key(point.Snapshot+".")+k] = string(d.AppendJSON(nil))
	}
	if repeats != "" {
		docs[events.Key(point.Snapshot+".repeat.0")] = repeats
	}
	point.Entries = len(docs)
	data, err := json.Marshal(point)
	if err != nil {
		panic(err)
	}
	docs[events.CheckpointKey] = string(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.docs = docs
	b.revision++
	return point
}

// TestOrigin_Lags: a server of the bucket that does not have the snapshot yet says not
// that there is nothing in it.
func TestOrigin_Lags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, purged := newLog(), &memBucket{}
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		log.add(dom.Key(), events.DomainAdded{DefinitionID: "d"})
		point := purged.snapshot(log.fold(2), "id2", "")
		purged.mu.Lock()
		whole := purged.docs
		purged.docs = nil
		purged.mu.Unlock()
		reads := 0
		purged.reads = func() {
			if reads++; reads == 3 {
				purged.mu.Lock()
				defer purged.mu.Unlock()
				purged.docs = whole
			}
		}
		s, err := projections.NewOrigin(purged).Documents(t.Context(), point, dom.Keys()...)
		if err != nil || s.Domain(dom) == nil {
			t.Errorf("%v, %v", s, err)
		}
	})
}

// TestOrigin_Gone: a snapshot that is never there is an error, and so is that of another
// version.
func TestOrigin_Gone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, purged := newLog(), &memBucket{}
		log.add(dom.Key(), events.DomainAdded{DefinitionID: "d"})
		point := purged.snapshot(log.fold(1), "id1", "")
		origin := projections.NewOrigin(purged)
		old := point
		old.FoldVersion--
		if _, err := origin.Documents(t.Context(), old, dom.Keys()...); err == nil {
			t.Error("read though it is of another version")
		}
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
		purged.snapshot(log.fold(2), "id2", "")
		if _, err := origin.Documents(t.Context(), point, dom.Keys()...); err == nil {
			t.Error("read though another took its place")
		}
	})
}

// TestRebuild_OtherPoint: a snapshot of another life of the log stands for nothing in a
// rebuild, as it does not at the start.
func TestRebuild_OtherPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := wrongBucket()
		other, purged := newLog(), &memBucket{}
		other.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		other.add(dom.Key(), events.DomainAdded{DefinitionID: "of another life"})
		purged.snapshot(other.fold(2), "another", "")
		r := projections.NewReplica(log, bucket, purged, slog.New(slog.DiscardHandler))
		run(t, func(ctx context.Context) { _ = r.Run(ctx, nil) })
		time.Sleep(time.Second)
		if err := projections.AskRebuild(t.Context(), bucket, "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got := definitionOf(r); got != "right" {
			t.Errorf("the domain is of the definition %q", got)
		}
	})
}
