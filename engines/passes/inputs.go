package passes

import (
	"context"
	"fmt"
	"slices"
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
	// inputSlots is how many sources and outside engines are asked at a time.
	inputSlots = 64
	// readLongest is the most time between two readings of a domain's metrics.
	readLongest = time.Minute
	// readsPerPeriod is how often a metric is read within its sample period.
	readsPerPeriod = 6
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
	slots chan struct{}
	ready chan struct{} // holds an element while there is something fresh

	mu      sync.Mutex // guards what follows
	domains map[events.DomainID]*input
	fresh   map[events.DomainID]bool // something was got for them
	due     *calendar[*input]        // when to read
	under   int                      // how much is under way
	idle    chan struct{}            // closed while nothing is
}

// input is what is got for one domain.
type input struct {
	id        events.DomainID
	configSeq uint64
	sensing   engines.Sensing  // with no source: nothing is read
	snapshot  sensors.Snapshot // what was last read
	reading   bool             // under way
	failing   bool             // the last reading was not whole

	asking   bool
	answer   *engines.Answer // nil: none that nobody has used
	answered version         // of the domain when the question was put
}

// version tells one state of a domain's documents from any other.
type version struct {
	domain, decision, instances uint64 // the last sequences
	count                       int
}

func versionOf(l *look) version {
	v := version{domain: l.domain.Seq, decision: l.decisionSeq, count: len(l.instances)}
	for _, i := range l.instances {
		v.instances = max(v.instances, i.Seq)
	}
	return v
}

// newInputs starts with the domains that there are.
func newInputs(ctx context.Context, t *Term) *inputs {
	in := &inputs{
		term: t, ctx: ctx, slots: make(chan struct{}, inputSlots), ready: make(chan struct{}, 1),
		domains: map[events.DomainID]*input{}, fresh: map[events.DomainID]bool{}, due: newCalendar[*input](t.Clock()),
	}
	t.Replica.View(func(s *events.State) {
		for d := range s.Domains() {
			in.noteDomain(d)
		}
	})
	in.recall()
	if t.Pushed != nil {
		in.push = sensors.NewPush(func() time.Time { return t.now(time.Time{}) }, in.sampled)
		go func() { _ = t.Pushed.Follow(ctx, t.now(time.Time{}).Add(-in.longest()), in.push.Add) }() // it ends with the term
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
		var err error
		if d.snapshot, err = sensors.DecodeSnapshot(data); err != nil {
			return fmt.Errorf("domain %q of %q: %w", id.Name, id.Owner, err)
		}
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
		if d == nil || d.Removed {
			delete(in.domains, id)
			if in.push != nil {
				in.push.Forget(id)
			}
		} else {
			in.noteDomain(d)
		}
		in.mu.Unlock()
	}
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
		known = &input{id: d.ID}
		in.domains[d.ID] = known
	}
	known.configSeq, known.sensing = d.ConfigSeq, sensing
	if sensing.Source != "" {
		in.due.put(in.term.Clock(), known)
	}
}

// next is when metrics are to be read next, at the latest at latest.
func (in *inputs) next(latest time.Time) time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.due.next(latest)
}

// read begins to read what is due by now; with all, everything.
func (in *inputs) read(now time.Time, all bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	due := in.due.take(now)
	if all {
		for _, d := range in.domains {
			due = append(due, d)
		}
	}
	for _, d := range due {
		if in.domains[d.id] != d || d.sensing.Source == "" || d.reading {
			continue
		}
		d.reading = true
		in.begin()
		go in.readOne(d, d.sensing)
	}
}

// sampled has a domain's metrics read soon, since there is something new.
func (in *inputs) sampled(id events.DomainID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if d := in.domains[id]; d != nil && !d.reading {
		in.due.put(in.term.Clock(), d)
		in.wake()
	}
}

