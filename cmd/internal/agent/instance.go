package agent

import (
	"context"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// trimEvery is how often the output of a process is looked at, see trimOutput.
const trimEvery = time.Second

// wants is what an instance was asked for and has not done yet. Requests are
// repeated and idempotent, so a set is enough: asked twice is asked once, and
// to terminate wins over to provision.
type wants struct {
	adopt     bool      // go on where the last agent stopped
	found     []process // with adopt: the processes that carry the instance's id
	provision *events.ProvisionRequest
	terminate bool
	dump      bool
	beat      bool // its reports were acked
	answer    bool // a heartbeat was asked for
}

// empty reports whether nothing was asked for that needs a goroutine of an
// instance without a process.
func (w wants) empty() bool { return !w.adopt && w.provision == nil && !w.terminate && !w.dump }

// instance is one instance. While something is left to do its goroutine owns
// the record; a finished one has no goroutine until it is asked for something.
type instance struct {
	agent   *Agent
	reports *reporter
	wake    chan struct{} // holds one wake-up

	mu    sync.Mutex
	wants wants
	live  bool // it has a goroutine

	rec    record
	exited <-chan exit      // nil: no process is watched
	due    <-chan time.Time // end of start_after while STARTED, of grace while TERMINATING

	beats    *time.Ticker       // when the next heartbeat is due
	checked  <-chan heartbeat   // nil: no check is under way or waits for its turn
	endCheck context.CancelFunc // ends the check that is
	finding  *heartbeat         // of the last check; nil: none has ended yet
}

func newInstance(a *Agent, rec record) *instance {
	i := &instance{agent: a, rec: rec, wake: make(chan struct{}, 1)}
	i.reports = &reporter{line: a.line, drained: i.acked}
	return i
}

// tell adds to what the instance is asked for. It never blocks.
func (i *instance) tell(ctx context.Context, w wants) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if w.adopt {
		i.wants.adopt, i.wants.found = true, w.found
	}
	if w.provision != nil {
		i.wants.provision = w.provision
	}
	i.wants.terminate = i.wants.terminate || w.terminate
	i.wants.dump = i.wants.dump || w.dump
	if i.live {
		i.poke()
		return
	}
	i.live = true
	i.agent.group.Go(func() { i.run(ctx) })
}

func (i *instance) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *instance) run(ctx context.Context) {
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	i.beats = time.NewTicker(i.agent.cfg.HeartbeatInterval)
	defer i.beats.Stop()
	for {
		i.obey(ctx, i.take())
		if i.rest() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-i.wake:
		case e := <-i.exited:
			i.gone(ctx, e)
		case <-i.due:
			i.overdue(ctx)
		case <-i.beats.C:
			i.beat(ctx)
		case hb := <-i.checked:
			i.examined(hb)
		case <-trim.C:
			trimOutput(i.agent.dir.home(i.rec.NodeID))
		}
	}
}

func (i *instance) take() wants {
	i.mu.Lock()
	defer i.mu.Unlock()
	w := i.wants
	i.wants = wants{}
	return w
}

// rest ends the goroutine's work where nothing is left to do, and turns the
// record of an instance whose end is known to the leader into a tombstone.
func (i *instance) rest() bool {
	if i.rec.alive() || !i.reports.idle() {
		return false
	}
	if i.rec.State != "" && !i.rec.Settled {
		i.settle()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.wants.empty() {
		return false
	}
	i.live = false
	return true
}

// settle may fail: then the next agent reports the end again and settles.
func (i *instance) settle() {
	dir, log := i.agent.dir, i.agent.cfg.Logger
	i.rec = i.rec.tombstone()
	if err := dir.save(i.rec); err != nil {
		log.Error("tombstone not recorded", "instance", i.rec.NodeID, "error", err)
		return
	}
	if err := dir.strip(i.rec.NodeID); err != nil {
		log.Error("output not removed", "instance", i.rec.NodeID, "error", err)
	}
}

// forgettable reports whether the instance ended before the given time, or
// was never recorded, and nothing is asked of it.
func (i *instance) forgettable(before time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.live && (i.rec.State == "" || i.rec.Settled && i.rec.Ended.Before(before))
}
