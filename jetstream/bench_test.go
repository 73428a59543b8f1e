package jetstream_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// BenchmarkTail reads a log of 200,000 events with an empty ordered consumer of
// nats.go, and with Log.Tail, which decodes and folds them.
func BenchmarkTail(b *testing.B) {
	const size = 200_000
	cell, nc := newCell(b)
	log := cell.Log()
	epoch := elect(b, log, "p1")
	for n := range size / 1000 {
		if _, err := log.AppendFenced(context.Background(), epoch, passDraft(epoch), launches(epoch, domain(n), 999)); err != nil {
			b.Fatal(err)
		}
	}
	end, err := log.End(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	var empty, applied time.Duration
	for b.Loop() {
		start := time.Now()
		consumer, err := js.OrderedConsumer(context.Background(), "epum_events", natsjs.OrderedConsumerConfig{})
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		var count atomic.Uint64
		run, err := consumer.Consume(func(natsjs.Msg) {
			if count.Add(1) == end.Seq {
				close(done)
			}
		}, natsjs.PullMaxMessages(10_000))
		if err != nil {
			b.Fatal(err)
		}
		<-done
		run.Stop()
		empty += time.Since(start)

		start = time.Now()
		state := events.NewState()
		ctx, cancel := context.WithCancel(context.Background())
		_ = log.Tail(ctx, projections.TailStart{From: 1}, func(env events.Envelope, ev events.Event) {
			events.Apply(state, env, ev)
			if env.Seq == end.Seq {
				cancel()
			}
		})
		applied += time.Since(start)
	}
	messages := float64(b.N) * float64(end.Seq)
	b.ReportMetric(messages/empty.Seconds(), "empty/s")
	b.ReportMetric(messages/applied.Seconds(), "tail/s")
	b.ReportMetric(empty.Seconds()/applied.Seconds(), "ratio")
}

// BenchmarkAppendFenced compares Log.AppendFenced with bare atomic batches of the
// same size, bodies and CloudEvents headers, which are ready to be sent.
func BenchmarkAppendFenced(b *testing.B) {
	cell, nc := newCell(b)
	log := cell.Log()
	epoch := elect(b, log, "p1")
	js, err := natsjs.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(context.Background(), natsjs.StreamConfig{Name: "bare", Subjects: []string{"bare.>"}, AllowAtomicPublish: true}); err != nil {
		b.Fatal(err)
	}
	body, err := events.Encode(launches(epoch, domain(1), 1)[0].Event)
	if err != nil {
		b.Fatal(err)
	}
	const size = 1000
	var fenced, bare time.Duration
	for n := 0; b.Loop(); n++ {
		pass, drafts := passDraft(epoch), launches(epoch, domain(n), size-1)
		start := time.Now()
		if _, err := log.AppendFenced(context.Background(), epoch, pass, drafts); err != nil {
			b.Fatal(err)
		}
		fenced += time.Since(start)

		messages := make([]*nats.Msg, size)
		for i := range messages {
			m := bareMessage(n)
			m.Subject, m.Data = "bare.instance.alice.d."+uuid.Must(uuid.NewV7()).String(), body
			m.Header["Nats-Batch-Id"], m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(n)}, []string{strconv.Itoa(i + 1)}
			messages[i] = m
		}
		start = time.Now()
		for i, m := range messages {
			if i < size-1 {
				err = nc.PublishMsg(m)
			} else {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
				_, err = nc.RequestMsg(m, 5*time.Second)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		bare += time.Since(start)
	}
	messages := float64(b.N) * size
	b.ReportMetric(messages/fenced.Seconds(), "fenced/s")
	b.ReportMetric(messages/bare.Seconds(), "bare/s")
	b.ReportMetric(bare.Seconds()/fenced.Seconds(), "ratio")
}

// BenchmarkAppend compares ways to send guarded single messages, with 64 and with
// 1024 in flight.
func BenchmarkAppend(b *testing.B) {
	for _, flight := range []int{64, 1024} {
		b.Run("log/"+strconv.Itoa(flight), func(b *testing.B) {
			cell, _ := newCell(b)
			log := cell.Log()
			inFlight(b, flight, func(n int) error {
				_, err := log.Append(context.Background(), added(n))
				return err
			})
		})
		b.Run("PublishMsg/"+strconv.Itoa(flight), func(b *testing.B) {
			_, nc := newCell(b)
			js, _ := natsjs.New(nc)
			inFlight(b, flight, func(n int) error {
				_, err := js.PublishMsg(context.Background(), bareMessage(n))
				return err
			})
		})
		b.Run("PublishMsgAsync/"+strconv.Itoa(flight), func(b *testing.B) {
			_, nc := newCell(b)
			js, _ := natsjs.New(nc)
			inFlight(b, flight, func(n int) error {
				future, err := js.PublishMsgAsync(bareMessage(n))
				if err != nil {
					return err
				}
				select {
				case <-future.Ok():
					return nil
				case err := <-future.Err():
					return err
				}
			})
		})
		b.Run("RequestMsg/"+strconv.Itoa(flight), func(b *testing.B) {
			_, nc := newCell(b)
			inFlight(b, flight, func(n int) error {
				_, err := nc.RequestMsg(bareMessage(n), 5*time.Second)
				return err
			})
		})
	}
}

// bareMessage is what Append sends for added(n).
func bareMessage(n int) *nats.Msg {
	d := added(n)
	body, err := events.Encode(d.Event)
	if err != nil {
		panic(err)
	}
	m := &nats.Msg{Subject: events.DefaultPrefix.Event(d.Key), Data: body, Header: nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {d.ID}, "ce-source": {"/epum/p1"}, "ce-type": {d.Event.Type()},
		"ce-time": {time.Now().UTC().Format(time.RFC3339Nano)}, "ce-actor": {d.Actor}, "ce-causationid": {d.CausationID},
		"Nats-Expected-Last-Subject-Sequence": {"0"},
	}}
	m.Header[events.HeaderSeal] = []string{events.Seal(m.Subject, m.Header, m.Data)}
	return m
}

func inFlight(b *testing.B, flight int, send func(n int) error) {
	b.Helper()
	var next atomic.Int64
	done := make(chan error, flight)
	b.ResetTimer()
	start := time.Now()
	for range flight {
		go func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					done <- nil
					return
				}
				if err := send(int(n)); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range flight {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "appends/s")
}

// BenchmarkHistory reads one domain's events, its decisions' and its instances' out of a
// log of 1,000,000 events of 1,000 domains.
func BenchmarkHistory(b *testing.B) {
	const size, domains = 1_000_000, 1000
	cell, nc := newCell(b)
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	for n := range size {
		m := bareMessage(n % domains)
		if n >= domains { // five events an instance
			m.Subject = events.DefaultPrefix.Event(domain(n % domains).InstanceKey(strconv.Itoa(n / domains / 5)))
			delete(m.Header, events.HeaderGuard)
		}
		if _, err := js.PublishMsgAsync(m, natsjs.WithStallWait(patience)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	id := domain(domains / 2)
	q := projections.Query{Keys: []events.Key{id.Key(), id.DecisionKey(), id.AllInstances()}}
	for b.Loop() {
		if got := len(recall(b, cell.Log(), q)); got != size/domains {
			b.Fatalf("%d events", got)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/history")
}
