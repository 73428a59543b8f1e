// Package sensors reads the metrics of domains: one adapter for each kind of
// source, all behind Source, and what makes one value of many samples. Nothing
// here decides; the leader reads outside its passes and puts what was read into
// the view that an engine gets.
package sensors

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Sample is one measurement.
type Sample struct {
	Time  time.Time // UTC
	Value float64
}

// Series are the samples of a metric, the oldest first.
type Series map[string][]Sample // instance id or engines.OfDomain → samples

// Query asks for the samples of one metric of a domain.
type Query struct {
	Domain    events.DomainID
	Metric    string
	Instances []*events.Instance // whose samples are wanted; nil: none
	OfDomain  bool               // the domain's own samples are wanted
	From, To  time.Time          // [From, To)
	Statistic string             // one of engines.Statistics, for a source that computes it
	Template  string             // of the query, for a source that takes one; "": the source's own
	Data      []float64          // what the source mockcloudwatch gives
}

// Source is where samples come from. It is safe for concurrent use.
type Source interface {
	// Fetch gives the samples that there are: one who has none is not in the
	// series, which is no error. It fails where the source cannot be asked or what
	// it says cannot be read; the error says so in one clause.
	Fetch(ctx context.Context, q Query) (Series, error)
}
