package passes

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// BenchmarkIdlePass is a full decide pass over 10,000 domains of 10 instances of
// which none has changed, with a reading of each instance.
func BenchmarkIdlePass(b *testing.B) {
	for engine, more := range map[string]string{
		"simplest":        `"preserve_n":10`,
		"sensor":          `"minimum_vms":10,"maximum_vms":20,"scale_up_threshold":4,"scale_down_threshold":2,` + sensedKeys,
		"target_tracking": `"minimum_vms":10,"maximum_vms":20,"target_value":3,` + sensedKeys,
		"step":            `"minimum_vms":10,"maximum_vms":20,"threshold_out":4,"steps_out":[{"from":0,"add":1}],` + sensedKeys,
	} {
		b.Run(engine, func(b *testing.B) {
			config := events.Config{General: fmt.Appendf(nil, `{"engine_class":%q}`, engine), EngineConf: []byte("{" + more + "}")}
			w := newIdle(b, config, 10_000, 10)
			var took []float64
			for b.Loop() {
				before := time.Now()
				result, err := w.term.decide(b.Context(), nil)
				took = append(took, time.Since(before).Seconds()*1000)
				if err != nil || result.Changed != 0 || result.Errors != 0 || result.Domains != 10_000 {
					b.Fatalf("not idle: %+v, %v", result, err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "p50_ms")
			b.ReportMetric(took[len(took)-1], "max_ms")
		})
	}
}

const sensedKeys = `"metric":"load","sensor_type":"mockcloudwatch","monitor_sensors":["load"],"iaas_site":"s","iaas_allocation":"small","deployable_type":"w"`

// newIdle is a term with domains that have come to rest, and readings of all of their
// instances.
func newIdle(b *testing.B, config events.Config, domains, instances int) *bench {
	w := newBench(b)
	w.term.Log, w.term.NewID, w.term.decider.registry = sink{bench: w}, func() string { return "id" }, registry()
	w.term.DecideTimeout = time.Minute
	w.term.changes, w.term.outbox, w.term.doctor = w.term.Replica.NewFeed(concernsInstances), newOutbox(w.term), newDoctor(w.term)
	w.fold(events.LeaderKey, events.LeaderElected{Process: "p"})
	w.term.epoch, w.term.elected = w.seq, at(1)
	for n := range domains {
		id := events.DomainID{Owner: "o", Name: fmt.Sprint("d", n)}
		w.put(events.Envelope{Key: id.Key(), Time: at(1)}, events.DomainAdded{Config: config})
		for i := range instances {
			key := id.InstanceKey(fmt.Sprintf("i-%d-%d", n, i))
			w.put(events.Envelope{Key: key, Time: at(1)}, events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small"})
			w.put(events.Envelope{Key: key, Time: at(1)}, events.StateChanged{State: events.Running})
		}
	}
	w.term.note()
	for id, d := range w.term.inputs.domains {
		readings := map[string]engines.Reading{}
		w.term.Replica.View(func(s *events.State) {
			for _, i := range s.Instances(id) {
				readings[i.ID] = engines.Reading{Value: 3, Time: at(1)}
			}
		})
		d.snapshot = sensors.Snapshot{Time: at(1), Readings: engines.Readings{"load": readings}}
	}
	if _, err := w.term.decide(b.Context(), nil); err != nil { // which is recorded
		b.Fatal(err)
	}
	return w
}

// sink is a log that takes everything.
type sink struct {
	Log
	*bench
}

// AppendFenced implements Log.
func (s sink) AppendFenced(_ context.Context, epoch uint64, _ events.Draft, drafts []events.Draft) (uint64, error) {
	for _, d := range drafts {
		s.put(events.Envelope{Key: d.Key, Time: at(1), Epoch: epoch}, d.Event)
	}
	return s.seq, nil
}
