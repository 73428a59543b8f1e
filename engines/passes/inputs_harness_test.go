package passes

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/external"
	"github.com/seed-524e47bf/epum/engines/needy"
	"github.com/seed-524e47bf/epum/engines/phantom"
	"github.com/seed-524e47bf/epum/engines/phantommulti"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
	"github.com/seed-524e47bf/epum/engines/schedule"
	"github.com/seed-524e47bf/epum/engines/sensor"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/engines/step"
	"github.com/seed-524e47bf/epum/engines/targettracking"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// registry has the engines that scripts may name.
func registry() *engines.Registry {
	var known *engines.Registry
	known = engines.NewRegistry("simplest", simplest.Kind("local"), needy.Kind(), sensor.Kind(), targettracking.Kind(), step.Kind(),
		phantom.Kind(), phantommulti.Kind(), phantomoverflow.Kind(), external.Kind("epum"), schedule.Kind(func(class string) (engines.Kind, bool) { return known.Lookup(class) }))
	return known
}

// gauge is a source whose metrics a script sets. Its samples are as old as the last
// full 5 s, so that to read once more makes no difference.
type gauge struct {
	mu     sync.Mutex
	values map[string]float64 // metric → the value that all have
	fails  bool
	reads  int
}

var errGauge = errors.New("the gauge fails as it is told")

// Fetch implements sensors.Source.
func (g *gauge) Fetch(_ context.Context, q sensors.Query) (sensors.Series, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads++
	value, known := g.values[q.Metric]
	switch {
	case g.fails:
		return nil, errGauge
	case !known:
		return sensors.Series{}, nil
	}
	sample := []sensors.Sample{{Time: began.Add(q.To.Sub(began).Truncate(5 * time.Second)), Value: value}}
	series := sensors.Series{}
	if q.OfDomain {
		series[engines.OfDomain] = sample
	}
	for _, i := range q.Instances {
		series[i.ID] = sample
	}
	return series, nil
}

// set sets a metric: to a number, to none, or to what cannot be read.
func (g *gauge) set(metric, value string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	number, err := strconv.ParseFloat(value, 64)
	switch value {
	case "fails":
		g.fails = true
		return nil
	case "none":
		delete(g.values, metric)
		err = nil
	default:
		g.values[metric] = number
	}
	g.fails = false
	return err
}

// memorySamples is the bucket of samples.
type memorySamples struct {
	projections.Samples
	mu  sync.Mutex
	all map[events.DomainID][]byte
}

// Put implements projections.Samples, as do the methods below.
func (m *memorySamples) Put(_ context.Context, _ uint64, id events.DomainID, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[id] = data
	return nil
}

func (m *memorySamples) Delete(_ context.Context, _ uint64, id events.DomainID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, id)
	return nil
}

func (m *memorySamples) All(_ context.Context, each func(events.DomainID, []byte) error) error {
	m.mu.Lock()
	all := maps.Clone(m.all)
	m.mu.Unlock()
	for id, data := range all {
		if err := each(id, data); err != nil {
			return err
		}
	}
	return nil
}

// keeper answers as an engine that keeps the number of its settings would.
type keeper struct{}

// Ask implements Asker.
func (keeper) Ask(_ context.Context, _ string, body []byte) ([]byte, error) {
	var question enginetest.Question
	if err := json.Unmarshal(body, &question); err != nil {
		return nil, err
	}
	d := question.Keep()
	d.Reason = "keep " + strconv.Itoa(d.Target)
	d.Memory = json.RawMessage(`{"keep":` + strconv.Itoa(d.Target) + `}`)
	return json.Marshal(d)
}
