package tests

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// BenchmarkFirstPass compares the first decide pass over 1,000 domains of 10
// instances, from the request to its answer (when all is in the log, folded, and
// each launch sent to the provisioner), with bare atomic batches of the very same
// messages.
func BenchmarkFirstPass(b *testing.B) {
	const domains, instances = 1000, 10
	for range b.N {
		var perSecond []float64
		var messages []*nats.Msg
		ratio(b, "messages/s",
			func() float64 {
				e := newBench(b)
				began := e.appliedSeq()
				result := e.fill(b, domains, instances)
				if result.Launched != domains*instances {
					b.Fatalf("launched %d", result.Launched)
				}
				seconds := float64(result.DurationMS) / 1000
				perSecond = append(perSecond, float64(result.Launched)/seconds)
				messages = e.messages(b, began+domains+2, result.Seq)
				return float64(len(messages)) / seconds
			},
			func() float64 { return bareBatches(b, messages) })
		b.ReportMetric(median(perSecond), "instances/s")
	}
}

func (e *epum) appliedSeq() uint64 {
	e.t.Helper()
	status, err := e.as("bench").Status(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	return status.AppliedSeq
}

// messages reads a part of the log, [from, to], as messages for another stream.
func (e *epum) messages(b *testing.B, from, to uint64) []*nats.Msg {
	b.Helper()
	consumer, err := e.js.OrderedConsumer(e.ctx(), "epum_events", natsjs.OrderedConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		b.Fatal(err)
	}
	var messages []*nats.Msg
	for from+uint64(len(messages)) <= to {
		batch, err := consumer.Fetch(int(to-from) + 1 - len(messages))
		if err != nil {
			b.Fatal(err)
		}
		for m := range batch.Messages() {
			header := nats.Header{}
			for name, values := range m.Headers() {
				if strings.HasPrefix(name, "ce-") {
					header[name] = values
				}
			}
			header.Set(natsjs.ExpectedLastSubjSeqHeader, "0")
			subject := fmt.Sprintf("bare.%d.%s", len(messages), m.Subject())
			messages = append(messages, &nats.Msg{Subject: subject, Header: header, Data: m.Data()})
		}
	}
	return messages
}

// bareBatches publishes messages in atomic batches of 1,000 and gives their rate.
func bareBatches(b *testing.B, messages []*nats.Msg) float64 {
	b.Helper()
	e := newEpumServer(b)
	_, err := e.js.CreateStream(e.ctx(), natsjs.StreamConfig{
		Name: "bare", Subjects: []string{"bare.>"}, Storage: natsjs.FileStorage, AllowAtomicPublish: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for batch := range slices.Chunk(messages, 1000) {
		if _, err := jetstreamext.PublishMsgBatch(e.ctx(), e.js, batch); err != nil {
			b.Fatal(err)
		}
	}
	return float64(len(messages)) / time.Since(began).Seconds()
}

// BenchmarkIdlePass measures a decide pass over 10,000 domains of 10 instances
// of which none has changed.
func BenchmarkIdlePass(b *testing.B) {
	e := newEpum(b, func(c *service.Config) {
		c.LeaseTTL = 5 * time.Second
		c.RetryInterval = time.Hour // the instances stay requested: sending again is no part of an idle pass
	})
	e.fill(b, 10_000, 10)
	e.decide() // records that the launches are waited for
	runtime.GC()
	for range b.N {
		var took []float64
		for range 20 {
			began := time.Now()
			result := e.decide()
			took = append(took, float64(time.Since(began).Microseconds())/1000)
			if result.Changed != 0 || result.Domains != 10_000 {
				b.Fatalf("not idle: %+v", result)
			}
		}
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2], "p50_ms")
		b.ReportMetric(took[len(took)-1], "max_ms")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkReplay compares a replica that reads the whole log with an ordered
// consumer that does nothing with the same log, and measures the replica's heap.
func BenchmarkReplay(b *testing.B) {
	e := newBench(b)
	e.fill(b, 5_000, 20)
	e.launch(b)
	end, err := e.js.Stream(e.ctx(), "epum_events")
	if err != nil {
		b.Fatal(err)
	}
	last := end.CachedInfo().State.LastSeq
	for range b.N {
		var perInstance float64
		ratio(b, "events/s",
			func() float64 {
				rate, heap := e.replay(b, last)
				perInstance = heap / 100_000
				return rate
			},
			func() float64 { return e.emptyConsumer(b, last) })
		b.ReportMetric(perInstance, "heap_bytes/instance")
	}
}

// launch has every instance report what a cloud tells of it, until it runs.
func (e *epum) launch(b *testing.B) {
	b.Helper()
	var ids []string
	for i := range 5_000 {
		for _, instance := range e.describe("bench", fmt.Sprintf("domain-%d", i)).Instances {
			ids = append(ids, instance.InstanceID)
		}
	}
	inParallel(b, len(ids), 64, func(i int) error {
		body := fmt.Appendf(nil, `{"node_id":%q,"state":"600-RUNNING","public_ip":"203.0.113.%d","private_ip":"10.0.%d.%d",`+
			`"hostname":"host-%d.example.com","iaas_id":"i-%08x","update_counter":3}`, ids[i], i%256, i/256%256, i%256, i, i)
		_, err := e.js.Publish(e.ctx(), events.DefaultPrefix.Node(ids[i], "instance_info"), body)
		return err
	})
	eventually(b, "all instances run", func() bool {
		time.Sleep(200 * time.Millisecond) // counting them all takes the lock
		status, err := e.as("bench").Status(e.ctx())
		return err == nil && status.Instances[events.Running] == len(ids)
	})
}

// replay folds the whole log into a new replica and gives the rate, and the
// bytes of heap that the replica holds.
func (e *epum) replay(b *testing.B, last uint64) (rate, heap float64) {
	b.Helper()
	nc, err := nats.Connect(e.url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	cell, err := jetstream.Open(e.ctx(), nc, jetstream.Config{Process: "bench", LeaseTTL: 5 * time.Second, Logger: logger()})
	if err != nil {
		b.Fatal(err)
	}
	defer cell.Close()
	before := heapInUse()
	replica := projections.NewReplica(cell.Log(), noBucket{cell.State()}, cell.Purged(), logger())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	go func() { _ = replica.Run(ctx, nil) }()
	if err := replica.WaitFor(e.ctx(), last); err != nil {
		b.Fatal(err)
	}
	rate = float64(last) / time.Since(began).Seconds()
	heap = float64(heapInUse()) - float64(before)
	runtime.KeepAlive(replica)
	return rate, heap
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// noBucket has a replica read the whole log.
type noBucket struct{ projections.Bucket }

// Read implements projections.Bucket.
func (noBucket) Read(context.Context, ...events.Key) ([]projections.Entry, error) { return nil, nil }

func (e *epum) emptyConsumer(b *testing.B, last uint64) float64 {
	b.Helper()
	consumer, err := e.js.OrderedConsumer(e.ctx(), "epum_events", natsjs.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	began := time.Now()
	n := uint64(0)
	consuming, err := consumer.Consume(func(natsjs.Msg) {
		if n++; n == last {
			close(done)
		}
	}, natsjs.PullMaxMessages(10_000))
	if err != nil {
		b.Fatal(err)
	}
	defer consuming.Stop()
	<-done
	return float64(last) / time.Since(began).Seconds()
}
