package tests

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/engines/shadow"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// TestShadow_Readings: a shadow decides on what the leader reads, and goes on with its
// memory where it is started again.
func TestShadow_Readings(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.provisioner()
	conf := measuredBy(map[string]any{"minimum_vms": 1, "maximum_vms": 4, "scale_up_threshold": 90, "scale_down_threshold": 1, "cooldown_period": 3600})
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: engineConf("sensor", conf)})
	e.comesTo("al", "web", 1)
	e.push("al", "web", "-", "load", 50)
	eventually(t, "the leader has read it", func() bool {
		e.decide()
		return slices.Equal(series(e.describe("al", "web").SensorData, "load"), []float64{50})
	})

	over := events.Config{EngineConf: section(map[string]any{"scale_up_threshold": 40})}
	first := e.shadow("al", "web", over)
	seen := first.next(t, func(r *shadow.Record, saw *passes.Saw) bool { return saw.Target == 2 })
	saw, err := passes.DecodeSaw(seen.Saw)
	if err != nil || saw.Readings["load"][engines.OfDomain].Value != 50 || saw.DryRun == nil || len(saw.DryRun.Launches) != 1 {
		t.Errorf("it saw %s, %v", seen.Saw, err)
	}
	if seen.Memory == nil {
		t.Error("it keeps nothing of its cool-down")
	}
	first.stop(t)
	// Within the cool-down, which it remembers, it wants no more.
	second := e.shadow("al", "web", over)
	again := second.next(t, func(*shadow.Record, *passes.Saw) bool { return true })
	if string(again.Memory) != string(seen.Memory) {
		t.Errorf("it had kept %s, and has %s", seen.Memory, again.Memory)
	}
	second.stop(t)
}

// TestShadow_RecordsGone: a shadow whose records somebody purges goes on; another shadow
// still takes its place.
func TestShadow_RecordsGone(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(0)})
	stream, err := e.js.Stream(e.ctx(), "epum_shadow")
	if err != nil {
		t.Fatal(err)
	}
	wants := func(n int) func(*shadow.Record, *passes.Saw) bool {
		return func(_ *shadow.Record, saw *passes.Saw) bool { return saw.Target == n }
	}
	more := func(n int) { // what both the domain and its shadow decide anew on
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(n)})
	}
	over := events.Config{General: section(map[string]any{"termination_policy": "oldest"})}
	s := e.shadow("al", "web", over)
	s.next(t, wants(0))
	for n := 1; n < 3; n++ {
		if err := stream.Purge(e.ctx()); err != nil {
			t.Fatal(err)
		}
		more(n)
		s.next(t, wants(n))
	}
	second := e.shadow("al", "web", over)
	second.next(t, wants(2)) // it is on record, before the first one
	more(5)
	second.next(t, wants(5))
	if err := <-s.ended; !errors.Is(err, shadow.ErrReplaced) {
		t.Errorf("the first one ends with %v", err)
	}
	second.stop(t)
}

// running is a shadow that runs.
type running struct {
	cancel  context.CancelFunc
	ended   chan error
	mu      sync.Mutex
	records []*shadow.Record
}

// shadow starts a shadow of a domain.
func (e *epum) shadow(owner, domain string, over events.Config) *running {
	e.t.Helper()
	cell, err := jetstream.Attach(e.ctx(), e.nc, jetstream.Config{Prefix: e.prefix, Process: "shadow"})
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		defer cell.Close()
		r.ended <- shadow.Run(ctx, shadow.Config{
			Domain: events.DomainID{Owner: owner, Name: domain}, Over: over, Log: cell.Log(), Origin: projections.NewOrigin(cell.Purged()), Samples: cell.Samples(), Records: cell.Shadows(),
			Registry: service.Registry(e.prefix, ""), NewID: uuid.NewString, Every: 50 * time.Millisecond,
			Decided: func(record *shadow.Record, _ *events.DecisionMade) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.records = append(r.records, record)
			},
			Failed: func(err error) { e.t.Log(err) },
		})
	}()
	e.t.Cleanup(cancel)
	return r
}

// next waits for a record that is as it should be.
func (r *running) next(t *testing.T, as func(*shadow.Record, *passes.Saw) bool) (found *shadow.Record) {
	t.Helper()
	eventually(t, "a shadow's decision", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, record := range r.records {
			var saw passes.Saw
			if err := json.Unmarshal(record.Saw, &saw); err != nil {
				t.Fatal(err)
			}
			if as(record, &saw) {
				found = record
			}
		}
		return found != nil
	})
	return found
}

// stop stops it, cleanly.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}
