package passes

import (
	"context"

	"github.com/seed-524e47bf/epum/events"
)

// reap runs the reaper pass: the records of instances that ended longer than
// the age ago go; all others stay. Each is guarded by its own subject, so an
// instance that changes meanwhile is looked at again by the next pass.
func (t *Term) reap(ctx context.Context) (Result, error) {
	result := Result{Pass: PassReap}
	t.passTime.Store(t.Clock().UnixNano())
	defer t.passTime.Store(0)
	if err := t.Replica.WaitFor(ctx, t.lastAppend.Load()); err != nil {
		return result, err
	}
	var due []*events.Instance
	t.Replica.View(func(s *events.State) {
		oldest := t.now(s.Time).Add(-t.ReapAge)
		for range s.Domains() {
			result.Domains++
		}
		for i := range s.AllInstances() {
			if i.State.Terminal() && i.StateTime.Before(oldest) {
				due = append(due, i)
			}
		}
	})
	p := &packer{term: t, pass: PassReap, result: &result}
	for _, i := range due {
		u := &unit{domain: i.Domain, drafts: []events.Draft{t.decider.reaped(i)}, changed: 1}
		if err := p.add(ctx, outcome{id: i.Domain, unit: u}); err != nil {
			return result, err
		}
	}
	if err := p.flush(ctx); err != nil {
		return result, err
	}
	result.Seq = max(t.lastAppend.Load(), t.Replica.Applied())
	return result, nil
}
