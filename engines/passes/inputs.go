package passes

import (
	"context"
	"sync"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// Asker puts the questions of engines that run outside.
type Asker interface {
	// Ask gives the first answer on a subject. The error says in one clause why
	// there is none.
	Ask(ctx context.Context, subject string, body []byte) ([]byte, error)
}

const (
	// inputSlots is how many domains' questions one source, or one subject, gets at a
	// time. What hangs holds up nobody who asks somewhere else.
	inputSlots = 64
	// readLongest is the most time between two readings of a domain's metrics.
	readLongest = time.Minute
	// readsPerPeriod is how often a metric is read within its sample period.
	readsPerPeriod = 6
	// pushPause is the least time between two readings of what is pushed.
	pushPause = 100 * time.Millisecond
	// readPatience bounds one reading; a source has its own, shorter ones.
	readPatience = 30 * time.Second
	// samplesPatience bounds a request to the bucket of samples.
	samplesPatience = 5 * time.Second
)

// inputs gets what decisions need beside the log: readings of metrics, and answers
// of engines that run outside. Each domain's are got on a goroutine of their own,
// outside of the passes, so that a slow source delays no other domain. It is made
// anew by every term, and starts with what the leader before had read.
type inputs struct {
	term  *Term
	ctx   context.Context //nolint:containedctx // the term's, for what is under way
	push  *sensors.Push   // nil: nothing is pushed
	ready chan struct{}   // holds an element while there is something fresh

	mu      sync.Mutex               // guards what follows
	slots   map[string]chan struct{} // source or subject → those who ask it
	domains map[events.DomainID]*input
	fresh   map[events.DomainID]bool // something was got for them
	due     *calendar[*input]        // when to read
	under   int                      // how much is under way
	idle    chan struct{}            // closed while nothing is
}

// input is what is got for one domain.
type input struct {
	id        events.DomainID
	addedSeq  uint64 // which life of the domain's name
	configSeq uint64
	sensing   engines.Sensing  // with no source: nothing is read
	snapshot  sensors.Snapshot // what was last read
	reading   bool             // under way
	again     bool             // to be read once more as soon as that is over
	failing   bool             // the last reading was not whole
	began     time.Time        // when the last reading began
	next      time.Time        // when the next one is due; what the calendar has for other times is void

	asking   bool
	answer   *engines.Answer // nil: none that nobody has used
	answered version         // of the domain when the question was put
}

// newInputs starts with the domains that there are.
func newInputs(ctx context.Context, t *Term) *inputs {
	in := &inputs{
		term: t, ctx: ctx, slots: map[string]chan struct{}{}, ready: make(chan struct{}, 1),
		domains: map[events.DomainID]*input{}, fresh: map[events.DomainID]bool{}, due: newCalendar[*input](t.Clock()),
		idle: make(chan struct{}),
	}
	close(in.idle)
	t.Replica.View(func(s *events.State) {
		for d := range s.Domains() {
			in.noteDomain(d)
		}
	})
	in.recall()
	if t.Pushed != nil {
		in.push = sensors.NewPush(func() time.Time { return t.now(time.Time{}) }, in.sampled)
		since := t.now(time.Time{}).Add(-in.longest())               // here: the domains change as the term goes on
		go func() { _ = t.Pushed.Follow(ctx, since, in.push.Add) }() // it ends with the term
	}
	return in
}

// longest is how far back what was pushed counts.
func (in *inputs) longest() time.Duration {
	const least = 10 * time.Minute // for a domain that is yet to come
	longest := least
	for _, d := range in.domains {
		longest = max(longest, 2*d.sensing.Period)
	}
	return longest
}

func (in *inputs) source(name string) sensors.Source {
	if name == sensors.PushName && in.push != nil {
		return in.push
	}
	return in.term.Sources.Of(name)
}

// recall takes what the leader before had read.
func (in *inputs) recall() {
	if in.term.Samples == nil || len(in.domains) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(in.ctx, samplesPatience)
	defer cancel()
	err := in.term.Samples.All(ctx, func(id events.DomainID, data []byte) error {
		d := in.domains[id]
		if d == nil || d.sensing.Source == "" {
			return nil
		}
		snapshot, err := sensors.DecodeSnapshot(data)
		if err != nil {
			in.term.Logger.Warn("samples not readable", "owner", id.Owner, "domain", id.Name, "error", err)
			return nil
		}
		d.snapshot = snapshot
		return nil
	})
	if err != nil {
		in.term.Logger.Warn("samples of the leader before not read", "error", err)
	}
}

// note takes the domains that changed.
func (in *inputs) note(changed map[events.Key]uint64) {
	for key := range changed {
		if key.Kind() != events.KindDomain {
			continue
		}
		id, _, _ := key.Parts()
		var d *events.Domain
		in.term.Replica.View(func(s *events.State) { d = s.Domain(id) })
		in.mu.Lock()
		if known := in.domains[id]; known != nil && (d == nil || d.Removed || d.AddedSeq != known.addedSeq) {
			in.leave(known)
		}
		if d != nil && !d.Removed {
			in.noteDomain(d)
		}
		in.mu.Unlock()
	}
}

// leave forgets a domain that is removed, so that another of its name begins with
// nothing. The caller holds the lock.
func (in *inputs) leave(d *input) {
	delete(in.domains, d.id)
	delete(in.fresh, d.id)
	if in.push != nil {
		in.push.Forget(d.id)
	}
	if !d.reading { // else whoever reads does it
		in.dropped(d)
	}
}

// dropped begins to delete what is kept of a domain. The caller holds the lock.
func (in *inputs) dropped(d *input) {
	if in.term.Samples == nil || d.sensing.Source == "" {
		return
	}
	in.begin()
	go func() {
		defer in.end()
		ctx, cancel := context.WithTimeout(in.ctx, samplesPatience)
		defer cancel()
		if err := in.term.Samples.Delete(ctx, in.term.epoch, d.id); err != nil && in.ctx.Err() == nil {
			in.term.Logger.Warn("samples of a removed domain not deleted", "owner", d.id.Owner, "domain", d.id.Name, "error", err)
		}
	}()
}

// noteDomain takes a domain's config. The caller holds the lock, or is alone.
func (in *inputs) noteDomain(d *events.Domain) {
	known := in.domains[d.ID]
	if known != nil && known.configSeq == d.ConfigSeq {
		return
	}
	var sensing engines.Sensing
	kind, err := in.term.Engines.Kind(d.Config)
	if err == nil && kind.Sensing != nil {
		sensing = kind.Sensing(d.Config.EngineConf)
	}
	if known == nil {
		known = &input{id: d.ID, addedSeq: d.AddedSeq}
		in.domains[d.ID] = known
	}
	if known.sensing.Source != sensing.Source {
		known.snapshot = sensors.Snapshot{}
	}
	known.configSeq, known.sensing = d.ConfigSeq, sensing
	in.soon(known, in.term.Clock())
}

// soon has a domain's metrics read at a time, unless they will be before; where they
// are being read, right after that. The caller holds the lock, or is alone.
func (in *inputs) soon(d *input, at time.Time) {
	switch {
	case d.sensing.Source == "":
	case d.reading:
		d.again = true
	case d.next.IsZero() || at.Before(d.next):
		d.next = at
		in.due.put(at, d)
	}
}

// next is when metrics are to be read next, at the latest at latest.
func (in *inputs) next(latest time.Time) time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.due.next(latest)
}

