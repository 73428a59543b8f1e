package passes

import (
	"slices"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

const (
	// orphanPause is how long lies between two terminate_nodes for one orphan.
	orphanPause = time.Minute
	// mostOrphans is how many are remembered for that long; more are not asked to end
	// before some are forgotten.
	mostOrphans = 100_000
)

// outbox sends what the log asks provisioners for, again and again until the
// state shows that it was heard. The events are the outbox: this keeps only
// when each instance is due, and is made anew by every term. Its cost follows
// what is pending.
type outbox struct {
	term    *Term
	pending map[string]*request // instance id → what it waits for
	fresh   []*request          // never sent in this term
	due     *calendar[*request] // the others; what pending does not have is void
	orphans map[string]bool     // asked to end, by their ids
	asked   *calendar[string]   // when they are forgotten
	epoch   []string            // value of the header of the same name
	elected []string            // value of the header Epum-Time
}

// request is something a provisioner is asked about one instance.
type request struct {
	instance *events.Instance
	op       string
	since    time.Time // when it was first sent in this term; zero: never
	late     int       // how often it was sent after it was late
}

// newOutbox starts with all that the log leaves open, and asks after every
// instance that ought to be alive.
func newOutbox(t *Term) *outbox {
	o := &outbox{
		term: t, pending: map[string]*request{}, due: newCalendar[*request](t.Clock()),
		orphans: map[string]bool{}, asked: newCalendar[string](t.Clock()),
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
	o.due.put(o.term.Clock().Add(min(o.term.healthOf(s.Domain(i.Domain)).BootTimeout, mostBoot)), r)
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

// next is when the first request is due again, at the latest at latest.
func (o *outbox) next(latest time.Time) time.Time { return o.due.next(latest) }

// send sends what was never sent and, if again, what is due again.
func (o *outbox) send(now time.Time, again bool) {
	candidates := o.fresh
	o.fresh = nil
	if again {
		candidates = append(candidates, o.due.take(now)...)
	}
	sent := candidates[:0]
	for _, r := range candidates {
		if o.pending[r.instance.ID] == r {
			sent = append(sent, r)
		}
	}
	o.post(sent)
	for _, r := range sent {
		o.due.put(now.Add(o.pause(r, now)), r)
	}
}

// pause is how long lies between two sends of a request. A termination that is
// late is asked for ever less often, but always again.
func (o *outbox) pause(r *request, now time.Time) time.Duration {
	if r.since.IsZero() {
		r.since = now
	}
	retry := o.term.RetryInterval
	switch {
	case r.op == events.OpDumpState:
		return engines.MostBackOff
	case r.op != events.OpTerminateNodes || o.age(r, now) <= o.term.TerminateLate:
		return retry
	}
	if r.late == 0 {
		i := r.instance
		o.term.Logger.Warn("termination is late", "instance", i.ID, "owner", i.Domain.Owner, "domain", i.Domain.Name,
			"site", i.Site, "state", string(i.State), "age", o.age(r, now).Round(time.Second))
	}
	r.late++
	most := max(engines.MostBackOff, retry)
	if r.late > 20 { // far beyond a minute, whatever the interval
		return most
	}
	return min(retry<<r.late, most)
}

// age is how long an instance has been asked to end.
func (o *outbox) age(r *request, now time.Time) time.Duration {
	if r.instance.State == events.Terminating {
		return o.term.now(time.Time{}).Sub(r.instance.StateTime)
	}
	return now.Sub(r.since) // a ZOMBIE: its state is older than its wrong
}

// terminateOrphans asks for the end of instances that nobody wants, of each at most
// once a minute. Under a flood some wait for their next report.
func (o *outbox) terminateOrphans(lost []orphan) {
	now := o.term.Clock()
	for _, id := range o.asked.take(now) {
		delete(o.orphans, id)
	}
	sites := map[string][]string{}
	for _, l := range lost {
		if o.orphans[l.nodeID] || len(o.orphans) >= mostOrphans {
			continue
		}
		o.orphans[l.nodeID] = true
		o.asked.put(now.Add(orphanPause), l.nodeID)
		sites[l.site] = append(sites[l.site], l.nodeID)
	}
	for site, ids := range sites {
		if site == "" {
			o.term.Logger.Warn("instances that nobody wants report, and name no site to terminate them at", "instance", ids[0], "count", len(ids))
			continue
		}
		o.term.Logger.Warn("terminating instances that nobody wants", "instance", ids[0], "count", len(ids), "site", site)
		for ids := range slices.Chunk(ids, nodesPerRequest) {
			o.request(site, events.OpTerminateNodes, events.TerminateRequest{Nodes: ids}, 0)
		}
	}
}
