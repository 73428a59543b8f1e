package tests

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
	"github.com/seed-524e47bf/epum/projections/verify"
)

var verifiedEvents = flag.Int("verified-events", 200_000, "how many events BenchmarkVerify verifies")

// writer appends to a log as a leader and as provisioners do, as fast as it can.
type writer struct {
	b     *testing.B
	log   *jetstream.Log
	epoch uint64
}

func (w *writer) draft(key events.Key, ev events.Event, guard events.Guard, cause string) events.Draft {
	return events.Draft{
		ID: uuid.Must(uuid.NewV7()).String(), Key: key, Event: ev, Guard: guard, Actor: "leader/bench", CausationID: cause, Epoch: w.epoch,
	}
}

// batch appends a leader's batch and gives the sequence of its last message.
func (w *writer) batch(pass events.PassCommitted, drafts []events.Draft) uint64 {
	w.b.Helper()
	fence := events.Guard{Key: events.LeaderKey, Seq: w.epoch}
	seq, err := w.log.AppendFenced(context.Background(), w.epoch, w.draft(events.PassKey, pass, fence, ""), drafts)
	if err != nil {
		w.b.Fatal(err)
	}
	return seq
}

// one appends an event that is no leader's.
func (w *writer) one(key events.Key, seq uint64, ev events.Event) uint64 {
	seq, err := w.log.Append(context.Background(), events.Draft{
		ID: uuid.Must(uuid.NewV7()).String(), Key: key, Event: ev, Guard: events.Guard{Key: key, Seq: seq}, Actor: "al",
	})
	if err != nil {
		w.b.Error(err)
	}
	return seq
}

// lives has instances of a domain launched, run, terminated, and reaped: five events
// each, and the records of the decisions.
func (w *writer) lives(id events.DomainID, added uint64, instances int) {
	ids := make([]string, instances)
	for n := range ids {
		ids[n] = uuid.Must(uuid.NewV7()).String()
	}
	decide := func(last uint64, made events.DecisionMade, action func(instance string) (events.Event, events.Guard)) (decided, end uint64) {
		made.DomainSeq, made.ConfigSeq, made.Reason, made.EngineState = added, added, "the benchmark wants it", events.EngineStable
		record := w.draft(id.DecisionKey(), made, events.Guard{Key: id.DecisionKey(), Seq: last}, "")
		drafts := []events.Draft{record}
		for n, instance := range ids {
			ev, guard := action(instance)
			if n == 0 {
				guard = events.Guard{Key: id.Key(), Seq: added}
			}
			drafts = append(drafts, w.draft(id.InstanceKey(instance), ev, guard, record.ID))
		}
		end = w.batch(events.PassCommitted{Pass: "decide", Domains: 1, Launched: len(made.Launches), Terminated: len(made.Terminations), Changed: 1}, drafts)
		return end - uint64(instances), end
	}
	report := func(end uint64, state events.InstanceState) []uint64 {
		seqs := make([]uint64, instances)
		var all sync.WaitGroup
		for n, instance := range ids {
			all.Go(func() {
				last := end - uint64(instances-1-n)
				seqs[n] = w.one(id.InstanceKey(instance), last, events.StateChanged{State: state, Fields: events.Fields{{Name: "public_ip", Value: json.RawMessage(`"10.0.0.1"`)}}})
			})
		}
		all.Wait()
		return seqs
	}
	decided, end := decide(0, events.DecisionMade{Launches: ids}, func(instance string) (events.Event, events.Guard) {
		return events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small"}, events.Guard{Key: id.InstanceKey(instance)}
	})
	report(end, events.Running)
	_, end = decide(decided, events.DecisionMade{Terminations: ids}, func(string) (events.Event, events.Guard) {
		return events.TerminateRequested{}, events.Guard{}
	})
	drafts := []events.Draft{}
	for n, seq := range report(end, events.Terminated) {
		key := id.InstanceKey(ids[n])
		drafts = append(drafts, w.draft(key, events.Reaped{}, events.Guard{Key: key, Seq: seq}, ""))
	}
	w.batch(events.PassCommitted{Pass: "reap", Domains: instances, Changed: instances}, drafts)
}

// verifiedLog is a service that has stopped, with a log of at least so many events and a
// state bucket of it.
func verifiedLog(b *testing.B, size int) (*epum, *jetstream.Cell) {
	b.Helper()
	e := connect(b, startServer(b).ClientURL())
	cell, err := jetstream.Open(b.Context(), e.nc, jetstream.Config{Process: "bench", Logger: logger()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cell.Close)
	w := &writer{b: b, log: cell.Log()}
	w.epoch = w.one(events.LeaderKey, 0, events.LeaderElected{Process: "bench"})
	definition := w.one(events.DefinitionKey("d"), 0, events.DefinitionAdded{})
	const instances = 400 // of a domain
	for n := 0; n*5*instances < size; n++ {
		id := events.DomainID{Owner: "al", Name: fmt.Sprint("d", n)}
		added := w.one(id.Key(), 0, events.DomainAdded{DefinitionID: "d", DefinitionSeq: definition, Config: preserve(0)})
		w.lives(id, added, instances)
	}
	project(b, cell, w.epoch)
	return e, cell
}

// project has a projector write the state bucket, however long that takes.
func project(b *testing.B, cell *jetstream.Cell, epoch uint64) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	replica := projections.NewReplica(cell.Log(), cell.State(), cell.Purged(), logger())
	var work sync.WaitGroup
	work.Go(func() { _ = replica.Run(ctx, nil) })
	defer func() { cancel(); work.Wait() }()
	if _, err := replica.Barrier(ctx); err != nil {
		b.Fatal(err)
	}
	work.Go(func() { _ = projections.NewProjector(replica, cell.Log(), cell.State(), logger()).Run(ctx, epoch) })
	reader := projections.NewReader(replica, cell.State(), nil)
	for reader.CheckpointSeq(ctx) < replica.Applied() {
		time.Sleep(50 * time.Millisecond)
	}
}

// BenchmarkVerify compares verify with an empty ordered consumer of the same log in the
// same run. For the figure: -verified-events 1000000.
func BenchmarkVerify(b *testing.B) {
	e, cell := verifiedLog(b, *verifiedEvents)
	end, err := cell.Log().End(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var empty, verified time.Duration
	run := func(progress func(seq, last uint64)) {
		summary, err := verify.Run(b.Context(), verify.Config{
			Log: cell.Log(), Bucket: cell.State(), SealedFrom: 1, Progress: progress,
			Report: func(f verify.Finding) error { return fmt.Errorf("found: %+v", f) },
		})
		if err != nil || summary.Events != end.Seq || !summary.Compared {
			b.Fatalf("%+v, %v", summary, err)
		}
	}
	for b.Loop() {
		empty += time.Duration(float64(end.Seq) / e.emptyConsumer(b, end.Seq) * float64(time.Second))
		start := time.Now()
		run(nil)
		verified += time.Since(start)
	}
	// Once more for what it holds on to, that of the server of this process included.
	before, most := heapInUse(), uint64(0)
	run(func(seq, last uint64) {
		if seq%(last/4) == 0 {
			most = max(most, heapInUse())
		}
	})
	n := float64(end.Seq) * float64(b.N)
	b.ReportMetric(n/verified.Seconds(), "events/s")
	b.ReportMetric(n/empty.Seconds(), "empty-events/s")
	b.ReportMetric(empty.Seconds()/verified.Seconds(), "of-an-empty-consumer")
	b.ReportMetric((float64(most)-float64(before))/(1<<20), "MiB-held")
	b.ReportMetric(0, "ns/op")
}
