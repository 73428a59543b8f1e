package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// wrongBucket is a log that made dom out of one definition, and a bucket that says it was
// another.
func wrongBucket() (*memLog, *memBucket) {
	log, other, bucket := newLog(), newLog(), &memBucket{}
	for l, definition := range map[*memLog]string{log: "right", other: "wrong"} {
		l.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		l.add(dom.Key(), events.DomainAdded{DefinitionID: definition})
	}
	bucket.set(other.fold(2))
	return log, bucket
}

func definitionOf(r *projections.Replica) (id string) {
	r.View(func(s *events.State) { id = s.Domain(dom).DefinitionID })
	return id
}

// TestRebuild_Replica has a replica that started from a wrong bucket take the fold of the
// log instead once a rebuild is asked for, and not before; the log grows meanwhile.
func TestRebuild_Replica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := wrongBucket()
		r := follow(t, log, bucket)
		feed := r.NewFeed(nil)
		defer feed.Close()
		time.Sleep(3 * time.Second)
		if got := definitionOf(r); got != "wrong" || feed.Broken() {
			t.Fatalf("nobody has asked: %s, broken %v", got, feed.Broken())
		}
		if err := projections.AskRebuild(t.Context(), bucket, "r1"); err != nil {
			t.Fatal(err)
		}
		for n := range 30 {
			log.add(dom.Key(), events.DomainSubscribed{SubscriberName: strings.Repeat("s", n+1)})
			time.Sleep(50 * time.Millisecond)
		}
		if got := definitionOf(r); got != "right" || !feed.Broken() || r.Applied() != 32 {
			t.Errorf("at %d: %s, broken %v", r.Applied(), got, feed.Broken())
		}
		var subscribers int
		r.View(func(s *events.State) { subscribers = len(s.Domain(dom).Subscribers) })
		if subscribers != 30 {
			t.Errorf("%d subscribers", subscribers)
		}
		// One that is right goes on with what it has.
		again := r.NewFeed(nil)
		defer again.Close()
		if err := projections.AskRebuild(t.Context(), bucket, "r2"); err != nil {
			t.Fatal(err)
		}
		before := len(log.tails())
		time.Sleep(3 * time.Second)
		if len(log.tails()) != before+1 || again.Broken() {
			t.Errorf("%d more tails, broken %v", len(log.tails())-before, again.Broken())
		}
	})
}

// TestRebuild_Projector writes a bucket anew that was marked, and says whose wish that was.
func TestRebuild_Projector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := newLog(), &memBucket{}
		log.add(events.LeaderKey, events.LeaderElected{Process: "p"})
		log.add(dom.Key(), events.DomainAdded{DefinitionID: "d"})
		if err := projections.AskRebuild(t.Context(), bucket, "r0"); !errors.Is(err, projections.ErrNotFound) {
			t.Errorf("without a bucket: %v", err)
		}
		r := follow(t, log, bucket)
		project(t, r, log, bucket, 1)
		time.Sleep(time.Second)
		checkBucket(t, log, bucket)
		if _, _, err := projections.RebuildProgress(t.Context(), bucket, "r0"); !errors.Is(err, projections.ErrNotFound) {
			t.Errorf("a bucket that knows of no rebuild: %v", err)
		}
		for _, id := range []string{"r1", "r2"} {
			bucket.mu.Lock()
			bucket.docs[dom.Key()], bucket.docs["definition.of-nobody"] = "{}", "{}"
			bucket.mu.Unlock()
			if err := projections.AskRebuild(t.Context(), bucket, id); err != nil {
				t.Fatal(err)
			}
			if _, done, err := projections.RebuildProgress(t.Context(), bucket, id); done || err != nil {
				t.Errorf("%s is done at once: %v, %v", id, done, err)
			}
			time.Sleep(5 * time.Second)
			if c, done, err := projections.RebuildProgress(t.Context(), bucket, id); !done || err != nil {
				t.Errorf("%s: %+v, %v, %v", id, c, done, err)
			}
			if _, done, err := projections.RebuildProgress(t.Context(), bucket, "r1"); !done || err != nil {
				t.Errorf("r1, for which %s stands: %v, %v", id, done, err)
			}
			docs, _ := bucket.state()
			if docs[dom.Key()] == "{}" || docs["definition.of-nobody"] != "" {
				t.Errorf("after %s: %v", id, docs)
			}
		}
	})
}

// TestRebuild_Reads has a reader whose replica is wrong, and a bucket that was rebuilt by
// somebody else and trails: it answers once its replica is right.
func TestRebuild_Reads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := wrongBucket()
		r := follow(t, log, bucket)
		reader := projections.NewReader(r, bucket, nil)
		bucket.set(log.fold(2), func(c *projections.Checkpoint) { c.Rebuild = "r" })
		log.add(events.DefinitionKey("later"), events.DefinitionAdded{})
		doc, err := reader.DescribeDomain(t.Context(), dom, "", 0)
		if err != nil || !strings.Contains(string(doc), `"right"`) {
			t.Errorf("%s, %v", doc, err)
		}
	})
}

