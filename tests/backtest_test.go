package tests

import (

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
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
	r, err := backtest.Run(e.ctx(), c)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

