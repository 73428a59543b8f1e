package agent

import (
	"context"

	"github.com/seed-524e47bf/epum/events"
)

// acked notes that all reports of the instance were acked: of one that is
// RUNNING, the leader can now take a heartbeat. It never blocks.
func (i *instance) acked() {
	i.mu.Lock()
	i.wants.beat = true
	i.mu.Unlock()
	i.poke()
}

// ask asks for a heartbeat at once. It never blocks, and nothing comes of it
// where no process can be alive.
func (i *instance) ask() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.live {
		i.wants.answer = true
		i.poke()
	}
}

// unchecked reports whether to live is enough to be well: without a check, and for
// what is to end. Before it is RUNNING, what has a check has nothing to say.
func (i *instance) unchecked() bool { return i.rec.Check == nil || i.rec.State > events.Running }

// beat tells that the process is alive, in whatever state the instance is: the
// leader has to hear of one that it believes to be terminated. One that is
// RUNNING and has a check speaks when the check has ended; while that lasts or
// waits for its turn, what the last one found stands.
func (i *instance) beat(ctx context.Context) {
	switch {
	case i.exited == nil || !i.rec.Process.alive():
	case i.unchecked():
		i.send(heartbeat{State: events.HealthOK})
	case i.rec.State != events.Running:
	case i.checked != nil:
		i.answer()
	default:
		i.examine(ctx)
	}
}

// answer is a heartbeat that waits for no check. Before an instance's first
// check has ended there is nothing to say.
func (i *instance) answer() {
	switch {
	case i.exited == nil || !i.rec.Process.alive():
	case i.unchecked():
		i.send(heartbeat{State: events.HealthOK})
	case i.finding != nil:
		i.send(*i.finding)
	}
}

// examine starts the instance's check; i.checked tells what it finds.
func (i *instance) examine(ctx context.Context) {
	ctx, i.endCheck = context.WithCancel(ctx)
	checked, c := make(chan heartbeat, 1), *i.rec.Check
	i.checked = checked
	home, id, site, pid := i.agent.dir.home(i.rec.NodeID), i.rec.NodeID, i.agent.cfg.Site, i.rec.Process.PID
	i.agent.group.Go(func() {
		select {
		case i.agent.checks <- struct{}{}:
			defer func() { <-i.agent.checks }()
		case <-ctx.Done():
			return
		}
		if hb, ok := c.run(ctx, home, id, site, pid); ok {
			checked <- hb
		}
	})
}

// examined takes what the check found, and says so.
func (i *instance) examined(hb heartbeat) {
	i.endCheck()
	i.checked, i.finding = nil, &hb
	i.answer()
}

// stopCheck ends a check that is under way, or does not begin it.
func (i *instance) stopCheck() {
	if i.checked != nil {
		i.endCheck()
		i.checked = nil
	}
}

// send hands a heartbeat to the goroutine that publishes them, and never blocks.
func (i *instance) send(hb heartbeat) {
	hb.NodeID, hb.Time = i.rec.NodeID, timestamp()
	select {
	case i.agent.heartbeats <- hb:
	default:
	}
}
