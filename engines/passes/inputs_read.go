package passes

import (
	"context"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// readNow begins to read a domain's metrics. The caller holds the lock.
func (in *inputs) readNow(d *input, now time.Time) {
	if d.sensing.Source == "" || d.reading {
		return
	}
	d.reading, d.began, d.next = true, now, time.Time{}
	in.begin()
	go in.readOne(d, d.sensing)
}

// sampled has a domain's metrics read soon, since something was pushed.
func (in *inputs) sampled(id events.DomainID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if d := in.domains[id]; d != nil && d.sensing.Source == sensors.PushName {
		in.soon(d, later(in.term.Clock(), d.began.Add(pushPause)))
		in.wake()
	}
}

// readOne reads a domain's metrics once, and keeps them before they are read again,
// so that what is kept is what was read last.
func (in *inputs) readOne(d *input, sensing engines.Sensing) {
	defer in.end()
	snapshot, err := in.collect(d.id, sensing)
	if in.got(d, sensing, &snapshot, err) {
		in.keep(d.id, snapshot)
	}
	pause := min(max(sensing.Period/readsPerPeriod, in.term.DecideInterval), readLongest)
	in.mu.Lock()
	defer in.mu.Unlock()
	if d.again {
		pause = pushPause
	}
	d.reading, d.again = false, false
	switch in.domains[d.id] {
	case d:
		in.soon(d, in.term.Clock().Add(pause))
		in.wake()
	case nil:
		in.dropped(d)
	}
}

// got takes what was read, over what was before; false where nobody asks any more.
func (in *inputs) got(d *input, sensing engines.Sensing, snapshot *sensors.Snapshot, err error) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil && !d.failing && in.ctx.Err() == nil {
		in.term.Logger.Warn("metrics not read", "owner", d.id.Owner, "domain", d.id.Name, "source", sensing.Source, "error", err)
	}
	d.failing = err != nil
	if snapshot.Time.IsZero() || in.domains[d.id] != d || d.sensing.Source != sensing.Source {
		return false
	}
	*snapshot = snapshot.Over(d.snapshot, sensing.Fresh())
	d.snapshot = *snapshot
	in.fresh[d.id] = true
	in.wake()
	return true
}

func (in *inputs) collect(id events.DomainID, sensing engines.Sensing) (sensors.Snapshot, error) {
	free, err := in.slot(sensing.Source)
	if err != nil {
		return sensors.Snapshot{}, err
	}
	defer free()
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