// TestRebuild_TakeOver has a leader whose replica is wrong follow a rebuild that another
// one has carried out: it writes nothing of what it took for right.
func TestRebuild_TakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket := wrongBucket()
		r := follow(t, log, bucket)
		bucket.set(log.fold(2), func(c *projections.Checkpoint) { c.Rebuild = "r" })
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
		ended := project(t, r, log, bucket, 1)
		if err := <-ended; !errors.Is(err, events.ErrDeposed) { // since its replica was replaced
			t.Errorf("the projector ended with %v", err)
		}
		p := projections.NewProjector(r, log, bucket, slog.New(slog.DiscardHandler))
		run(t, func(ctx context.Context) { _ = p.Run(ctx, 1) })
		time.Sleep(time.Second)
		docs, _ := bucket.state()
		if c, done, err := projections.RebuildProgress(t.Context(), bucket, "r"); !done || err != nil || c.Seq != 3 || !strings.Contains(docs[dom.Key()], `"right"`) {
			t.Errorf("%+v, %v, %v: %s", c, done, err, docs[dom.Key()])
		}
	})
}

// TestRebuild_Written has events come at the moment at which the second fold has caught up
// with the first: it misses none of them.
func TestRebuild_Written(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const before, meanwhile = 500, 2500
		for n := range 100 {
			log, bucket := newLog(), &memBucket{}
			log.add(dom.Key(), events.DomainAdded{DefinitionID: "d"})
			write := func(n int) {
				for range n {
					log.add(dom.Key(), events.DomainUnsubscribed{SubscriberName: "s"})
				}
			}
			write(before)
			r := follow(t, log, bucket)
			feed := r.NewFeed(nil)
			bucket.set(log.fold(1))
			if err := projections.AskRebuild(t.Context(), bucket, "r"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // which is when the replica looks whether it was asked for one
			write(meanwhile)
			time.Sleep(time.Second)
			var digest, seq uint64
			r.View(func(s *events.State) { digest, seq = s.Digest, s.Seq })
			if want := log.fold(1 + before + meanwhile); digest != want.Digest || seq != want.Seq || feed.Broken() {
				t.Fatalf("%d: at %d of %d, the same events %v, broken %v", n, seq, want.Seq, digest == want.Digest, feed.Broken())
			}
			feed.Close()
		}
	})
}

// TestRebuild_StartedAnew has a replica started anew, since the log is another one, while
// its second fold waits for the first: the next rebuild works all the same.
func TestRebuild_StartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, bucket, purged := newLog(), &memBucket{}, &memBucket{}
		log.add(dom.Key(), events.DomainAdded{DefinitionID: "d"})
		bucket.set(log.fold(1))
		r := projections.NewReplica(log, bucket, purged, slog.New(slog.DiscardHandler))
		run(t, func(ctx context.Context) { _ = r.Run(ctx, nil) })
		time.Sleep(100 * time.Millisecond)
		log.setDeaf(true)
		synctest.Wait() // the tail that there is hears it, and is deaf for good
		log.setDeaf(false)
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
		// A second fold begins at the snapshot, which is further than the first has got.
		then := log.fold(2)
		point, err := json.Marshal(projections.PurgePoint{
			Checkpoint: projections.Checkpoint{Seq: 2, Time: then.Time, EventID: "id2", Digest: then.Digest, Created: created, FoldVersion: events.FoldVersion},
			Snapshot:   "s", Entries: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		purged.mu.Lock()
		purged.docs = map[events.Key]string{events.CheckpointKey: string(point), "s." + dom.Key(): string(then.Document(dom.Key()).AppendJSON(nil))}
		purged.mu.Unlock()
		if err := projections.AskRebuild(t.Context(), bucket, "r1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		log.mu.Lock()
		log.end = func(context.Context, int) (projections.Position, error) {
			return projections.Position{Seq: 2, Created: created.Add(time.Hour)}, nil
		}
		log.mu.Unlock()
		if r.Applied() != 1 {
			t.Fatalf("the first fold is at %d", r.Applied())
		}
		if err := r.WaitFor(t.Context(), 2); err != nil { // which finds out that the tail is dead, and then that the log is another one
			t.Fatal(err)
		}
		before := len(log.tails())
		if err := projections.AskRebuild(t.Context(), bucket, "r2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		p := projections.NewProjector(r, log, bucket, slog.New(slog.DiscardHandler))
		run(t, func(ctx context.Context) { _ = p.Run(ctx, 1) })
		time.Sleep(3 * time.Second)
		if _, done, err := projections.RebuildProgress(t.Context(), bucket, "r2"); !done || err != nil {
			t.Errorf("%d more tails, the next rebuild is done %v: %v", len(log.tails())-before, done, err)
		}
	})
}

// laggingBucket is a bucket of whose servers the one that answers reads lags behind.
type laggingBucket struct {
	*memBucket
	old []projections.Entry
}

// Read implements projections.Bucket.
func (b laggingBucket) Read(context.Context, ...events.Key) ([]projections.Entry, error) {
	return b.old, nil
}

// TestRebuild_Lagging asks for a rebuild where a server that lags still shows the
// checkpoint from before, or that of the rebuild before: neither is what was asked for.
func TestRebuild_Lagging(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	log, bucket := wrongBucket()
	for _, id := range []string{"r1", "r2"} {
		old, err := bucket.Read(ctx, events.CheckpointKey)
		if err != nil {
			t.Fatal(err)
		}
		bucket.set(log.fold(2)) // which that server has not heard of
		lagging := laggingBucket{bucket, old}
		if err := projections.AskRebuild(ctx, lagging, id); err != nil {
			t.Fatal(err)
		}
		if _, done, err := projections.RebuildProgress(ctx, lagging, id); done || err != nil {
			t.Errorf("%s is done at once: %v, %v", id, done, err)
		}
		bucket.set(log.fold(2), func(c *projections.Checkpoint) { c.Rebuild = id }) // as the leader does
		if _, done, err := projections.RebuildProgress(ctx, lagging, id); !done || err != nil {
			t.Errorf("%s is not done: %v, %v", id, done, err)
		}
	}
}
