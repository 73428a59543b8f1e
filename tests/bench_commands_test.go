package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
)

// benchRounds is how many times both sides of a ratio are measured in turn; the
// medians are compared.
const benchRounds = 5

// BenchmarkAddDomain compares add_domain with the least that could do it: a
// micro handler that decodes JSON, makes one guarded publish and answers from
// its ack.
func BenchmarkAddDomain(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			perRound := 1000 * min(inFlight, 5)
			e := newBench(b)
			e.do("bench", commands.AddDefinition{DefinitionID: "d"})
			bare := newEpumServer(b)
			serveBare(b, bare)
			n := 0
			for range b.N {
				ratio(b, "commands/s",
					func() float64 { n++; return addDomains(b, e.nc, "epum.cmd.bench.add_domain", n, perRound, inFlight) },
					func() float64 { n++; return addDomains(b, bare.nc, "bare.add_domain", n, perRound, inFlight) })
			}
		})
	}
}

// ratio measures two rates in turn and reports their medians, and that of their ratios:
// what else the machine does meanwhile concerns both of a pair.
func ratio(b *testing.B, unit string, ours, bare func() float64) {
	b.Helper()
	var a, c, pairs []float64
	for n := range benchRounds {
		a, c = append(a, ours()), append(c, bare())
		pairs = append(pairs, a[n]/c[n])
	}
	b.ReportMetric(median(a), unit)
	b.ReportMetric(median(c), "bare_"+unit)
	b.ReportMetric(median(pairs), "ratio")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// addDomains sends that many add_domain requests and gives their rate a second.
func addDomains(b *testing.B, nc *nats.Conn, subject string, round, count, inFlight int) float64 {
	b.Helper()
	began := time.Now()
	inParallel(b, count, inFlight, func(i int) error {
		body := fmt.Sprintf(`{"domain_id":"domain-%d-%d","definition_id":"d","config":{"engine_conf":{"preserve_n":0}}}`, round, i)
		reply, err := nc.Request(subject, []byte(body), patience)
		if err != nil {
			return err
		}
		var ok struct{ Seq uint64 }
		if err := json.Unmarshal(reply.Data, &ok); err != nil {
			return err
		}
		if ok.Seq == 0 {
			return fmt.Errorf("refused: %s", reply.Data)
		}
		return nil
	})
	return float64(count) / time.Since(began).Seconds()
}

func inParallel(b testing.TB, count, workers int, do func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < count; i += workers {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		b.Fatal(err)
	default:
	}
}

// newEpumServer is a connection to a server of its own, with no epum.
func newEpumServer(b testing.TB) *epum {
	b.Helper()
	return connect(b, startServer(b).ClientURL())
}

func serveBare(b *testing.B, e *epum) {
	b.Helper()
	nc, err := nats.Connect(e.url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	_, err = js.CreateStream(e.ctx(), natsjs.StreamConfig{Name: "bare", Subjects: []string{"bare.event.>"}, Storage: natsjs.FileStorage})
	if err != nil {
		b.Fatal(err)
	}
	svc, err := micro.AddService(nc, micro.Config{Name: "bare", Version: "1.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	err = svc.AddEndpoint("add_domain", micro.HandlerFunc(func(r micro.Request) {
		var cmd struct {
			DomainID     string                                `json:"domain_id"`
			DefinitionID string                                `json:"definition_id"`
			Config       map[string]map[string]json.RawMessage `json:"config"`
		}
		if err := json.Unmarshal(r.Data(), &cmd); err != nil {
			_ = r.Error("400", err.Error(), nil)
			return
		}
		body, _ := json.Marshal(cmd)
		future, err := js.PublishMsgAsync(
			&nats.Msg{Subject: "bare.event.domain.bench." + cmd.DomainID, Data: body, Header: nats.Header{}},
			natsjs.WithExpectLastSequencePerSubject(0))
		if err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		go func() {
			select {
			case ack := <-future.Ok():
				_ = r.Respond(fmt.Appendf(nil, `{"seq":%d}`, ack.Sequence))
			case err := <-future.Err():
				_ = r.Error("500", err.Error(), nil)
			}
		}()
	}), micro.WithEndpointSubject("bare.add_domain"))
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDescribeDomain measures describe_domain of 10 instances with 10,000
// domains present, from the request to the reply.
func BenchmarkDescribeDomain(b *testing.B) {
	e := newBench(b)
	e.fill(b, 10_000, 10)
	for range b.N {
		var took []float64
		for i := range 2000 {
			body := fmt.Appendf(nil, `{"domain_id":"domain-%d"}`, i*5)
			began := time.Now()
			reply, err := e.nc.Request("epum.cmd.bench.describe_domain", body, patience)
			took = append(took, float64(time.Since(began).Microseconds())/1000)
			if err != nil {
				b.Fatal(err)
			}
			var doc natsapi.DomainDocument
			if err := json.Unmarshal(reply.Data, &doc); err != nil || len(doc.Instances) != 10 {
				b.Fatalf("described %d instances: %v", len(doc.Instances), err)
			}
		}
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2], "p50_ms")
		b.ReportMetric(took[len(took)*99/100], "p99_ms")
		b.ReportMetric(0, "ns/op")
	}
}

// newBench starts a process with the lease that people have: a machine under
// full load may keep it from renewing one of a second.
func newBench(b testing.TB) *epum {
	b.Helper()
	return newEpum(b, func(c *service.Config) { c.LeaseTTL = 5 * time.Second })
}

// fill adds domains of so many instances each, and lets them be launched.
func (e *epum) fill(b testing.TB, domains, instances int) *natsapi.PassResult {
	b.Helper()
	e.do("bench", commands.AddDefinition{DefinitionID: "d"})
	inParallel(b, domains, 64, func(i int) error {
		_, err := e.as("bench").Do(e.ctx(), commands.AddDomain{
			DomainID: fmt.Sprintf("domain-%d", i), DefinitionID: "d", Config: preserve(instances),
		})
		return err
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := e.as("operator").RunPass(ctx, "decide")
	if err != nil {
		b.Fatal(err)
	}
	return result
}
