package sensors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// mostFetches bounds how many metrics of one domain are fetched at once.
const mostFetches = 8

// Collect reads the metrics of a domain, those of its instances of all that may live,
// over [now - period, now). The error joins what went wrong, a *MetricError for
// each metric; what was read is in the snapshot all the same.
func Collect(ctx context.Context, source Source, domain events.DomainID, instances []*events.Instance, s engines.Sensing, now time.Time) (Snapshot, error) {
	queries := queries(domain, instances, s, now)
	fetched, failed := make([]Series, len(queries)), make([]error, len(queries))
	atOnce(mostFetches, len(queries), func(n int) { fetched[n], failed[n] = source.Fetch(ctx, queries[n]) })
	snapshot := newSnapshot(now)
	for n, q := range queries {
		if failed[n] != nil {
			failed[n] = &MetricError{Metric: q.Metric, Err: failed[n]}
			snapshot.Failed = append(snapshot.Failed, q.Metric)
		}
		snapshot.add(q, fetched[n])
	}
	return snapshot, errors.Join(failed...)
}

// atOnce calls do with 0 to total - 1, a few at once, and waits for all.
func atOnce(few, total int, do func(n int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, few)
	for n := range total {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			do(n)
		})
	}
	group.Wait()
}

// queries are one for each metric, sorted by name.
func queries(domain events.DomainID, instances []*events.Instance, s engines.Sensing, now time.Time) []Query {
	var alive []*events.Instance
	for _, i := range instances {
		if i.Valid() {
			alive = append(alive, i)
		}
	}
	metrics := map[string]Query{}
	for _, metric := range s.Domain {
		metrics[metric] = Query{OfDomain: true}
	}
	for _, metric := range s.Instances {
		metrics[metric] = Query{OfDomain: metrics[metric].OfDomain, Instances: alive}
	}
	all := make([]Query, 0, len(metrics))
	for _, metric := range slices.Sorted(maps.Keys(metrics)) {
		q := metrics[metric]
		if len(q.Instances) == 0 && !q.OfDomain {
			continue
		}
		q.Domain, q.Metric, q.Statistic, q.Template, q.Data = domain, metric, s.Statistic, s.Queries[metric], s.Data
		q.From, q.To = now.Add(-s.Period), now
		all = append(all, q)
	}
	return all
}

// MetricError is returned by Collect for a metric that could not be read, or not
// all of it.
type MetricError struct {
	Metric string
	Err    error
}

func (e *MetricError) Error() string { return fmt.Sprintf("metric %s: %v", e.Metric, e.Err) }

// Unwrap gives what went wrong.
func (e *MetricError) Unwrap() error { return e.Err }
