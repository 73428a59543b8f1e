package passes

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// heartbeat is one that says something new.
type heartbeat struct {
	id   string
	said events.Heartbeat
	at   time.Time // when it was heard, in the leader's time
}

const (
	// mostWaiting is how many heartbeats may wait for the fold to know of what they
	// are. More are dropped: each agent says it again.
	mostWaiting = 100_000
	// secondLook is how long a heartbeat waits for the fold.
	secondLook = 100 * time.Millisecond
)

// Heartbeat takes a heartbeat of an instance. It never blocks for long; a
// heartbeat that cannot be read, or is of no instance that is known, is dropped.
func (t *Term) Heartbeat(nodeID string, body []byte) {
	said, err := events.DecodeHeartbeat(nodeID, body)
	if err != nil {
		t.Logger.Warn("heartbeat dropped", "instance", nodeID, "error", err)
		return
	}
	t.doctor.hear(heartbeat{id: nodeID, said: said, at: t.now(time.Time{})}, false)
}

// wait gives heartbeats that came too early a second look: what a caller was
// told of may not be folded yet.
func (d *doctor) wait(ctx context.Context) {
	tick := time.NewTicker(secondLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.mu.Lock()
		early := maps.Clone(d.early) // which stay there till then: see asks for them
		d.mu.Unlock()
		if len(early) == 0 {
			continue
		}
		if _, err := d.term.Replica.Barrier(ctx); err != nil {
			continue
		}
		for _, h := range early {
			d.hear(h, true)
		}
	}
}

// hear takes a heartbeat, from any goroutine. One whose instance is not known, or
// not monitored, waits for a last look. Of what an instance says only the latest
// waits to be committed.
func (d *doctor) hear(h heartbeat, last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, config := d.lookUp(h.id)
	if waits, ok := d.early[h.id]; ok && last && !waits.at.After(h.at) {
		delete(d.early, h.id)
	}
	if _, waits := d.early[h.id]; !last && (i == nil || !config.MonitorHealth) && (waits || len(d.early) < mostWaiting) {
		d.early[h.id] = h
	}
	if i == nil {
		return
	}
	v := d.vitals[i.ID]
	if v == nil {
		v = d.see(i, config)
	}
	if v.latest.After(h.at) {
		return // what it has said since counts
	}
	v.latest = h.at
	d.heard(v, h)
	_, news := i.Heard(h.said, h.at)
	// What is being committed is not folded yet: whether this is news turns out then.
	if config.MonitorHealth && (news || v.treated == i.Seq) {
		d.news[h.id] = h
		d.wake()
	} else {
		delete(d.news, h.id)
	}
}

// lookUp gives an instance, nil where there is none, and its domain's config, by
// the present fold. The caller holds the lock, so what it finds cannot be noted as
// gone before it has made use of it.
func (d *doctor) lookUp(id string) (i *events.Instance, config *engines.Health) {
	d.term.Replica.View(func(s *events.State) {
		if i = s.Instance(id); i != nil {
			config = d.term.healthOf(s.Domain(i.Domain))
		}
	})
	return i, config
}

// heard notes when an instance was heard, also where its domain is not
// monitored: whoever begins to then knows; and also while what it said waits to
// be committed, so that nobody misses it meanwhile. The caller holds the lock.
func (d *doctor) heard(v *vital, h heartbeat) {
	v.address = h.said.Address
	v.heard = later(v.heard, h.at)
	// Of what lives, the look that is planned will find it has been heard.
	if v.instance.State >= events.Terminating {
		d.plan(v, h.at)
	}
}

func (d *doctor) wake() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// treat commits the health that heartbeats have told.
func (t *Term) treat(ctx context.Context) error {
	d := t.doctor
	if !d.hasNews() {
		return nil
	}
	if err := t.catchUp(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	news := d.news
	d.news = map[string]heartbeat{}
	d.mu.Unlock()
	t.passTime.Store(t.Clock().UnixNano())
	defer t.passTime.Store(0)
	p := &packer{term: t, pass: PassDoctor, result: &Result{}}
	for _, id := range slices.Sorted(maps.Keys(news)) {
		u := t.heartbeatUnit(news[id])
		if u == nil {
			continue
		}
		if err := p.add(ctx, outcome{id: u.domain, unit: u}); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

func (d *doctor) hasNews() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.news) > 0
}

// heartbeatUnit is what a heartbeat changes by the present fold; nil: nothing
// any more.
func (t *Term) heartbeatUnit(h heartbeat) *unit {
	i, ev, news := t.doctor.judge(h)
	if !news {
		return nil
	}
	if len(i.AppendJSON(nil))+errorBytes(ev.Errors) > events.MaxInstanceBytes {
		ev.Errors = []json.RawMessage{recordFull}
	}
	u := t.healthUnit(i, ev)
	if err := u.encode(); err != nil {
		t.Logger.Error("heartbeat dropped: it cannot be recorded", "instance", i.ID, "error", err)
		return nil
	}
	u.done = func(landed bool) {
		if !landed {
			t.doctor.repeat(h)
		}
	}
	return u
}

// judge says what a heartbeat that waited changes, unless the instance has said
// something else since. What it says until that is folded waits behind it.
func (d *doctor) judge(h heartbeat) (i *events.Instance, ev events.HealthChanged, news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, config := d.lookUp(h.id)
	v := d.vitals[h.id]
	if i == nil || v == nil || v.latest.After(h.at) || !config.MonitorHealth {
		return nil, ev, false
	}
	if ev, news = i.Heard(h.said, h.at); news {
		v.treated = i.Seq
	}
	return i, ev, news
}

// repeat has a heartbeat committed once more is folded, unless its instance has
// said something else since.
func (d *doctor) repeat(h heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.vitals[h.id]; v == nil || v.latest.After(h.at) {
		return
	}
	d.news[h.id] = h
	d.wake()
}

// recordFull stands for errors that an instance's record has no room for.
var recordFull = json.RawMessage(`"the errors are left out: the record is full"`)

func errorBytes(list []json.RawMessage) (n int) {
	for _, e := range list {
		n += len(e) + len(",")
	}
	return n
}