// read begins to read what is due by now.
func (in *inputs) read(now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range in.due.take(now) {
		if in.domains[d.id] == d && !d.next.IsZero() && !d.next.After(now) {
			in.readNow(d, now)
		}
	}
}

// readAll begins to read everything, and gives the domains that it is read for.
func (in *inputs) readAll(now time.Time) map[events.DomainID]bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	under := map[events.DomainID]bool{}
	for id, d := range in.domains {
		in.readNow(d, now)
		if d.reading {
			under[id] = true
		}
	}
	return under
}

// slot waits until a source, or a subject, is asked by few enough.
func (in *inputs) slot(whom string) (free func(), err error) {
	in.mu.Lock()
	slots := in.slots[whom]
	if slots == nil {
		slots = make(chan struct{}, inputSlots)
		in.slots[whom] = slots
	}
	in.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-in.ctx.Done():
		return nil, in.ctx.Err()
	}
}

func (in *inputs) wake() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// take gives the domains for which something was got.
func (in *inputs) take() map[events.DomainID]bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	fresh := in.fresh
	in.fresh = map[events.DomainID]bool{}
	return fresh
}

// readingsOf are what a domain's metrics were when they were last read.
func (in *inputs) readingsOf(id events.DomainID) engines.Readings {
	in.mu.Lock()
	defer in.mu.Unlock()
	if d := in.domains[id]; d != nil {
		return d.snapshot.Readings
	}
	return nil
}

// begin notes that something is under way. The caller holds the lock.
func (in *inputs) begin() {
	if in.under == 0 {
		in.idle = make(chan struct{})
	}
	in.under++
}

func (in *inputs) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.under--; in.under == 0 {
		close(in.idle)
	}
}

// nothing is closed while nothing is under way.
func (in *inputs) nothing() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.idle
}

// reads says whether a domain's metrics are being read.
func (in *inputs) reads(id events.DomainID) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := in.domains[id]
	return d != nil && d.reading
}
