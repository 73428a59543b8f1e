package projections_test

import (
	"context"
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
			_, _, err := projections.RebuildProgress(t.Context(), bucket, "another")
			if !errors.Is(err, projections.ErrNotFound) {
				t.Errorf("another rebuild: %v", err)
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
