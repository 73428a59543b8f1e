package engines

import (
	"math"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// OfDomain is whose reading a domain's own is, among those of its instances.
const OfDomain = "-"

// Reading is a metric's value by its sample function.
type Reading struct {
	Value float64   `json:"value"`
	Time  time.Time `json:"time"` // of its newest sample, UTC
}

// Readings are what a domain's metrics were when they were last read.
type Readings map[string]map[string]Reading // metric → instance id or OfDomain → reading

// Len is how many readings there are.
func (r Readings) Len() (n int) {
	for _, of := range r {
		n += len(of)
	}
	return n
}

// Metric is how an engine reads a metric.
type Metric struct {
	Name      string
	Domain    bool          // the domain's own reading counts
	Instances bool          // those of its running instances count
	Fresh     time.Duration // a reading that is older is missing
	OnMissing string        // OnMissingHold or another of its kind
}

// What an engine does where readings are missing (engine_conf.on_missing).
const (
	OnMissingHold   = "hold"            // no scale-in by less than half of the running instances
	OnMissingIgnore = "ignore_instance" // what was read counts
	OnMissingOut    = "fail_out"        // by less than half of the running instances it scales out
)

// OnMissingAll are those that a config may name.
var OnMissingAll = []string{OnMissingHold, OnMissingIgnore, OnMissingOut}

// mostNamed bounds how many instances without a reading are named in a record.
const mostNamed = 20

// Measured is the average of a metric's readings and what it rests on. Its JSON is
// what a decision record says the engine saw.
type Measured struct {
	Metric        string   `json:"metric"`
	Average       *float64 `json:"average"`                  // nil: nothing fresh was read
	Fresh         int      `json:"fresh"`                    // readings in the average
	Running       int      `json:"running"`                  // instances that were to be read
	Missing       int      `json:"missing,omitempty"`        // of those, and of the domain's own, that were not, or are no number
	Stale         int      `json:"stale,omitempty"`          // among the missing: too old
	Absent        []string `json:"absent,omitempty"`         // some of the missing
	OldestSeconds float64  `json:"oldest_seconds,omitempty"` // age of the oldest one in the average
	OnMissing     string   `json:"on_missing,omitempty"`     // where something is missing: what was done

	enough bool
}

// Measure takes the average over what is fresh. Missing is never zero: NaN, the
// infinities and what is stale count as missing.
func (v *View) Measure(m Metric) Measured {
	a := average{Measured: Measured{Metric: m.Name, enough: true}, least: math.Inf(1), most: math.Inf(-1)}
	readings := v.Readings[m.Name]
	if m.Domain {
		a.take(readings, OfDomain, v.Now, m.Fresh)
		a.enough = a.Fresh > 0
	}
	if m.Instances {
		ofDomain := a.Fresh
		for _, i := range v.Instances {
			if i.State == events.Running && !i.Unhealthy() {
				a.Running++
				a.take(readings, i.ID, v.Now, m.Fresh)
			}
		}
		a.enough = a.enough && 2*(a.Fresh-ofDomain) >= a.Running
	}
	if a.Fresh > 0 {
		// Rounding does not take it past what was read: equal readings are their average.
		average := min(max(a.sum/float64(a.Fresh), a.least), a.most)
		a.Average = &average
	}
	if a.Missing > 0 {
		a.OnMissing = m.OnMissing
	}
	return a.Measured
}

// average is one that is being taken.
type average struct {
	Measured
	sum, least, most float64
}

// take counts somebody's reading, or that there is none to count.
func (a *average) take(readings map[string]Reading, whose string, now time.Time, fresh time.Duration) {
	r, ok := readings[whose]
	age := now.Sub(r.Time)
	switch {
	case !ok || math.IsNaN(r.Value) || math.IsInf(r.Value, 0):
	case age > fresh:
		a.Stale++
	default:
		a.Fresh++
		a.sum, a.least, a.most = a.sum+r.Value, min(a.least, r.Value), max(a.most, r.Value)
		a.OldestSeconds = max(a.OldestSeconds, age.Seconds())
		return
	}
	a.Missing++
	if len(a.Absent) < mostNamed {
		a.Absent = append(a.Absent, whose)
	}
}

// MayScaleIn reports whether enough is known to take instances away.
func (m *Measured) MayScaleIn() bool {
	return m.Average != nil && (m.enough || m.OnMissing == OnMissingIgnore)
}

// FailsOut reports whether so little is known that the domain is to scale out.
func (m *Measured) FailsOut() bool { return m.OnMissing == OnMissingOut && !m.enough }

// Sensing is what a domain's config says of its metrics.
type Sensing struct {
	Source    string            // its name in engines/sensors; "": nothing is read
	Instances []string          // metrics of each instance
	Domain    []string          // metrics of the domain as a whole
	Statistic string            // how samples of a period become one value
	Period    time.Duration     // of which samples are asked for
	Data      []float64         // the series that the source mockcloudwatch gives
	Queries   map[string]string // metric → query template, for a source that takes one
}

// Fresh is how old a reading may be; above that it is stale.
func (s *Sensing) Fresh() time.Duration { return 2 * s.Period }

// Metric is how the engine of a config reads one of its metrics.
func (s *Sensing) Metric(name, onMissing string) Metric {
	return Metric{
		Name: name, Domain: slices.Contains(s.Domain, name), Instances: slices.Contains(s.Instances, name),
		Fresh: s.Fresh(), OnMissing: onMissing,
	}
}

// The statistics that engine_conf.sample_function may name.
const (
	StatisticAverage     = "Average"
	StatisticSum         = "Sum"
	StatisticSampleCount = "SampleCount"
	StatisticMaximum     = "Maximum"
	StatisticMinimum     = "Minimum"
	StatisticSeries      = "Series" // the values themselves, the oldest first; an engine reads the last one
)

// Statistics are all of them.
var Statistics = []string{
	StatisticSeries, StatisticAverage, StatisticSum, StatisticSampleCount, StatisticMaximum, StatisticMinimum,
}
