package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// TestCluster goes through everything that differs on three replicas; they share
// one cluster since it takes seconds to start.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers, urls := startCluster(t)
	nc := connect(t, urls)
	cell := openCell(t, nc, jetstream.Config{Replicas: 3})
	log := cell.Log()
	ctx := t.Context()

	t.Run("open at once", func(t *testing.T) {
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				other, err := jetstream.Open(ctx, nc, jetstream.Config{Prefix: "two", Process: "p", Replicas: 3, Logger: quiet})
				if err != nil {
					t.Error(err)
					return
				}
				other.Close()
			})
		}
		group.Wait()
	})
	t.Run("a race on one key", func(t *testing.T) {
		other := openCell(t, connect(t, urls), jetstream.Config{Process: "p2", Replicas: 3})
		race(t, []*jetstream.Log{log, other.Log()}, 30)
	})
	t.Run("durable commands", func(t *testing.T) { clusterCommands(t, cell.Inbox(), nc) })
	t.Run("many writers", func(t *testing.T) {
		var group sync.WaitGroup
		for w := range 32 {
			group.Go(func() {
				last := uint64(0)
				for range 10 {
					seq, err := log.Append(context.Background(), guarded(domain(100+w).Key(), last, events.DomainSubscribed{SubscriberName: "x"}))
					if err != nil {
						t.Error(err)
						return
					}
					last = seq
				}
			})
		}
		group.Wait()
	})
	var epoch uint64
	t.Run("fenced", func(t *testing.T) {
		old := elect(t, log, "p1")
		pass, drafts := passDraft(old), launches(old, domain(1), 200)
		first, err := log.AppendFenced(ctx, old, pass, drafts)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := log.AppendFenced(ctx, old, pass, drafts); err != nil || again != first {
			t.Errorf("again: %d, %v; it was %d", again, err, first)
		}
		epoch = elect(t, log, "p2")
		if _, err := log.AppendFenced(ctx, old, passDraft(old), launches(old, domain(1), 2)); !errors.Is(err, events.ErrDeposed) {
			t.Errorf("deposed: %v", err)
		}
		if _, err := log.AppendFenced(ctx, epoch, passDraft(epoch), launches(epoch, domain(1), 999)); err != nil {
			t.Error(err)
		}
	})
	t.Run("bucket", func(t *testing.T) {
		rev, err := cell.State().Write(ctx, instances(domain(1), 999), []byte("c"), 0)
		if err != nil {
			t.Fatal(err)
		}
		// Any replica may answer, from an older state; the checkpoint shows it.
		eventually(t, func() error {
			got, err := cell.State().Read(ctx, events.CheckpointKey, domain(1).AllInstances())
			if err == nil && len(got) != 0 && len(got) != 1000 {
				t.Fatalf("%d of 1,000 entries: no isolated answer", len(got))
			}
			if err != nil || len(got) == 0 {
				return fmt.Errorf("%d entries, %w", len(got), err)
			}
			return nil
		})
		if _, err := cell.State().Write(ctx, nil, []byte("d"), rev); err != nil {
			t.Error(err)
		}
	})
	t.Run("tail and a lost leader", func(t *testing.T) {
		end, err := log.End(ctx)
		if err != nil {
			t.Fatal(err)
		}
		g, _, _ := tail(t, log, projections.TailStart{From: 1})
		g.waitFor(t, int(end.Seq))

		leader := leaderOf(t, servers, "epum_events")
		d := guarded(domain(1).Key(), lastSeq(t, log, domain(1).Key()), events.DomainRemovalRequested{})
		leader.Shutdown()
		wait, cancel := context.WithTimeout(ctx, 2*patience)
		defer cancel()
		seq, err := log.Append(wait, d)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := log.Append(wait, d); err != nil || again != seq {
			t.Errorf("again: %d, %v; it was %d", again, err, seq)
		}
		eventually(t, func() error {
			_, err := log.End(ctx)
			return err
		})
	})
	t.Run("no quorum", func(t *testing.T) {
		for _, srv := range servers {
			if srv.Running() {
				srv.Shutdown()
				break
			}
		}
		began := time.Now()
		eventually(t, func() error {
			end, err := log.End(ctx)
			if err == nil {
				return fmt.Errorf("one server of three answers for all: %+v", end)
			}
			if !errors.Is(err, projections.ErrNoQuorum) {
				t.Fatal(err)
			}
			return nil
		})
		t.Logf("noticed after %s", time.Since(began))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := log.Append(short, added(9999)); !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
	})
}

func lastSeq(t *testing.T, log *jetstream.Log, key events.Key) uint64 {
	t.Helper()
	last, err := log.Last(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return last.Seq
}

func leaderOf(t *testing.T, servers []*server.Server, stream string) *server.Server {
	t.Helper()
	var leader *server.Server
	eventually(t, func() error {
		var names []string
		for _, srv := range servers {
			acc, err := srv.LookupAccount(server.DEFAULT_GLOBAL_ACCOUNT)
			if err == nil && acc.JetStreamIsStreamLeader(stream) {
				leader = srv
				return nil
			}
			names = append(names, srv.Name())
		}
		return errors.New("no leader among " + strings.Join(names, ", "))
	})
	return leader
}
