package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// project runs a projector and gives a channel with what it ended with.
func project(t *testing.T, r *projections.Replica, log *memLog, bucket *memBucket, epoch uint64) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	p := projections.NewProjector(r, log, bucket, slog.New(slog.DiscardHandler))
	run(t, func(ctx context.Context) { ended <- p.Run(ctx, epoch) })
	return ended
}

// checkBucket fails unless the bucket is exactly the fold at the log's end.
func checkBucket(t *testing.T, log *memLog, bucket *memBucket) {
	t.Helper()
	want := map[events.Key]string{}
	s := log.fold(len(log.entries))
	for k, d := range s.Documents() {
		want[k] = string(d.AppendJSON(nil))
	}
	got, _ := bucket.state()
	var c projections.Checkpoint
	if err := json.Unmarshal([]byte(got[events.CheckpointKey]), &c); err != nil {
		t.Fatal(err)
	}
	delete(got, events.CheckpointKey)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bucket (-fold +bucket):\n%s", diff)
	}
	last := log.entries[len(log.entries)-1].env
	if diff := cmp.Diff(projections.Checkpoint{Seq: s.Seq, Time: s.Time, EventID: last.ID, Digest: s.Digest, Created: created, FoldVersion: events.FoldVersion}, c); diff != "" {
		t.Errorf("checkpoint: %s", diff)
	}
}

func TestProjector_Follows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := newLog(), &memBucket{}
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		log.add(dom.Key(), events.DomainAdded{})
		r := follow(t, log, bucket)
		ended := project(t, r, log, bucket, 1)
		synctest.Wait()
		checkBucket(t, log, bucket)

		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		log.add(events.DefinitionKey("x"), events.DefinitionAdded{})
		time.Sleep(time.Second) // of the bubble's clock
		checkBucket(t, log, bucket)
		log.add(dom.InstanceKey("i"), events.Reaped{})
		log.add(events.DefinitionKey("x"), events.DefinitionRemoved{})
		log.add(events.PassKey, events.PassCommitted{})
		time.Sleep(time.Second)
		checkBucket(t, log, bucket)

		before, writes := bucket.state()
		log.add(dom.Key(), events.DomainRemovalRequested{})
		log.add(events.LeaderKey, events.LeaderElected{Process: "q"})
		time.Sleep(time.Second)
		if err := <-ended; !errors.Is(err, events.ErrDeposed) {
			t.Errorf("after a later election: %v", err)
		}
		after, now := bucket.state()
		if diff := cmp.Diff(before, after); diff != "" || now != writes {
			t.Errorf("wrote %d times after a later election: %s", now-writes, diff)
		}
	})
}

// TestProjector_TakesOver: whatever is in the bucket, it becomes the fold.
func TestProjector_TakesOver(t *testing.T) {
	tests := []struct {
		name   string
		change func(*projections.Checkpoint)
	}{
		{"an older state", func(*projections.Checkpoint) {}},
		{"between two states", func(c *projections.Checkpoint) { c.To, c.ToEventID = 5, "id5" }},
		{"of another fold", func(c *projections.Checkpoint) { c.FoldVersion++ }},
		{"of another log", func(c *projections.Checkpoint) { c.EventID = "other" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, bucket := newLog(), &memBucket{}
				log.add(events.DefinitionKey("gone"), events.DefinitionAdded{})
				log.add(dom.Key(), events.DomainAdded{})
				log.add(dom.InstanceKey("i"), events.LaunchRequested{})
				bucket.set(log.fold(3), tt.change)
				log.add(events.DefinitionKey("gone"), events.DefinitionRemoved{})
				log.add(dom.InstanceKey("i"), events.StateChanged{State: events.Running})
				log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
				project(t, follow(t, log, bucket), log, bucket, 6)
				time.Sleep(time.Second)
				checkBucket(t, log, bucket)
			})
		})
	}
}

// TestProjector_DeposedUnawares: one that finds the bucket moved by another, and
// has not folded that one's election yet, must not write its own older state.
func TestProjector_DeposedUnawares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := newLog(), &memBucket{}
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		r := follow(t, log, bucket)
		ended := project(t, r, log, bucket, 1)
		synctest.Wait()
		_, writes := bucket.state()

		log.setDeaf(true)
		synctest.Wait() // the old leader's replica hears no more
		log.add(events.LeaderKey, events.LeaderElected{Process: "q"})
		log.add(dom.Key(), events.DomainAdded{})
		bucket.set(log.fold(3))
		log.setDeaf(false)
		time.Sleep(10 * time.Second)
		select {
		case err := <-ended:
			if !errors.Is(err, events.ErrDeposed) {
				t.Errorf("ended with %v", err)
			}
		default:
			t.Error("goes on after a later election")
		}
		if _, now := bucket.state(); now != writes {
			t.Errorf("wrote %d times over the new leader's", now-writes)
		}
		checkBucket(t, log, bucket)
	})
}

// TestProjector_Unknown: a process that does not know an event never projects.
func TestProjector_Unknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := newLog(), &memBucket{}
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		log.add(dom.Key(), events.Unknown{Name: "epum.domain.new.v9"})
		ended := project(t, follow(t, log, bucket), log, bucket, 1)
		if err := <-ended; !errors.Is(err, events.ErrDeposed) {
			t.Errorf("ended with %v", err)
		}
		if docs, writes := bucket.state(); writes != 0 {
			t.Errorf("wrote %v", docs)
		}
	})
}

// TestProjector_ManyDocuments: while more than one batch is written, the
// checkpoint says so; one of a bucket that is written anew is of no use till then.
func TestProjector_ManyDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := newLog(), &memBucket{}
		add := func(n int) {
			for range n {
				log.add(events.DefinitionKey(fmt.Sprint(len(log.entries))), events.DefinitionAdded{})
			}
		}
		add(2500)
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		project(t, follow(t, log, bucket), log, bucket, 2501)
		time.Sleep(time.Second)
		checkBucket(t, log, bucket)
		add(1499)
		time.Sleep(time.Second)
		checkBucket(t, log, bucket)

		checkpoint := func(seq, to int, version int) projections.Checkpoint {
			c := projections.Checkpoint{FoldVersion: version, Seq: uint64(seq), To: uint64(to)}
			if seq > 0 {
				c.Created, c.Time, c.EventID, c.Digest = created, at(seq), fmt.Sprint("id", seq), log.fold(seq).Digest
			}
			if to > 0 {
				c.ToEventID = fmt.Sprint("id", to)
			}
			return c
		}
		want := []batch{
			{999, checkpoint(0, 2501, -1)},
			{999, checkpoint(0, 2501, -1)},
			{503, checkpoint(2501, 0, events.FoldVersion)},
			{999, checkpoint(2501, 4000, events.FoldVersion)},
			{500, checkpoint(4000, 0, events.FoldVersion)},
		}
		if diff := cmp.Diff(want, bucket.batches); diff != "" {
			t.Errorf("batches: %s", diff)
		}
	})
}
