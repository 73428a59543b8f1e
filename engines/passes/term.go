package passes

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// The passes, as run_pass names them.
const (
	PassDecide = "decide"
	PassDoctor = "doctor"
	PassReap   = "reap"
)

// changePause lies between two looks at what has changed: under load many changes are
// looked at together.
const changePause = 2 * time.Millisecond

// Result is what a pass did.
type Result struct {
	Pass       string
	Domains    int // looked at
	Launched   int
	Terminated int
	Changed    int // decision records, changes of health, and records reaped
	Errors     int // domains whose engine failed
	Seq        uint64
	Duration   time.Duration
}

// Term is one process's time as the leader. Its passes run one at a time, on
// the goroutine of serve; Run, Orphan and Heartbeat may be called from anywhere.
type Term struct {
	*Leader
	epoch   uint64
	elected time.Time // the election's timestamp in the log
	began   time.Time // by this process's clock, when the election was known

	decider  *decider
	outbox   *outbox
	doctor   *doctor
	inputs   *inputs
	health   sections[engines.Health]
	general  sections[engines.General]
	changes  *projections.Feed        // the instances and domains that changed, for outbox and doctor
	again    map[events.DomainID]bool // to be decided as soon as the last append is folded
	wake     *alarms                  // to be decided then: a back-off ends
	failures failures
	periodic []*periodic

	runs    chan run
	orphans chan orphan

	lastAppend atomic.Uint64 // sequence of this term's last append
	appendTime atomic.Int64  // when, in Unix nanoseconds of this process's clock
	passTime   atomic.Int64  // when the pass that is under way last got on; 0: none is
}

type orphan struct{ nodeID, site string }

func newTerm(l *Leader) *Term {
	t := &Term{
		Leader:  l,
		again:   map[events.DomainID]bool{},
		wake:    newAlarms(l.Clock()),
		runs:    make(chan run),
		orphans: make(chan orphan, 1024),
		health:  sections[engines.Health]{parse: engines.ParseHealth},
		general: sections[engines.General]{parse: engines.ParseGeneral},
	}
	t.decider = &decider{
		registry: l.Engines, general: &t.general, newID: l.NewID, draft: t.draft, runners: map[events.DomainID]*runner{},
		answer: func(l *look, q engines.Question) (*engines.Answer, error) { return t.inputs.answer(l, q) },
	}
	return t
}

// Epoch is the sequence of the term's election.
func (t *Term) Epoch() uint64 { return t.epoch }

// healthy says whether the lease is worth renewing (design §6, Lease).
func (t *Term) healthy() bool {
	long := 2 * t.LeaseTTL
	if last := t.lastAppend.Load(); last > t.Replica.Applied() && t.since(&t.appendTime) > long {
		return false
	}
	return t.passTime.Load() == 0 || t.since(&t.passTime) <= long
}

func (t *Term) since(at *atomic.Int64) time.Duration {
	return time.Duration(t.Clock().UnixNano() - at.Load())
}

// now is the leader's now (design §2): the election's timestamp plus what has
// passed since by the monotonic clock, never below the last folded timestamp.
func (t *Term) now(folded time.Time) time.Time {
	now := t.elected.Add(t.Clock().Sub(t.began))
	if now.Before(folded) {
		return folded
	}
	return now
}

// appended notes the term's last append.
func (t *Term) appended(seq uint64) {
	t.appendTime.Store(t.Clock().UnixNano())
	t.lastAppend.Store(seq)
}

