package tests

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	benchEvents  = 1_000_000
	benchDomains = 1000
)

// lifeOf is the history of a domain: 1,000 events of decisions and of instances that
// come and go, two of which stay.
func lifeOf(id events.DomainID) (keys []events.Key, all []events.Event) {
	add := func(k events.Key, ev events.Event) { keys, all = append(keys, k), append(all, ev) }
	add(id.Key(), events.DomainAdded{DefinitionID: "d", Config: preserve(2).Filled()})
	saw := []byte(`{"counts":{"600-RUNNING":1},"target":2}`)
	for n := 0; len(all) < benchEvents/benchDomains; n++ {
		instance := id.InstanceKey(fmt.Sprintf("0198%04d-d60e-739f-833b-%012d", n, n))
		add(id.DecisionKey(), events.DecisionMade{Reason: "1 of 2 wanted instances are there: launch 1", EngineState: events.EnginePending, Saw: saw})
		add(instance, events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small"})
		for _, state := range []events.InstanceState{events.Requested, events.Pending, events.Running} {
			add(instance, events.StateChanged{State: state, Fields: events.Fields{{Name: "public_ip", Value: []byte(`"10.0.0.1"`)}}})
		}
		if n >= 2 {
			if n%2 == 0 {
				add(instance, events.TerminateRequested{})
			}
			add(instance, events.StateChanged{State: events.Failed})
			add(instance, events.Reaped{})
		}
	}
	return keys[:benchEvents/benchDomains], all[:benchEvents/benchDomains]
}

// longLog is a service on a log of a million events of a thousand domains.
func longLog(b *testing.B) *epum {
	b.Helper()
	e := connect(b, startServer(b).ClientURL())
	cell, err := jetstream.Open(e.ctx(), e.nc, jetstream.Config{Process: "builder", Logger: logger()})
	if err != nil {
		b.Fatal(err)
	}
	cell.Close()
	js, err := natsjs.New(e.nc, natsjs.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	lives := make([][]*nats.Msg, benchDomains)
	for d := range lives {
		keys, all := lifeOf(events.DomainID{Owner: "bench", Name: fmt.Sprint("domain-", d)})
		last := map[events.Key]int{} // the domains take turns, from sequence 1 on
		for n, ev := range all {
			body, err := events.Encode(ev)
			if err != nil {
				b.Fatal(err)
			}
			lives[d] = append(lives[d], &nats.Msg{Subject: e.prefix.Event(keys[n]), Data: body, Header: nats.Header{
				events.HeaderSpecVersion: {events.SpecVersion}, events.HeaderID: {fmt.Sprint(d, "-", n)}, events.HeaderSource: {"/b"},
				events.HeaderType: {ev.Type()}, events.HeaderActor: {"bench"},
			}})
			if _, unguarded := ev.(events.TerminateRequested); !unguarded {
				lives[d][n].Header[events.HeaderGuard] = []string{strconv.Itoa(last[keys[n]])}
			}
			last[keys[n]] = n*benchDomains + d + 1
		}
	}
	for n := range benchEvents / benchDomains {
		for d := range lives {
			if _, err := js.PublishMsgAsync(lives[d][n], natsjs.WithStallWait(patience)); err != nil {
				b.Fatal(err)
			}
			lives[d][n] = nil
		}
	}
	<-js.PublishAsyncComplete()
	cfg := config(b, e.url)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := service.Start(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	within(b, time.Minute, "the bucket is written", func() bool {
		s, err := e.as("operator").Status(e.ctx())
		return err == nil && s.CheckpointSeq >= benchEvents && s.CheckpointSeq == s.AppliedSeq
	})
	return e
}

// BenchmarkHistory has the history of one domain read out of a log of 1,000,000 events:
// from the log, and by the operations; and then all of it.
func BenchmarkHistory(b *testing.B) {
	e := longLog(b)
	cell, err := jetstream.Attach(e.ctx(), e.nc, jetstream.Config{Process: "reader", Logger: logger()})
	if err != nil {
		b.Fatal(err)
	}
	defer cell.Close()
	n := 0
	next := func() events.DomainID {
		n++
		return events.DomainID{Owner: "bench", Name: "domain-" + strconv.Itoa(n*37%benchDomains)}
	}
	for _, way := range []struct {
		what string
		read func(id events.DomainID) (int, error)
	}{
		{"reader", func(id events.DomainID) (count int, err error) {
			q := projections.Query{Keys: []events.Key{id.Key(), id.DecisionKey(), id.AllInstances()}}
			err = cell.Log().History(e.ctx(), q, func(*events.Recorded) error { count++; return nil })
			return count, err
		}},
		{"history", func(id events.DomainID) (count int, err error) {
			q := natsapi.HistoryRequest{DomainID: id.Name, Limit: 10_000}
			for {
				page, err := e.as(id.Owner).History(e.ctx(), q)
				if count += len(page.Events); err != nil || page.Next == 0 {
					return count, err
				}
				q.After = page.Next
			}
		}},
		{"as_of", func(id events.DomainID) (int, error) {
			doc, err := e.as(id.Owner).DescribeDomainAsOf(e.ctx(), id.Name, projections.Point{Seq: benchEvents - 500}, "", 0)
			return benchEvents / benchDomains * min(len(doc.Instances), 1), err
		}},
		{"explain", func(id events.DomainID) (int, error) {
			told, err := e.as(id.Owner).ExplainDomain(e.ctx(), id.Name, projections.Point{})
			return benchEvents / benchDomains * min(len(told.Steps), 1), err
		}},
	} {
		b.Run(way.what, func(b *testing.B) {
			var took []float64
			used := processorTime(b)
			for b.Loop() {
				began := time.Now()
				if count, err := way.read(next()); err != nil || count != benchEvents/benchDomains {
					b.Fatalf("%d events, %v", count, err)
				}
				took = append(took, time.Since(began).Seconds()*1000)
			}
			b.ReportMetric(median(took), "ms_median")
			b.ReportMetric(took[0], "ms_best")
			b.ReportMetric(float64((processorTime(b)-used).Microseconds())/1000/float64(b.N), "ms_of_processor")
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			readAll(b, cell.Log())
		}
	})
}

// readAll reads the whole log as CloudEvents, and says what is held for that beyond what
// the process has already, its NATS server included.
func readAll(b *testing.B, log *jetstream.Log) {
	b.Helper()
	before, most, count := heapInUse(), uint64(0), 0
	began := time.Now()
	var line []byte
	err := log.History(context.Background(), projections.Query{}, func(r *events.Recorded) error {
		line = r.AppendCloudEvent(line[:0])
		if count++; count%(benchEvents/4) == 0 {
			most = max(most, heapInUse())
		}
		return nil
	})
	if err != nil || count < benchEvents {
		b.Fatalf("%d events, %v", count, err)
	}
	b.ReportMetric(float64(count)/time.Since(began).Seconds(), "events/s")
	b.ReportMetric(float64(most-min(most, before))/(1<<20), "MiB_held")
}

// processorTime is what this process, its NATS server included, has used of the
// processor: it says what a reading takes where others use the machine, too.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
