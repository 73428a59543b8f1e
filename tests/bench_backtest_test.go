package tests

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/engines/backtest/histories"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// historyEvents is the size of the history that backtests are measured with.
const historyEvents = 100_000

// BenchmarkBacktest measures backtests of a domain with 100,000 events in a log on a
// server: the recorded policy made again, and another one simulated, with all the full
// passes of the month or so that so many events take.
func BenchmarkBacktest(b *testing.B) {
	registry := func(site string) *engines.Registry { return service.Registry(events.DefaultPrefix, site) }
	h := histories.New(b, registry("s"), histories.Config("", `{"preserve_n":20,"force_site":"s"}`))
	h.Lives = func(launch int) time.Duration { return time.Duration(600+launch*997%7200) * time.Second }
	for len(h.Log) < historyEvents {
		h.Live(6 * time.Hour)
		h.Reap()
	}
	config := backtest.Config{Domain: h.Domain, To: h.Log[len(h.Log)-1].Seq, Engines: registry}
	config.History, config.Until = &timed{stored(b, h), h}, h.Now
	for _, run := range []struct {
		name string
		over events.Config
	}{{name: "replay"}, {name: "simulation", over: histories.Config("", `{"preserve_n":25}`)}} {
		b.Run(run.name, func(b *testing.B) {
			var r *backtest.Result
			worked := cpu(b)
			for b.Loop() {
				config.Over = run.over
				var err error
				if r, err = backtest.Run(b.Context(), config); err != nil {
					b.Fatal(err)
				}
			}
			if r.Replayed != nil && r.Replayed.Same != r.Recorded.Decisions || r.Events < historyEvents {
				b.Fatalf("%d of %d decisions came out the same, of %d events", r.Replayed.Same, r.Recorded.Decisions, r.Events)
			}
			seconds := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(seconds, "s/backtest")
			b.ReportMetric((cpu(b)-worked).Seconds()/float64(b.N), "cpu-s/backtest")
			b.ReportMetric(float64(r.Events)/seconds, "events/s")
			b.ReportMetric(float64(r.Recorded.Decisions), "decisions")
			b.ReportMetric(r.To.Sub(r.From).Hours(), "hours")
		})
	}
}

// cpu is how long this process, the server in it, has had a processor so far: what others
// do on the machine is no part of it.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// timed is a log on a server with the times of the history that it was made of: a server
// gives each message its own.
type timed struct {
	*jetstream.Log
	made *histories.History
}

// History implements projections.History.
func (t *timed) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	return t.Log.History(ctx, q, func(r *events.Recorded) error {
		r.Time = t.made.Log[r.Seq-1].Time
		return each(r)
	})
}

// stored puts a history into the log of a new server, each event at its sequence.
func stored(b *testing.B, h *histories.History) *jetstream.Log {
	b.Helper()
	e := connect(b, startServer(b).ClientURL())
	cell, err := jetstream.Open(b.Context(), e.nc, jetstream.Config{Prefix: e.prefix, Process: "bench", Logger: logger()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cell.Close)
	js, err := natsjs.New(e.nc, natsjs.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range h.Log {
		m := &nats.Msg{Subject: e.prefix.Event(r.Key), Data: r.Body, Header: nats.Header{
			events.HeaderID: {r.ID}, events.HeaderType: {r.Type}, events.HeaderActor: {"x"},
		}}
		if r.CausationID != "" {
			m.Header[events.HeaderCausation] = []string{r.CausationID}
		}
		if r.Epoch > 0 {
			m.Header[events.HeaderCEEpoch] = []string{strconv.FormatUint(r.Epoch, 10)}
		}
		if _, err := js.PublishMsgAsync(m, natsjs.WithStallWait(patience)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return cell.Log()
}
