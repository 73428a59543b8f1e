package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// MockConfig says how simulated instances behave.
type MockConfig struct {
	Prefix      events.Prefix // "" means events.DefaultPrefix
	Delay       time.Duration // from each state to the next; 0 means none
	Jitter      time.Duration // at most this much is added to each Delay; 0 means none
	FailureRate float64       // [0, 1]: the share of launches that end FAILED in place of STARTED
	Seed        uint64        // with the instance id it decides which launches fail, and the jitter
	Logger      *slog.Logger  // nil means slog.Default()

	HeartbeatInterval time.Duration // between two heartbeats of an instance that is RUNNING; 0 means DefaultHeartbeatInterval
}

// Mock is a provisioner of all sites that only simulates instances. It is
// opened by OpenMock and has to be Run, once. It keeps nothing: after a
// restart no instance is known.
type Mock struct {
	cfg   MockConfig
	inbox *inbox
	line  *line
	group sync.WaitGroup

	mu        sync.Mutex
	instances map[string]*simulated // by instance id
	running   map[string]string     // those that are RUNNING: instance id → site
}

// RunMock opens a mock and runs it until ctx is done.
func RunMock(ctx context.Context, nc *nats.Conn, cfg MockConfig) error {
	m, err := OpenMock(nc, cfg)
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

// OpenMock subscribes, so that no request sent after it has returned is missed.
func OpenMock(nc *nats.Conn, cfg MockConfig) (*Mock, error) {
	cfg.Prefix = cmp.Or(cfg.Prefix, events.DefaultPrefix)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if !(cfg.FailureRate >= 0 && cfg.FailureRate <= 1) || cfg.Delay < 0 || cfg.Jitter < 0 {
		return nil, fmt.Errorf("agent: mock: failure rate %v, delay %v, jitter %v: out of range", cfg.FailureRate, cfg.Delay, cfg.Jitter)
	}
	m := &Mock{instances: make(map[string]*simulated), running: make(map[string]string)}
	var err error
	if cfg.HeartbeatInterval, err = heartbeatInterval(cfg.HeartbeatInterval); err != nil {
		return nil, err
	}
	m.cfg = cfg
	if m.line, err = newLine(nc, cfg.Prefix, cfg.Logger, &m.group); err != nil {
		return nil, err
	}
	if m.inbox, err = openInbox(nc, cfg.Prefix, "", &fence{}, cfg.Logger); err != nil {
		return nil, err
	}
	return m, nil
}

// Run serves requests until ctx is done; then it returns nil.
func (m *Mock) Run(ctx context.Context) error {
	m.group.Go(func() { m.pulse(ctx) })
	m.inbox.serve(ctx, m)
	m.group.Wait()
	return nil
}

// simulated is one instance of a Mock, guarded by its mu.
type simulated struct {
	report  report // as last reported; State "": nothing yet
	reports *reporter
	chance  *rand.Rand // drawn from in the order of the instance's own steps
	fails   bool
	ended   time.Time // zero: it is not
}

// find gives an instance, a new one if need be; m.mu is held.
func (m *Mock) find(site, id string) *simulated {
	s, ok := m.instances[id]
	if !ok {
		h := fnv.New64a()
		_, _ = h.Write([]byte(id)) // never fails
		sum := binary.BigEndian.AppendUint64(nil, h.Sum64())
		s = &simulated{
			report: report{
				NodeID: id, Site: site, Hostname: "mock-" + events.Token(id),
				PublicIP:  fmt.Sprintf("203.0.113.%d", sum[0]),
				PrivateIP: fmt.Sprintf("10.%d.%d.%d", sum[1], sum[2], sum[3]),
			},
			reports: &reporter{line: m.line, drained: func() { m.acked(site, id) }},
			chance:  rand.New(rand.NewPCG(m.cfg.Seed, h.Sum64())),
		}
		s.fails = s.chance.Float64() < m.cfg.FailureRate
		m.instances[id] = s
	}
	return s
}

func (m *Mock) provision(ctx context.Context, site, id string, _ events.ProvisionRequest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.find(site, id)
	if s.report.State != "" {
		m.enter(ctx, s, s.report.State)
		return
	}
	m.enter(ctx, s, events.Requested)
	next := []events.InstanceState{events.Pending, events.Started, events.Running}
	if s.fails {
		next = []events.InstanceState{events.Pending, events.Failed}
	}
	m.group.Go(func() { m.live(ctx, s, next...) })
}

func (m *Mock) terminate(ctx context.Context, site, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s := m.find(site, id); {
	case s.report.State == "":
		m.enter(ctx, s, events.Terminated)
	case s.report.State >= events.Terminating:
		m.enter(ctx, s, s.report.State)
	default:
		m.enter(ctx, s, events.Terminating)
		m.group.Go(func() { m.live(ctx, s, events.Terminated) })
	}
}

func (m *Mock) dump(ctx context.Context, site, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.find(site, id)
	if s.report.State == "" {
		s.report.Error = "the mock does not know this instance"
		m.enter(ctx, s, events.Failed)
		return
	}
	m.enter(ctx, s, s.report.State)
}

func (m *Mock) prune(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.instances {
		if !s.ended.IsZero() && s.ended.Before(before) && s.reports.idle() {
			delete(m.instances, id)
		}
	}
}

// live takes an instance through states, a delay before each, until ctx is
// done or the instance has gone another way.
func (m *Mock) live(ctx context.Context, s *simulated, states ...events.InstanceState) {
	for _, state := range states {
		select {
		case <-ctx.Done():
			return
		case <-time.After(m.delay(s)):
		}
		m.mu.Lock()
		later := state > s.report.State
		if later {
			if state == events.Failed {
				s.report.Error = "the mock was told to fail this launch"
			}
			m.enter(ctx, s, state)
		}
		m.mu.Unlock()
		if !later {
			return
		}
	}
}

func (m *Mock) delay(s *simulated) time.Duration {
	if m.cfg.Jitter == 0 {
		return m.cfg.Delay
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Delay + time.Duration(s.chance.Int64N(int64(m.cfg.Jitter)+1))
}

// enter moves an instance to a state, or repeats its present one, and reports
// it; m.mu is held.
func (m *Mock) enter(ctx context.Context, s *simulated, state events.InstanceState) {
	s.report.State = state
	s.report.Counter++
	if state.Terminal() && s.ended.IsZero() {
		s.ended = time.Now()
	}
	if state == events.Running {
		m.running[s.report.NodeID] = s.report.Site
	} else {
		delete(m.running, s.report.NodeID)
	}
	s.reports.push(ctx, s.report)
}
