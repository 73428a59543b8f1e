package archive_test

import (
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

var benchEvents = flag.Int("archive.events", 100_000, "events of the log that BenchmarkJob archives and purges")

// BenchmarkJob archives and purges a log as a fleet leaves it: instances that live for
// eight events, some of 200 domains at a time, and a decision for each fourth event.
func BenchmarkJob(b *testing.B) {
	for b.Loop() {
		w := newWorld(b, 1)
		w.fill(*benchEvents)
		dir := b.TempDir()
		upTo := projections.Point{Seq: uint64(*benchEvents) + 1}
		began := time.Now()
		if _, err := w.bigJob(dir).Run(b.Context(), upTo, false); err != nil {
			b.Fatal(err)
		}
		archived := time.Since(began)
		began = time.Now()
		r, err := w.bigJob(dir).Run(b.Context(), upTo, true)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(*benchEvents)/archived.Seconds(), "archived/s")
		b.ReportMetric(time.Since(began).Seconds(), "purge-s")
		b.ReportMetric(float64(r.Purged), "keys")
		b.ReportMetric(float64(r.Bytes)/float64(*benchEvents), "B/event")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/(1<<20), "sys-MiB")
	}
}

// fill appends events without guards, as fast as the server takes them.
func (w *world) fill(n int) {
	w.t.Helper()
	put := func(key events.Key, ev events.Event, seq int) {
		d := events.Draft{ID: fmt.Sprintf("01a20569-d60e-739f-833b-%012d", seq), Event: ev}
		if err := d.Encode(); err != nil {
			w.t.Fatal(err)
		}
		m := &nats.Msg{Subject: w.cell.Prefix().Event(key), Data: d.Body, Header: nats.Header{
			events.HeaderSpecVersion: {events.SpecVersion}, events.HeaderID: {d.ID}, events.HeaderSource: {"/epum/p"},
			events.HeaderType: {ev.Type()}, events.HeaderCETime: {time.Now().UTC().Format(time.RFC3339Nano)}, events.HeaderActor: {"leader/p"},
			events.HeaderCEEpoch: {"1"},
		}}
		if _, err := w.js.PublishMsgAsync(m, natsjs.WithStallWait(10*time.Second)); err != nil {
			w.t.Fatal(err)
		}
	}
	const at = 200
	for seq := range n {
		id := events.DomainID{Owner: "al", Name: strconv.Itoa(seq % at)}
		switch {
		case seq < at:
			put(id.Key(), events.DomainAdded{DefinitionID: "d"}, seq)
		case seq%4 == 0:
			put(id.DecisionKey(), events.DecisionMade{Reason: "all 3 wanted instances are running", DomainSeq: uint64(id.Name[0])}, seq)
		default:
			life, step := seq/(8*at), seq/at%8
			key := id.InstanceKey(fmt.Sprintf("01a20569-d60e-739f-833b-%012d", life*at+seq%at))
			switch step {
			case 0:
				put(key, events.LaunchRequested{LaunchID: "l", Site: "s", DeployableType: "t", Allocation: "small"}, seq)
			case 7:
				put(key, events.Reaped{}, seq)
			default:
				put(key, events.StateChanged{State: events.InstanceStates[step]}, seq)
			}
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-time.After(5 * time.Minute):
		w.t.Fatal("not all are stored")
	}
	consumer, err := w.js.Stream(w.t.Context(), "epum_events")
	if err == nil {
		err = consumer.DeleteConsumer(w.t.Context(), "notify") // nobody has to be told
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) bigJob(dir string) *archive.Job { return &archive.Job{Cell: w.cell, Dir: dir} }
