package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// The class paths of the reference's mock engines.
const (
	mockEngine01 = "epu.test.mocks.MockDecisionEngine01" // counts its calls
	mockEngine02 = "epu.test.mocks.MockDecisionEngine02" // decide and reconfigure fail
)

var errMock = errors.New("a mock engine fails as it is told")

// mock is a kind of engine whose behaviour a test gives, and that counts how it
// is called. What is nil does nothing.
type mock struct {
	decide      func(v *engines.View) (engines.Decision, error)
	reconfigure func(conf json.RawMessage) error
	initialize  func(conf json.RawMessage) error

	mu      sync.Mutex
	engines map[events.DomainID][]*mockEngine // each one that was ever made and called, in that order
}

// mockEngine is the engine of one domain in one term.
type mockEngine struct {
	kind *mock
	conf json.RawMessage // given at the start

	// Guarded by kind.mu.
	known        bool
	decides      int
	reconfigures int
}

// as makes the kind that a registry takes. alias may be "".
func (m *mock) as(name, alias string) engines.Kind {
	m.engines = map[events.DomainID][]*mockEngine{}
	k := engines.Kind{
		Name: name, Doc: "A mock of the tests.",
		New: func(conf, _ json.RawMessage) (engines.Engine, error) {
			if m.initialize != nil {
				if err := m.initialize(conf); err != nil {
					return nil, err
				}
			}
			return &mockEngine{kind: m, conf: conf}, nil
		},
		Validate: func(json.RawMessage, bool) error { return nil },
	}
	if alias != "" {
		k.Aliases = []string{alias}
	}
	return k
}

func (e *mockEngine) Reconfigure(conf json.RawMessage) error {
	e.kind.mu.Lock()
	e.reconfigures++
	e.kind.mu.Unlock()
	if e.kind.reconfigure != nil {
		return e.kind.reconfigure(conf)
	}
	return nil
}

func (e *mockEngine) Decide(v *engines.View) (engines.Decision, error) {
	e.kind.mu.Lock()
	if !e.known {
		e.known = true
		e.kind.engines[v.Domain] = append(e.kind.engines[v.Domain], e)
	}
	e.decides++
	e.kind.mu.Unlock()
	if e.kind.decide != nil {
		return e.kind.decide(v)
	}
	return engines.Decision{Reason: "the mock wants nothing", State: events.EngineStable}, nil
}

// counts is how often a domain's engines were called, all terms together.
type counts struct{ Initialized, Decided, Reconfigured int }

func (m *mock) counts(owner, domain string) counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c counts
	for _, e := range m.engines[events.DomainID{Owner: owner, Name: domain}] {
		c.Initialized++
		c.Decided += e.decides
		c.Reconfigured += e.reconfigures
	}
	return c
}

// conf is what a domain's first engine was made with.
func (m *mock) conf(owner, domain string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.engines[events.DomainID{Owner: owner, Name: domain}][0].conf)
}

// failing is an engine of which decide and reconfigure fail.
func failing() *mock {
	return &mock{
		decide:      func(*engines.View) (engines.Decision, error) { return engines.Decision{}, errMock },
		reconfigure: func(json.RawMessage) error { return errMock },
	}
}

// section makes a section of a config.
func section(v map[string]any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// ofEngine is a definition that names an engine, as the reference's are.
func ofEngine(class string) events.Config {
	return events.Config{
		General: section(map[string]any{"engine_class": class}),
		Health:  section(map[string]any{"monitor_health": false}),
	}
}

// preserve is a config that keeps n instances.
func preserve[N int | string](n N) events.Config {
	return events.Config{EngineConf: fmt.Appendf(nil, `{"preserve_n":%v}`, n)}
}
