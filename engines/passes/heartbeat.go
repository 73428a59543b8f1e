package passes

import (
	"context"
	"encoding/json"
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
	// mostWaiting is how many heartbeats may wait to be committed, or for the fold
	// to know of what they are. More are dropped: each agent says it again.
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
		early := d.early
		d.early = map[string]heartbeat{}
		d.mu.Unlock()
		if len(early) == 0 {
			continue
		}
		if _, err := d.term.Replica.Barrier(ctx); err != nil {
			continue // they are said again
		}
		for _, h := range early {
			d.hear(h, true)
		}
	}
}

// hear takes a heartbeat, from any goroutine. One whose instance is not known, or
// not monitored, waits for a last look.
func (d *doctor) hear(h heartbeat, last bool) {
	var i *events.Instance
	var config *engines.Health
	d.term.Replica.View(func(s *events.State) {
		if i = s.Instance(h.id); i != nil {
			config = d.term.health.of(s.Domain(i.Domain))
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if (i == nil || !config.MonitorHealth) && !last && len(d.early) < mostWaiting {
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
	if _, news := i.Heard(h.said, h.at); !news || !config.MonitorHealth {
		d.heard(v, h)
		return
	}
	if len(d.news) < mostWaiting {
		d.news = append(d.news, h)
		d.wake()
	}
}

// heard notes when an instance was heard, also where its domain is not
// monitored: whoever begins to then knows. The caller holds the lock.
func (d *doctor) heard(v *vital, h heartbeat) {
	v.address = h.said.Address
	if h.at.After(v.heard) {
		v.heard = h.at
	}
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

// treat commits the health that heartbeats have told, and only then notes that
// they were heard.
func (t *Term) treat(ctx context.Context) error {
	if err := t.catchUp(ctx); err != nil {
		return err
	}
	d := t.doctor
	d.mu.Lock()
	news := d.news
	d.news = nil
	d.mu.Unlock()
	if len(news) == 0 {
		return nil
	}
	t.passTime.Store(t.Clock().UnixNano())
	defer t.passTime.Store(0)
	p := &packer{term: t, pass: PassDoctor, result: &Result{}}
	treated := map[string]bool{}
	for _, h := range news {
		if treated[h.id] { // behind the one before, once that is folded
			d.repeat(h)
			continue
		}
		u := t.heartbeatUnit(h)
		if u == nil {
			continue
		}
		treated[h.id] = true
		if err := p.add(ctx, outcome{id: u.domain, unit: u}); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

// heartbeatUnit is what a heartbeat changes by the present fold; nil: nothing
// any more.
func (t *Term) heartbeatUnit(h heartbeat) *unit {
	var i *events.Instance
	t.Replica.View(func(s *events.State) { i = s.Instance(h.id) })
	if i == nil {
		return nil
	}
	ev, news := i.Heard(h.said, h.at)
	if !news {
		t.doctor.hear(h, true)
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
		if landed {
			t.doctor.committed(i, h)
		} else {
			t.doctor.repeat(h)
		}
	}
	return u
}

// committed notes that a heartbeat was heard whose news is in the log.
func (d *doctor) committed(i *events.Instance, h heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.vitals[i.ID]; v != nil {
		d.heard(v, h)
	}
}

// repeat has a heartbeat committed once more is folded.
func (d *doctor) repeat(h heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news = append(d.news, h)
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
