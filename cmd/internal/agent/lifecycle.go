package agent

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// localAddress is where the agent's processes are: on its own machine.
const localAddress = "127.0.0.1"

// obey does what was asked. To terminate goes first, so that what came in
// together with it is not launched.
func (i *instance) obey(ctx context.Context, w wants) {
	if w.adopt {
		i.adopt(ctx, w.found)
	}
	switch known := i.rec.State != ""; {
	case w.terminate:
		i.terminate(ctx)
	case w.provision != nil && !known:
		i.launch(ctx, *w.provision)
	case known && (w.provision != nil || w.dump):
		i.enter(ctx, i.rec.State)
	case w.dump:
		i.rec.Error = "the agent does not know this instance"
		i.enter(ctx, events.Failed)
	}
	if w.beat && i.rec.State == events.Running && i.reports.idle() { // else it was an earlier state's ack
		i.beat(ctx)
		i.beats.Reset(i.agent.cfg.HeartbeatInterval)
	}
	if w.answer {
		i.answer()
	}
}

// enter moves the instance through states (its present one again is a repeated
// report), records where it ends, and then reports each. What cannot be
// recorded is still reported, but an instance of which nothing was known stays
// unknown, and enter returns false: the leader will ask again.
func (i *instance) enter(ctx context.Context, states ...events.InstanceState) bool {
	log, fresh := i.agent.cfg.Logger, i.rec.State == ""
	reports := make([]report, 0, len(states))
	for _, state := range states {
		switch state {
		case i.rec.State:
		case events.Failed:
			log.Warn("instance failed", "instance", i.rec.NodeID, "error", i.rec.Error)
		default:
			log.Info("instance state", "instance", i.rec.NodeID, "state", state)
		}
		i.rec.State = state
		i.rec.Counter++
		reports = append(reports, i.rec.report)
	}
	if i.rec.State.Terminal() && i.rec.Ended == nil {
		now := time.Now().UTC()
		i.rec.Ended = &now
	}
	if err := i.agent.dir.save(i.rec); err != nil {
		log.Error("instance not recorded", "instance", i.rec.NodeID, "state", i.rec.State, "error", err)
		if fresh {
			i.rec = record{report: report{NodeID: i.rec.NodeID, Site: i.rec.Site}}
			return false
		}
	}
	i.reports.push(ctx, reports...)
	return true
}

// launch starts the process of an instance that nothing is known of.
func (i *instance) launch(ctx context.Context, req events.ProvisionRequest) {
	i.rec.Type = req.DeployableType
	c, err := i.agent.cfg.Types.command(req)
	if err != nil {
		i.rec.Error = err.Error()
		i.enter(ctx, events.Requested, events.Failed)
		return
	}
	i.rec.Grace, i.rec.StartAfter, i.rec.Check = c.grace, c.startAfter, c.check
	if !i.enter(ctx, events.Requested, events.Pending) {
		return
	}
	p, err := start(c, i.agent.dir.home(i.rec.NodeID), i.rec.NodeID, i.agent.cfg.Site)
	if err != nil {
		i.rec.Error = "the process did not start: " + err.Error()
		i.enter(ctx, events.Failed)
		return
	}
	i.started(ctx, p)
}

func (i *instance) started(ctx context.Context, p process) {
	i.rec.Process = &p
	i.rec.PID, i.rec.Hostname = p.PID, i.agent.line.host
	i.rec.PublicIP, i.rec.PrivateIP = localAddress, localAddress
	i.watch(ctx)
	i.due = time.After(i.rec.StartAfter)
	i.enter(ctx, events.Started)
}

// watch makes i.exited tell how the process ends.
func (i *instance) watch(ctx context.Context) {
	exited, p := make(chan exit, 1), *i.rec.Process
	i.exited = exited
	i.agent.group.Go(func() {
		if e, ok := p.wait(ctx); ok {
			exited <- e
		}
	})
}

// terminate ends the process, or an instance before it has one.
func (i *instance) terminate(ctx context.Context) {
	switch {
	case i.rec.State == "":
		i.enter(ctx, events.Terminated)
	case i.rec.State >= events.Terminating:
		i.enter(ctx, i.rec.State)
	default:
		i.stopCheck()
		i.enter(ctx, events.Terminating)
		i.rec.Process.signal(syscall.SIGTERM)
		i.due = time.After(i.rec.Grace)
	}
}

// overdue is the end of the time that the process had to prove itself, or to
// end by itself.
func (i *instance) overdue(ctx context.Context) {
	i.due = nil
	switch {
	case !i.rec.Process.alive():
		// i.exited is about to say so.
	case i.rec.State == events.Started:
		i.enter(ctx, events.Running)
	case i.rec.State == events.Terminating:
		i.agent.cfg.Logger.Warn("process killed, it outlived its grace", "instance", i.rec.NodeID, "grace", i.rec.Grace)
		i.rec.Process.signal(syscall.SIGKILL)
	}
}

// gone is the end of the process.
func (i *instance) gone(ctx context.Context, e exit) {
	i.exited, i.due = nil, nil
	i.stopCheck()
	if e.known {
		i.rec.ExitSignal = e.signal
		if e.signal == "" {
			i.rec.ExitCode = &e.code
		}
	}
	if i.rec.State == events.Terminating {
		i.enter(ctx, events.Terminated)
		return
	}
	i.rec.Error = e.sentence(i.rec.State)
	i.rec.StderrTail = stderrTail(i.agent.dir.home(i.rec.NodeID))
	i.enter(ctx, events.Failed)
}

// adopt goes on with what an earlier agent left.
func (i *instance) adopt(ctx context.Context, found []process) {
	p := i.rec.Process
	switch {
	case i.rec.State.Terminal():
		i.enter(ctx, i.rec.State)
	case p == nil:
		if main, ok := leader(found); ok {
			i.started(ctx, main)
			return
		}
		i.rec.Error = "the agent stopped while it started the process, and there is no process"
		i.enter(ctx, events.Failed)
	case !p.exists():
		for _, left := range found {
			if left.session == p.PID {
				left.kill()
			}
		}
		i.gone(ctx, exit{})
	default:
		i.resume(ctx)
	}
}

// resume watches a process that an earlier agent started.
func (i *instance) resume(ctx context.Context) {
	i.watch(ctx)
	switch i.rec.State {
	case events.Started:
		i.due = time.After(i.rec.StartAfter)
	case events.Terminating:
		i.rec.Process.signal(syscall.SIGTERM) // the agent may have stopped before it did
		i.due = time.After(i.rec.Grace)
	}
	i.enter(ctx, i.rec.State)
}

// exit is how a process ended.
type exit struct {
	known  bool   // false: another process was its parent
	code   int    // exit code; -1 with a signal
	signal string // that killed it, as SIGKILL; "": none
}

// sentence says how a process ended that nobody asked to end.
func (e exit) sentence(state events.InstanceState) string {
	when := ""
	if state < events.Running {
		when = " before it was running"
	}
	switch {
	case !e.known:
		return "the process has gone" + when + "; its exit code is unknown, since an earlier agent had started it"
	case e.signal != "":
		return fmt.Sprintf("the process was killed by %s%s", e.signal, when)
	default:
		return fmt.Sprintf("the process exited with code %d%s, unasked", e.code, when)
	}
}
