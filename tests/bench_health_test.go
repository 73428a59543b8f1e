package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// BenchmarkReports compares instance_info with bare guarded publishes: how fast
// reports that wait in the inbox come to be events, by the server's timestamps,
// against guarded publishes of those very events, 64 in flight. Of 30,000 reports the
// first 10,000 are not counted, since the process that takes them starts meanwhile: it
// loads the bucket, is elected and looks at every domain. bare_bodies/s is for guarded
// publishes of the reports as they are, without the headers of an event;
// end_to_end_reports/s from the durable publish of each report to its event in the
// log, with the publisher on the same machine.
func BenchmarkReports(b *testing.B) {
	const instances, rounds = 10_000, 3
	e := newBench(b)
	e.fill(b, instances/10, 10)
	e.projected()
	var ids []string
	for id := range e.documents() {
		if _, instance, ok := id.Parts(); ok && id.Kind() == events.KindInstance {
			ids = append(ids, instance)
		}
	}
	bare := newEpumServer(b)
	stream, err := bare.js.CreateStream(bare.ctx(), natsjs.StreamConfig{Name: "bare", Subjects: []string{"bare.>"}, Storage: natsjs.FileStorage})
	if err != nil {
		b.Fatal(err)
	}
	inbox := func(id string) string { return events.DefaultPrefix.Node(id, events.OpInstanceInfo) }
	counter, endToEnd, headless := 0, []float64(nil), []float64(nil)
	var became []logged // the events of the last reports
	for range b.N {
		ratio(b, "reports/s",
			func() float64 {
				counter++
				from, began := e.lastSeq(), time.Now()
				publishReports(b, e.js, ids, inbox, counter, false)
				eventually(b, "all reports are in the log", func() bool { return e.lastSeq() >= from+instances })
				endToEnd = append(endToEnd, instances/time.Since(began).Seconds())

				e.stopAll()
				from = e.lastSeq()
				for range rounds {
					counter++
					publishReports(b, e.js, ids, inbox, counter, false)
				}
				e.process(func(c *service.Config) { c.LeaseTTL = 5 * time.Second })
				within(b, time.Minute, "all reports are in the log", func() bool {
					time.Sleep(50 * time.Millisecond) // the server has better things to do than to tell how far it is
					return e.lastSeq() >= from+rounds*instances
				})
				became = slices.DeleteFunc(e.logOf(events.TypeStateChanged), func(l logged) bool { return l.seq <= from+instances })
				return rate(became)
			},
			func() float64 {
				messages := make([]*nats.Msg, len(became))
				for n, l := range became {
					delete(l.header, events.HeaderGuard)
					messages[n] = &nats.Msg{Subject: fmt.Sprintf("bare.%d.%d", counter, n), Header: l.header, Data: l.body}
				}
				became = nil // no heap for the next round
				began := time.Now()
				publishReports(b, bare.js, ids, func(id string) string { return fmt.Sprintf("bare.headless.%d.%s", counter, id) }, counter, true)
				headless = append(headless, instances/time.Since(began).Seconds())
				began = time.Now()
				inParallel(b, len(messages), 64, func(n int) error {
					_, err := bare.js.PublishMsg(b.Context(), messages[n], natsjs.WithExpectLastSequencePerSubject(0))
					return err
				})
				perSecond := float64(len(messages)) / time.Since(began).Seconds()
				if err := stream.Purge(bare.ctx()); err != nil { // nor its subjects
					b.Fatal(err)
				}
				return perSecond
			})
		b.ReportMetric(median(endToEnd), "end_to_end_reports/s")
		b.ReportMetric(median(headless), "bare_bodies/s")
	}
}

// rate is how many of some events came a second.
func rate(list []logged) float64 {
	return float64(len(list)-1) / list[len(list)-1].time.Sub(list[0].time).Seconds()
}

func (e *epum) lastSeq() uint64 {
	e.t.Helper()
	info, err := e.eventStream().Info(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	return info.State.LastSeq
}

// publishReports publishes a report of each instance, 64 in flight.
func publishReports(b *testing.B, js natsjs.JetStream, ids []string, subject func(id string) string, counter int, guarded bool) {
	b.Helper()
	inParallel(b, len(ids), 64, func(i int) error {
		body := fmt.Appendf(nil, `{"node_id":%q,"state":"600-RUNNING","public_ip":"203.0.113.%d","hostname":"host-%d.example.com","update_counter":%d}`,
			ids[i], i%256, i, counter)
		msg := &nats.Msg{Subject: subject(ids[i]), Data: body, Header: nats.Header{}}
		var opts []natsjs.PublishOpt
		if guarded {
			opts = append(opts, natsjs.WithExpectLastSequencePerSubject(0))
		}
		_, err := js.PublishMsg(b.Context(), msg, opts...)
		return err
	})
}

// BenchmarkTakeOver measures how soon a hot standby with 100,000 instances has
// made its first fenced append once the lease falls, as a client hears of both.
func BenchmarkTakeOver(b *testing.B) {
	e := newBench(b)
	e.fill(b, 10_000, 10)
	var took []float64
	for n := range b.N {
		// The passes of the leader are driven from outside: what is to be decided on it
		// leaves to the standby.
		standby := e.process(eventDriven, func(c *service.Config) { c.RetryInterval = time.Hour })
		e.leader()
		fell := e.heard("$KV.epum_leases.leader", func(m *nats.Msg) bool { return m.Header.Get("KV-Operation") == "DEL" })
		appended := e.heard(events.DefaultPrefix.Event(events.PassKey), func(*nats.Msg) bool { return true })
		e.do("bench", commands.ReconfigureDomain{DomainID: fmt.Sprint("domain-", n), Config: preserve(12)})
		e.processes[0].Stop()
		took = append(took, float64((<-appended).Sub(<-fell).Microseconds())/1000)
		e.process()
		standby.Stop()
		e.processes = e.processes[2:]
	}
	b.ReportMetric(median(took), "ms")
	b.ReportMetric(0, "ns/op")
}

// heard gives the time at which the first message that counts came.
func (e *epum) heard(subject string, counts func(*nats.Msg) bool) <-chan time.Time {
	e.t.Helper()
	at := make(chan time.Time, 1)
	sub, err := e.nc.Subscribe(subject, func(m *nats.Msg) {
		if counts(m) {
			select {
			case at <- time.Now():
			default:
			}
		}
	})
	if err == nil {
		err = e.nc.Flush()
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return at
}
