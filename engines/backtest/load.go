package backtest

import (
	"maps"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
)

// load is what the log has of a domain's metrics: what the last decision record with
// readings had, which holds until the next one, as fresh as it was then.
type load struct {
	metrics map[string]*metricLoad // metric → what is known
	ever    map[string]bool        // metrics of which there ever was a reading
}

func newLoad() *load {
	return &load{metrics: map[string]*metricLoad{}, ever: map[string]bool{}}
}

// metricLoad is one metric's.
type metricLoad struct {
	domain    *engines.Reading // the domain's own; nil: there is none
	domainAge time.Duration
	shared    bool          // instances have readings
	sum       float64       // of all running instances
	age       time.Duration // of the newest of their readings
}

// learn takes the readings of a decision record.
func (l *load) learn(made *events.DecisionMade) {
	saw, err := passes.DecodeSaw(made.Saw)
	if err != nil || saw.Readings == nil {
		return
	}
	clear(l.metrics)
	for metric, of := range saw.Readings {
		m := &metricLoad{}
		sum, n := 0.0, 0
		for _, whose := range slices.Sorted(maps.Keys(of)) { // a sum depends on the order
			r := of[whose]
			age := made.Now.Sub(r.Time)
			if whose == engines.OfDomain {
				m.domain, m.domainAge = &engines.Reading{Value: r.Value}, age
				continue
			}
			if n == 0 || age < m.age {
				m.age = age
			}
			sum += r.Value
			n++
		}
		if n > 0 {
			m.shared = true
			m.sum = sum / float64(n) * float64(max(saw.Counts[events.Running], 1))
		}
		l.metrics[metric], l.ever[metric] = m, true
	}
}

// readings are what would be read now: of each running instance, its share.
func (l *load) readings(instances []*events.Instance, now time.Time) engines.Readings {
	if len(l.metrics) == 0 {
		return nil
	}
	running := 0
	for _, i := range instances {
		if i.State == events.Running {
			running++
		}
	}
	all := make(engines.Readings, len(l.metrics))
	for metric, m := range l.metrics {
		of := map[string]engines.Reading{}
		if m.domain != nil {
			of[engines.OfDomain] = engines.Reading{Value: m.domain.Value, Time: now.Add(-m.domainAge)}
		}
		if m.shared && running > 0 {
			share := engines.Reading{Value: m.sum / float64(running), Time: now.Add(-m.age)}
			for _, i := range instances {
				if i.State == events.Running {
					of[i.ID] = share
				}
			}
		}
		all[metric] = of
	}
	return all
}
