package agent

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// pulse sends a heartbeat of each instance that is RUNNING, every heartbeat
// interval until ctx is done.
func (m *Mock) pulse(ctx context.Context) {
	tick := time.NewTicker(m.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.beat(ctx, func(string) bool { return true })
		}
	}
}

// acked sends the first heartbeat of an instance, when its report of RUNNING was
// acked, and another one with each repeated report.
func (m *Mock) acked(site, id string) {
	m.mu.Lock()
	_, running := m.running[id]
	running = running && m.instances[id].reports.idle() // else it was an earlier state's ack
	m.mu.Unlock()
	if running {
		m.line.beat(site, heartbeat{NodeID: id, State: events.HealthOK, Time: timestamp()})
	}
}

// answer works on its own: many instances take a while.
func (m *Mock) answer(ctx context.Context, sites map[string]bool) {
	m.group.Go(func() { m.beat(ctx, func(site string) bool { return sites[site] }) })
}

// beat sends a heartbeat of each instance that is RUNNING and at one of the
// sites. m.mu is not held while they are sent.
func (m *Mock) beat(ctx context.Context, at func(site string) bool) {
	type beating struct{ id, site string }
	var all []beating
	m.mu.Lock()
	for id, site := range m.running {
		if at(site) {
			all = append(all, beating{id, site})
		}
	}
	m.mu.Unlock()
	for _, b := range all {
		if ctx.Err() != nil {
			return
		}
		m.line.beat(b.site, heartbeat{NodeID: b.id, State: events.HealthOK, Time: timestamp()})
	}
}