// serve leads until ctx ends, the lease is lost or another is elected; then it
// releases the lease.
func (t *Term) serve(ctx context.Context, epoch uint64, release func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.epoch, t.began = epoch, t.Clock()
	t.appended(epoch)
	decisions := t.Replica.NewFeed(CallsForDecision)
	defer decisions.Close()
	t.changes = t.Replica.NewFeed(concernsInstances)
	defer t.changes.Close()
	if err := t.Replica.WaitFor(ctx, epoch); err != nil {
		return fmt.Errorf("fold the election: %w", err)
	}
	t.Replica.View(func(s *events.State) { t.elected = s.Leader().Time })
	t.Logger.Info("leading", "epoch", epoch, "process", t.Process)

	projector := make(chan struct{})
	go func() {
		defer close(projector)
		cancel(t.Projector().Run(ctx, epoch))
	}()
	defer func() {
		cancel(nil)
		release() // at once: the checkpoint's revision guards the projector's last flush
		<-projector
	}()

	t.outbox, t.doctor, t.inputs = newOutbox(t), newDoctor(t), newInputs(ctx, t)
	go t.doctor.wait(ctx)
	if t.OnTerm != nil {
		end, err := t.OnTerm(t)
		if err != nil {
			return fmt.Errorf("begin the term: %w", err)
		}
		defer end()
	}
	err := t.loop(ctx, decisions)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// concernsInstances says which events the outbox and the doctor want to know of.
func concernsInstances(e events.Envelope) bool {
	kind := e.Key.Kind()
	return kind == events.KindInstance || kind == events.KindDomain
}

// CallsForDecision says which events have the leader decide at once: not its own,
// but for changes of health. An election ends the term.
func CallsForDecision(e events.Envelope) bool {
	switch e.Key.Kind() {
	case events.KindDomain, events.KindInstance:
		return e.Epoch == 0 || e.Type == events.TypeHealthChanged
	case events.KindLeader:
		return true
	default:
		return false
	}
}

// loop waits for what calls for action and acts, one thing at a time.
func (t *Term) loop(ctx context.Context, decisions *projections.Feed) error {
	t.plan()
	if !t.ExternalDecide {
		if _, err := t.decide(ctx, nil); err != nil {
			return err
		}
	}
	var woken time.Time // by a change, the last time
	for {
		if err := t.flush(ctx); err != nil {
			return err
		}
		var err error
		due, decide, note := t.nextDue(), decisions.Ready(), t.changes.Ready()
		if rest := changePause - time.Since(woken); rest > 0 {
			due, decide, note = min(due, rest), nil, nil
		}
		timer := time.NewTimer(due)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-decide:
			woken = time.Now()
			err = t.onChange(ctx, decisions)
		case <-note:
			woken = time.Now()
		case <-t.doctor.ready:
			err = t.treat(ctx)
		case <-t.inputs.ready:
			err = t.onInputs(ctx)
		case <-timer.C:
			err = t.onDue(ctx)
		case r := <-t.runs:
			err = t.onRun(ctx, r)
		case o := <-t.orphans:
			t.outbox.terminateOrphans(t.moreOrphans(o))
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// periodic is a pass that starts by itself, again and again.
type periodic struct {
	run      func(context.Context) (Result, error)
	interval time.Duration
	next     time.Time
}

// plan says when the passes start by themselves: never where they are driven
// from outside.
func (t *Term) plan() {
	if t.ExternalDecide {
		return
	}
	decideAll := func(ctx context.Context) (Result, error) { return t.decide(ctx, nil) }
	t.periodic = []*periodic{
		{run: decideAll, interval: t.DecideInterval}, {run: t.examine, interval: t.DoctorInterval}, {run: t.reap, interval: t.ReapInterval},
	}
	for _, p := range t.periodic {
		p.next = t.Clock().Add(p.interval)
	}
}

// onChange decides on the domains that changed.
func (t *Term) onChange(ctx context.Context, decisions *projections.Feed) error {
	changed := decisions.Take()
	if changed[events.LeaderKey] > t.epoch || decisions.Broken() {
		return events.ErrDeposed
	}
	if t.ExternalDecide {
		return nil
	}
	domains := make(map[events.DomainID]bool, len(changed))
	for key := range changed {
		if id, _, ok := key.Parts(); ok && id != (events.DomainID{}) {
			domains[id] = true
		}
	}
	_, err := t.decide(ctx, domains)
	return err
}

// onInputs decides on the domains for which something was got: not where passes are
// driven from outside, since what is asked for is waited for there.
func (t *Term) onInputs(ctx context.Context) error {
	if t.ExternalDecide {
		return nil
	}
	t.inputs.read(t.Clock())
	if domains := t.inputs.take(); len(domains) > 0 {
		_, err := t.decide(ctx, domains)
		return err
	}
	return nil
}

// nextDue is how long the loop may wait for the next thing that is due by time.
func (t *Term) nextDue() time.Duration {
	const atMost = time.Minute
	if t.ExternalDecide {
		return atMost
	}
	now := t.Clock()
	next := t.inputs.next(t.outbox.next(t.wake.next(now.Add(atMost))))
	for _, p := range t.periodic {
		if p.next.Before(next) {
			next = p.next
		}
	}
	return max(next.Sub(now), 0)
}

// onDue decides on the domains whose back-off ends, and runs the passes whose time
// has come. What the outbox has due is sent before the loop waits again.
func (t *Term) onDue(ctx context.Context) error {
	if !t.ExternalDecide {
		t.inputs.read(t.Clock())
	}
	if domains := t.wake.take(t.Clock()); len(domains) > 0 {
		if _, err := t.decide(ctx, domains); err != nil {
			return err
		}
	}
	for _, p := range t.periodic {
		if p.next.After(t.Clock()) {
			continue
		}
		if _, err := p.run(ctx); err != nil {
			return err
		}
		p.next = t.Clock().Add(p.interval)
	}
	return nil
}

// flush sends what the log now asks for, once this term's last append is
// folded, and, unless the passes are driven from outside, what is due again.
func (t *Term) flush(ctx context.Context) error {
	if err := t.catchUp(ctx); err != nil {
		return err
	}
	t.outbox.send(t.Clock(), !t.ExternalDecide)
	return nil
}

// catchUp waits until this term's last append is folded, and notes what changed.
func (t *Term) catchUp(ctx context.Context) error {
	if err := t.Replica.WaitFor(ctx, t.lastAppend.Load()); err != nil {
		return err
	}
	return t.note()
}

// note passes on what has changed, as far as it is folded. What comes after the next
// election is for the next leader to act on.
func (t *Term) note() error {
	changed := t.changes.Take()
	t.outbox.note(changed)
	t.doctor.note(changed)
	t.inputs.note(changed)
	deposed := false
	t.Replica.View(func(s *events.State) { deposed = s.Leader().Epoch > t.epoch })
	if deposed {
		return events.ErrDeposed
	}
	return nil
}

// sendRequests sends what the log, as far as it is folded, asks for.
func (t *Term) sendRequests() error {
	if err := t.note(); err != nil {
		return err
	}
	t.outbox.send(t.Clock(), !t.ExternalDecide)
	return nil
}

// Orphan asks for the end of an instance that reports although nobody wants it
// (design §6). It never blocks; under a flood of orphans some wait for their
// next report.
func (t *Term) Orphan(nodeID, site string) {
	select {
	case t.orphans <- orphan{nodeID: nodeID, site: site}:
	default:
	}
}

// moreOrphans adds to one those that wait, so that they go together.
func (t *Term) moreOrphans(first orphan) []orphan {
	list := []orphan{first}
	for range len(t.orphans) {
		list = append(list, <-t.orphans)
	}
	return list
}
