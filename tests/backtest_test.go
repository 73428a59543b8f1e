package tests

import (
	"fmt"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// reproduces checks that each decision that was ever recorded on a domain comes out the
// same when it is made again from the log, and gives how many they are.
func (e *epum) reproduces(owner, domain string, more ...engines.Kind) int {
	e.t.Helper()
	r := e.backtest(owner, domain, func(c *backtest.Config) {
		c.Engines = func(site string) *engines.Registry { return service.Registry(e.prefix, site, more...) }
	})
	if r.Replayed == nil || r.Replayed.Same != r.Recorded.Decisions || r.Replayed.Same == 0 {
		e.t.Errorf("%s of %s: not all of %d recorded decisions come out the same: %+v", domain, owner, r.Recorded.Decisions, r.Replayed)
	}
	return r.Recorded.Decisions
}

// otherwise finds the decisions of any domain that come out otherwise when they are made
// again from the log.
func (e *epum) otherwise(log []logged) (findings []string) {
	e.t.Helper()
	domains, decisions := map[events.DomainID]bool{}, 0
	for _, l := range log {
		if id, _, ok := l.key.Parts(); ok && l.typ() == events.TypeDecisionMade {
			domains[id] = true
		}
	}
	for id := range domains {
		r := e.backtest(id.Owner, id.Name, nil)
		decisions += r.Recorded.Decisions
		if r.Replayed.Same != r.Recorded.Decisions {
			findings = append(findings, fmt.Sprintf("%s: of %d decisions on %s of %s: %+v", findAgain, r.Recorded.Decisions, id.Name, id.Owner, r.Replayed))
		}
	}
	e.t.Logf("%d decisions on %d domains made again from the log", decisions, len(domains))
	return findings
}

// backtest runs a backtest of a domain on the log.
func (e *epum) backtest(owner, domain string, change func(*backtest.Config)) *backtest.Result {
	e.t.Helper()
	cell, err := jetstream.Attach(e.ctx(), e.nc, jetstream.Config{Prefix: e.prefix, Process: "test"})
	if err != nil {
		e.t.Fatal(err)
	}
	defer cell.Close()
	end, err := cell.Log().End(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	c := backtest.Config{
		Domain: events.DomainID{Owner: owner, Name: domain}, History: cell.Log(), To: end.Seq, Until: end.Time,
		Engines: func(site string) *engines.Registry { return service.Registry(e.prefix, site) },
	}
	if change != nil {
		change(&c)
	}
	var r *backtest.Result
	origin := projections.NewOrigin(cell.Purged())
	if err := origin.Hold(e.ctx(), end.Created, func(point projections.PurgePoint) (err error) {
		if c.Known, err = origin.Documents(e.ctx(), point, c.Domain.Keys()...); err == nil {
			r, err = backtest.Run(e.ctx(), c)
		}
		return err
	}); err != nil {
		e.t.Fatal(err)
	}
	return r
}
