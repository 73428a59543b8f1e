package passes

import (
	"container/heap"
	"encoding/json"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// orphanPause is how long lies between two terminate_nodes for one orphan.
const orphanPause = time.Minute

// outbox sends what the log asks provisioners for, again and again until the
// state shows that it was heard. The events are the outbox: this keeps only
// when each instance is due, and is made anew by every term. Its cost follows
// what is pending.
type outbox struct {
	term    *Term
	pending map[string]*request // instance id → what it waits for
	fresh   []*request          // never sent in this term
	due     requests            // a heap of the others; what pending does not have is void
	orphans map[string]time.Time
	boot    map[string]time.Duration // health section → boot_timeout; few differ
	epoch   []string                 // value of the header of the same name
	elected []string                 // value of the header Epum-Time
}

// request is something a provisioner is asked about one instance.
type request struct {
	instance *events.Instance
	op       string
	at       time.Time // when it is due, by this process's clock
}

// newOutbox starts with all that the log leaves open, and asks after every
// instance that ought to be alive.
func newOutbox(t *Term) *outbox {
	o := &outbox{
		term: t, pending: map[string]*request{}, orphans: map[string]time.Time{}, boot: map[string]time.Duration{},
		epoch:   []string{strconv.FormatUint(t.epoch, 10)},
		elected: []string{t.elected.UTC().Format(time.RFC3339Nano)},
	}
	var asked []*request
	t.Replica.View(func(s *events.State) {
		for i := range s.AllInstances() {
			o.put(s, i)
			if i.State >= events.Requested && i.State < events.Terminating {
				asked = append(asked, &request{instance: i, op: events.OpDumpState})
			}
		}
	})
	o.post(asked)
	return o
}

// note takes the instances that changed.
func (o *outbox) note(changed map[events.Key]uint64) {
	if len(changed) == 0 {
		return
	}
	o.term.Replica.View(func(s *events.State) {
		for key := range changed {
			_, id, _ := key.Parts()
			if i := s.Instance(id); i != nil {
				o.put(s, i)
			} else {
				delete(o.pending, id)
			}
		}
	})
}

// put notes what an instance waits for.
func (o *outbox) put(s *events.State, i *events.Instance) {
	op := asks(i)
	if op == "" {
		delete(o.pending, i.ID)
		return
	}
	if r := o.pending[i.ID]; r != nil && r.op == op {
		r.instance = i
		return
	}
	r := &request{instance: i, op: op}
	o.pending[i.ID] = r
	if op != events.OpDumpState {
		o.fresh = append(o.fresh, r)
		return
	}
	// It ought to run after the boot time-out: then ask what became of it.
	r.at = o.term.Clock().Add(o.bootTimeout(s.Domain(i.Domain)))
	heap.Push(&o.due, r)
}

// asks says what a provisioner is to be asked about an instance; "": nothing.
func asks(i *events.Instance) string {
	switch {
	case i.State == events.Requesting:
		return events.OpProvision
	case i.State == events.Terminating, i.Health == events.HealthZombie:
		return events.OpTerminateNodes
	case i.State < events.Running:
		return events.OpDumpState
	}
	return ""
}

// mostBoot bounds how long a request about an instance that boots is kept.
const mostBoot = time.Hour

// bootTimeout is the domain's, or the default where there is no domain.
func (o *outbox) bootTimeout(d *events.Domain) time.Duration {
	var section json.RawMessage
	if d != nil {
		section = d.Config.Health
	}
	timeout, known := o.boot[string(section)]
	if !known {
		health, err := engines.ParseHealth(section)
		if err != nil { // no such config was ever accepted
			health, _ = engines.ParseHealth(nil)
		}
		timeout = min(health.BootTimeout, mostBoot)
		o.boot[string(section)] = timeout
	}
	return timeout
}

// next is when the first request is due again, at the latest at latest.
func (o *outbox) next(latest time.Time) time.Time {
	for len(o.due) > 0 && o.pending[o.due[0].instance.ID] != o.due[0] {
		heap.Pop(&o.due)
	}
	if len(o.due) > 0 && o.due[0].at.Before(latest) {
		return o.due[0].at
	}
	return latest
}

// send sends what was never sent and, if again, what is due again.
func (o *outbox) send(now time.Time, again bool) {
	sent := o.fresh[:0]
	for _, r := range o.fresh {
		if o.pending[r.instance.ID] == r {
			sent = append(sent, r)
		}
	}
	o.fresh = nil
	for again && !o.next(now.Add(1)).After(now) {
		sent = append(sent, o.due[0])
		heap.Pop(&o.due)
	}
	o.post(sent)
	for _, r := range sent {
		r.at = now.Add(o.term.RetryInterval)
		if r.op == events.OpDumpState {
			r.at = now.Add(mostDelay)
		}
		heap.Push(&o.due, r)
	}
}

// terminateOrphan asks for the end of an instance that nobody wants, at most
// once a minute.
func (o *outbox) terminateOrphan(lost orphan) {
	now := o.term.Clock()
	for id, at := range o.orphans {
		if now.Sub(at) >= orphanPause {
			delete(o.orphans, id)
		}
	}
	if _, asked := o.orphans[lost.nodeID]; asked {
		return
	}
	o.orphans[lost.nodeID] = now
	if lost.site == "" {
		o.term.Logger.Warn("an instance that nobody wants reports, and names no site to terminate it at", "instance", lost.nodeID)
		return
	}
	o.term.Logger.Warn("terminating an instance that nobody wants", "instance", lost.nodeID, "site", lost.site)
	o.request(lost.site, events.OpTerminateNodes, events.TerminateRequest{Nodes: []string{lost.nodeID}}, 0)
}

// requests is a heap of requests, the one due first on top.
type requests []*request

// Len implements heap.Interface, as do the methods below.
func (r requests) Len() int           { return len(r) }
func (r requests) Less(i, j int) bool { return r[i].at.Before(r[j].at) }
func (r requests) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *requests) Push(x any)        { *r = append(*r, x.(*request)) } //nolint:errcheck // only requests are pushed
func (r *requests) Pop() any {
	last := len(*r) - 1
	x := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return x
}
