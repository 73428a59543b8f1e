// Package sensors reads the metrics of domains: one adapter for each kind of
// source, all behind Source, and what makes one value of many samples. Nothing
// here decides; the leader reads outside its passes and puts what was read into
// the view that an engine gets.
package sensors

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Sample is one measurement, or what a source has made of several.
type Sample struct {
	Time  time.Time // UTC
	Value float64   // NaN and the infinities count as none
	Of    float64   // of how many measurements; 0: it is one
}

// Series are the samples of a metric, the oldest first.
type Series map[string][]Sample // instance id or engines.OfDomain → samples

// add adds samples to a series; one without any does not come into being.
func (s Series) add(whose string, samples []Sample) {
	if len(samples) > 0 {
		s[whose] = append(s[whose], samples...)
	}
}

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
	// it says cannot be read; the error says so in one clause. What could be read
	// all the same it gives along with the error.
	Fetch(ctx context.Context, q Query) (Series, error)
}

// Sources are the sources of a process by their names, as engine_conf.sensor_type
// gives them.
type Sources map[string]Source

// keys are the keys of the service's configuration that a source needs.
var keys = map[string]string{
	"prometheus": "sensors.prometheus.url", "opentsdb": "sensors.opentsdb.url", "cloudwatch": "sensors.cloudwatch.region",
}

// NewSources has every source that a config may name: mockcloudwatch, and for each
// other one what says that it is not configured, until it is replaced.
func NewSources() Sources {
	s := Sources{}
	for _, name := range engines.SensorTypes {
		s[name] = unconfigured{name}
	}
	s["mockcloudwatch"] = Mock{}
	return s
}

// Of gives the source with a name; it is never nil.
func (s Sources) Of(name string) Source {
	if source := s[name]; source != nil {
		return source
	}
	return unconfigured{name}
}

// unconfigured is a source that this service does not have.
type unconfigured struct{ name string }

func (u unconfigured) Fetch(context.Context, Query) (Series, error) {
	key, known := keys[u.name]
	if !known {
		return nil, fmt.Errorf("there is no source %q here", u.name)
	}
	return nil, fmt.Errorf("the source %s is not configured: set %s in the service's configuration", u.name, key)
}
