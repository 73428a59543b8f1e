package sensors

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// Mock is the source mockcloudwatch: the series that a config gives, for whoever is
// asked for. The newest sample is a little older than the end of the period.
type Mock struct{}

// Fetch implements Source.
func (Mock) Fetch(_ context.Context, q Query) (Series, error) {
	step := min(time.Second, q.To.Sub(q.From)/time.Duration(max(len(q.Data), 1)))
	samples := make([]Sample, len(q.Data))
	for n, value := range q.Data {
		samples[n] = Sample{Time: q.To.Add(-time.Duration(len(q.Data)-n) * step), Value: value}
	}
	series := Series{}
	if len(samples) == 0 {
		return series, nil
	}
	if q.OfDomain {
		series[engines.OfDomain] = samples
	}
	for _, i := range q.Instances {
		series[i.ID] = samples
	}
	return series, nil
}