// readOne reads a domain's metrics once.
func (in *inputs) readOne(d *input, sensing engines.Sensing) {
	defer in.end()
	snapshot, err := in.collect(d.id, sensing)
	in.mu.Lock()
	if err != nil && !d.failing && in.ctx.Err() == nil {
		in.term.Logger.Warn("metrics not read", "owner", d.id.Owner, "domain", d.id.Name, "source", sensing.Source, "error", err)
	}
	d.reading, d.failing = false, err != nil
	read := !snapshot.Time.IsZero()
	if read {
		snapshot = snapshot.Over(d.snapshot)
		d.snapshot = snapshot
		in.fresh[d.id] = true
		in.wake()
	}
	pause := min(max(sensing.Period/readsPerPeriod, in.term.DecideInterval), readLongest)
	in.due.put(in.term.Clock().Add(pause), d)
	in.mu.Unlock()
	if read {
		in.keep(d.id, snapshot)
	}
}

func (in *inputs) collect(id events.DomainID, sensing engines.Sensing) (sensors.Snapshot, error) {
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-in.ctx.Done():
		return sensors.Snapshot{}, in.ctx.Err()
	}
	var instances []*events.Instance
	in.term.Replica.View(func(s *events.State) { instances = slices.Clone(s.Instances(id)) })
	ctx, cancel := context.WithTimeout(in.ctx, readPatience)
	defer cancel()
	return sensors.Collect(ctx, in.source(sensing.Source), id, instances, sensing, in.term.now(time.Time{}))
}

// keep stores what was read. What cannot be stored is read again anyway.
func (in *inputs) keep(id events.DomainID, snapshot sensors.Snapshot) {
	if in.term.Samples == nil {
		return
	}
	data, err := snapshot.Encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(in.ctx, samplesPatience)
		defer cancel()
		err = in.term.Samples.Put(ctx, in.term.epoch, id, data)
	}
	if err != nil && in.ctx.Err() == nil {
		in.term.Logger.Warn("samples not kept", "owner", id.Owner, "domain", id.Name, "error", err)
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

// answer gives what was answered about just what a look shows, once. Where nothing
// was, the question is put, unless one is under way: the domain is decided on again
// when its answer comes. So an answer is never used on anything but what it was
// given for, and never twice.
func (in *inputs) answer(l *look, q engines.Question) (*engines.Answer, error) {
	id, now := l.domain.ID, versionOf(l)
	in.mu.Lock()
	defer in.mu.Unlock()
	d := in.domains[id]
	if d == nil {
		return nil, nil //nolint:nilnil // the domain came to be just now: it is noted before the next decide
	}
	if answer := d.answer; answer != nil {
		d.answer = nil
		if d.answered == now {
			return answer, nil
		}
	}
	if d.asking {
		return nil, nil //nolint:nilnil // the answer is on its way
	}
	body, err := engines.EncodeView(&l.view, q.Settings)
	if err != nil {
		return nil, err
	}
	d.asking = true
	in.begin()
	go in.ask(d, now, q, body)
	return nil, nil //nolint:nilnil // as above
}

// ask puts a question and keeps its answer.
func (in *inputs) ask(d *input, of version, q engines.Question, body []byte) {
	defer in.end()
	answer := &engines.Answer{Err: "this process cannot ask"}
	select {
	case in.slots <- struct{}{}:
		if in.term.Asker != nil {
			ctx, cancel := context.WithTimeout(in.ctx, q.Timeout)
			told, err := in.term.Asker.Ask(ctx, q.Subject, body)
			cancel()
			if answer = (&engines.Answer{Body: told}); err != nil {
				answer = &engines.Answer{Err: err.Error()}
			}
		}
		<-in.slots
	case <-in.ctx.Done():
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	d.asking, d.answer, d.answered = false, answer, of
	in.fresh[d.id] = true
	in.wake()
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

// wait returns when nothing is under way.
func (in *inputs) wait(ctx context.Context) error {
	in.mu.Lock()
	idle := in.idle
	in.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
