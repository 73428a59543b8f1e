package tests

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
	"github.com/seed-524e47bf/epum/projections/verify"
)

// attach is the cell as an operator's program sees it.
func attach(t testing.TB, nc *nats.Conn) *jetstream.Cell {
	t.Helper()
	cell, err := jetstream.Attach(t.Context(), nc, jetstream.Config{Process: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	return cell
}

// verifyLog verifies a log that is sealed from its start and gives what is found.
func verifyLog(t testing.TB, log verify.Log, bucket verify.Bucket) (found []verify.Finding, summary verify.Summary) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	summary, err := verify.Run(ctx, verify.Config{
		Log: log, Bucket: bucket, SealedFrom: 1,
		Report: func(f verify.Finding) error { found = append(found, f); return nil },
	})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return found, summary
}

func (e *epum) verify() ([]verify.Finding, verify.Summary) {
	e.t.Helper()
	cell := attach(e.t, e.nc)
	return verifyLog(e.t, cell.Log(), cell.State())
}

// isSound fails where verify finds anything.
func (e *epum) isSound() verify.Summary {
	e.t.Helper()
	found, summary := e.verify()
	for _, f := range found {
		e.t.Errorf("found: %+v", f)
	}
	return summary
}

// lived is a service that has been through all that can happen: events of every type,
// three leaders, four engines. Its processes are stopped.
func lived(t testing.TB) *epum {
	t.Helper()
	reapSoon := func(c *service.Config) { c.RecordReapingMaxAge = time.Millisecond }
	e := newEpum(t, named("a"), reapSoon)
	e.provisioner()
	e.do("al",
		commands.AddDefinition{DefinitionID: "d"},
		commands.AddDefinition{DefinitionID: "old"},
		commands.UpdateDefinition{DefinitionID: "d", Definition: monitored(1, `{"monitor_health":true,"boot_timeout":0.2,"missing_timeout":0.2}`)},
		commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3)},
		subscribe("s", "op"), subscribe("t", "op"),
	)
	e.do("bob",
		commands.AddDomain{DomainID: "needy", DefinitionID: "old", Config: engineConf("needy", map[string]any{"preserve_n": 2})},
		commands.AddDomain{DomainID: "phantom", DefinitionID: "old", Config: engineConf("phantom", map[string]any{"domain_desired_size": 2})},
		commands.AddDomain{DomainID: "planned", DefinitionID: "old", Config: engineConf("schedule", map[string]any{"engine_conf": map[string]any{"preserve_n": 7}, "schedules": []any{map[string]any{"cron": "* * * * *", "size": 1}}})},
		commands.RemoveDefinition{DefinitionID: "old"},
	)
	e.comesTo("al", "web", 3)
	for domain, want := range map[string]int{"needy": 2, "phantom": 2, "planned": 1} {
		e.comesTo("bob", domain, want)
	}
	e.do("al", commands.UnsubscribeDomain{DomainID: "web", SubscriberName: "t"}, commands.ReconfigureDomain{DomainID: "web", Config: preserve(5)})
	e.comesTo("al", "web", 5)
	// Another leader; an ill instance; fewer are wanted.
	e.process(named("b"), reapSoon)
	e.processes[0].Stop()
	e.leader()
	id := e.live("al", "web")[0].InstanceID
	eventually(t, "the instance is ill", func() bool { // a leader that has just begun may not hear yet
		e.heartbeat(id, events.HealthProcessError, `,"error":"<it> is ill"`)
		i, _ := e.instance("al", "web", id)
		return i.Health == events.HealthProcessError
	})
	e.comesTo("al", "web", 5)
	e.dead("al", "web")
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(2)})
	e.comesTo("al", "web", 2)
	e.pass("reap")
	// A domain goes, another takes its name; a third leader.
	e.do("bob", commands.RemoveDomain{DomainID: "phantom"})
	e.gone("bob", "phantom")
	e.do("bob", commands.AddDefinition{DefinitionID: "old", Definition: preserve(1)}, commands.AddDomain{DomainID: "phantom", DefinitionID: "old"})
	e.process(named("c"), reapSoon)
	e.processes[1].Stop()
	e.leader()
	e.comesTo("bob", "phantom", 1)
	e.do("al", commands.RemoveDefinition{DefinitionID: "old"})
	e.projected()
	e.stopAll()
	types := map[string]int{}
	for _, l := range e.log() {
		types[l.typ()]++
	}
	const all = 17
	if len(types) != all {
		t.Fatalf("a life of %d types of events: %v", len(types), types)
	}
	return e
}

// gone has passes run, and done what they ask for, until a domain has vanished.
func (e *epum) gone(owner, domain string) {
	e.t.Helper()
	eventually(e.t, domain+" is gone", func() bool {
		e.decide()
		e.carryOut(owner, domain)
		_, err := e.as(owner).DescribeDomain(e.ctx(), domain, "", 0)
		return isNotFound(err)
	})
}

// copiedLog is a log on a server whose messages were published anew: with the headers
// of JetStream escaped, since the server would act on them, and with times of their
// own. It gives them as they were, read by the real reader.
type copiedLog struct {
	*jetstream.Log
	created time.Time
	times   []time.Time // by sequence, from 1
}

const escaped = "Copied-"

func (c *copiedLog) End(ctx context.Context) (projections.Position, error) {
	p, err := c.Log.End(ctx)
	p.Created = c.created
	return p, err
}

func (c *copiedLog) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	return c.Log.History(ctx, q, func(r *events.Recorded) error {
		headers := map[string][]string{}
		for name, values := range r.Header {
			if len(name) > len(escaped) && name[:len(escaped)] == escaped {
				name = name[len(escaped):]
			}
			headers[name] = values
		}
		again := events.DefaultPrefix.Record(r.Subject, r.Seq, c.times[r.Seq-1], headers, r.Body)
		return each(&again)
	})
}
