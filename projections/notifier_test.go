package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// memNotices is the queue of a memLog's instance events, in memory.
type memNotices struct {
	log *memLog

	mu      sync.Mutex
	next    int // index of the next event to be delivered
	done    map[uint64]bool
	stored  []projections.Notification
	fail    error // of Fetch, Rewind and Store
	late    int   // so many fetches that do not wait give nothing
	fetches int
	skips   int
	rewinds []time.Time
	most    int    // events at once; 0: 3
	meets   func() // called by each Fetch; nil: nothing
}

// Rewind implements projections.Notices, as do the methods below.
func (m *memNotices) Rewind(context.Context, uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rewinds = append(m.rewinds, time.Now())
	m.next = 0
	for m.done[uint64(m.next)+1] {
		m.next++
	}
	return uint64(m.next), m.fail
}

func (m *memNotices) Skip(_ context.Context, done, upTo uint64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for seq := range done {
		if !m.done[seq+1] {
			return false, m.fail
		}
	}
	m.skips++
	for ; m.next < int(upTo); m.next++ {
		m.done[uint64(m.next)+1] = true
	}
	return true, m.fail
}

func (m *memNotices) Fetch(_ context.Context, wait time.Duration) ([]projections.Notice, error) {
	if m.meets != nil {
		m.meets()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetches++
	if m.fail != nil {
		return nil, m.fail
	}
	if wait == 0 && m.late > 0 {
		m.late--
		return nil, nil
	}
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	most := m.most
	if most == 0 {
		most = 3
	}
	var batch []projections.Notice
	for ; m.next < len(m.log.entries) && len(batch) < most; m.next++ {
		e := m.log.entries[m.next]
		if e.env.Key.Kind() != events.KindInstance {
			m.done[e.env.Seq] = true
			continue
		}
		batch = append(batch, projections.Notice{Envelope: e.env, Event: e.ev, Done: func() error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.done[e.env.Seq] = true
			return nil
		}})
	}
	return batch, nil
}

func (m *memNotices) Store(_ context.Context, notifications []projections.Notification) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.stored = append(m.stored, notifications...)
	return nil
}

func (m *memNotices) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// told gives what was stored: the id, the op and the body of each.
func (m *memNotices) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := []string{}
	for _, n := range m.stored {
		told = append(told, n.ID+" "+n.Subscriber.Op+" "+string(n.Body))
	}
	return told
}

// memHistory counts what it reads.
type memHistory struct {
	log   *memLog
	reads []string
}

// History implements projections.History.
func (h *memHistory) History(_ context.Context, q projections.Query, each func(*events.Recorded) error) error {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.reads = append(h.reads, string(q.Keys[0]))
	for _, e := range h.log.entries {
		if e.env.Key == q.Keys[0] && e.env.Seq <= q.To.Seq {
			if err := each(&events.Recorded{Envelope: e.env, Event: e.ev}); err != nil {
				return err
			}
		}
	}
	return nil
}

// notify runs a notifier over a log.
func notify(t *testing.T, log *memLog) (m *memNotices, h *memHistory, r *projections.Replica, ended <-chan error) {
	t.Helper()
	m, h = &memNotices{log: log, done: map[uint64]bool{}}, &memHistory{log: log}
	r = follow(t, log, &memBucket{})
	return m, h, r, startNotifier(t, r, h, m)
}

func startNotifier(t *testing.T, r *projections.Replica, h *memHistory, m *memNotices) <-chan error {
	t.Helper()
	end := make(chan error, 1)
	n := projections.NewNotifier(r, h, m, slog.New(slog.DiscardHandler))
	run(t, func(ctx context.Context) { end <- n.Run(ctx, 0) })
	return end
}

func running(ip string) events.StateChanged {
	ev := events.StateChanged{State: events.Running}
	if ip != "" {
		ev.Fields = events.Fields{{Name: "public_ip", Value: json.RawMessage(`"` + ip + `"`)}}
	}
	return ev
}

// body is a notification of instance i.
func body(state, hostname string) string {
	return fmt.Sprintf(`{"node_id":"i","state":%q,"owner":"o","domain_id":"d","properties":{"hostname":%s}}`, state, hostname)
}

func checkTold(t *testing.T, m *memNotices, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, m.told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestNotifier_Tells: who is told what of which event, as it comes.
func TestNotifier_Tells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		m, h, _, _ := notify(t, log)
		i := dom.InstanceKey("i")
		for _, e := range []entry{
			{events.Envelope{Key: dom.Key()}, events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"}}, // 1
			{events.Envelope{Key: i}, events.LaunchRequested{}},
			{events.Envelope{Key: i}, events.StateChanged{State: events.Started}},
			{events.Envelope{Key: i}, running("")}, // 4
			{events.Envelope{Key: dom.Key()}, events.DomainSubscribed{SubscriberName: "a b", SubscriberOp: "ab"}},
			{events.Envelope{Key: i}, running("10.0.0.1")}, // 6
			{events.Envelope{Key: dom.Key()}, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "new"}},
			{events.Envelope{Key: dom.Key()}, events.DomainUnsubscribed{SubscriberName: "a b"}},
			{events.Envelope{Key: i}, events.TerminateRequested{}},
			{events.Envelope{Key: i}, events.HealthChanged{Health: events.HealthOK}},
			{events.Envelope{Key: i}, events.StateChanged{State: events.Terminating}}, // 11
			{events.Envelope{Key: i}, events.StateChanged{State: events.Terminated}},  // 12
			{events.Envelope{Key: dom.Key()}, events.DomainUnsubscribed{SubscriberName: "s"}},
			{events.Envelope{Key: i}, events.StateChanged{State: events.Failed}},
		} {
			log.add(e.env.Key, e.ev)
			synctest.Wait()
		}
		checkTold(t, m,
			"id4/s op "+body("600-RUNNING", "null"),
			"id6/s op "+body("600-RUNNING", `"10.0.0.1"`),
			"id6/a=20b ab "+body("600-RUNNING", `"10.0.0.1"`),
			"id11/s new "+body("900-FAILED", `"10.0.0.1"`),
			"id12/s new "+body("900-FAILED", `"10.0.0.1"`),
		)
		if len(h.reads) != 0 {
			t.Errorf("read %q from the log, though nothing has moved on", h.reads)
		}
	})
}

// TestNotifier_AsOf: one that comes late tells everybody what it would have told
// in time, and reads no more of the log than it must.
func TestNotifier_AsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		i, other := dom.InstanceKey("i"), events.DomainID{Owner: "o", Name: "other"}
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "first"})
		log.add(i, events.LaunchRequested{})
		log.add(i, running("10.0.0.1")) // 3
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "second"})
		log.add(i, events.StateChanged{State: events.RunningFailed}) // 5
		log.add(i, events.StateChanged{State: events.Failed, Fields: events.Fields{{Name: "public_ip", Value: json.RawMessage(`"10.0.0.2"`)}}})
		log.add(i, events.Reaped{})
		log.add(dom.Key(), events.DomainRemoved{})
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "second life"})
		j := dom.InstanceKey("j")
		log.add(j, events.LaunchRequested{})
		log.add(j, events.StateChanged{State: events.Running}) // 11
		log.add(j, events.StateChanged{State: events.Running, Fields: running("10.0.0.3").Fields})
		log.add(j, events.StateChanged{State: events.RunningFailed}) // 13
		log.add(j, events.StateChanged{State: events.Failed, Fields: running("10.0.0.4").Fields})
		log.add(other.Key(), events.DomainAdded{})
		log.add(other.InstanceKey("x"), events.LaunchRequested{})
		log.add(other.InstanceKey("x"), running(""))
		m, h, _, _ := notify(t, log)
		synctest.Wait()
		secondLife := func(state, hostname string) string {
			return "/s second life " + strings.Replace(body(state, hostname), `"i"`, `"j"`, 1)
		}
		checkTold(t, m,
			"id3/s first "+body("600-RUNNING", `"10.0.0.1"`),
			"id5/s second "+body("900-FAILED", `"10.0.0.1"`),
			"id6/s second "+body("900-FAILED", `"10.0.0.2"`),
			"id11"+secondLife("600-RUNNING", "null"),
			"id12"+secondLife("600-RUNNING", `"10.0.0.3"`),
			"id13"+secondLife("900-FAILED", `"10.0.0.3"`),
			"id14"+secondLife("900-FAILED", `"10.0.0.4"`),
		)
		// The first two batches, of three events each, need the domain of before.
		slices.Sort(h.reads)
		if diff := cmp.Diff([]string{string(dom.Key()), string(dom.Key()), string(i), string(j)}, h.reads); diff != "" {
			t.Errorf("read: %s", diff)
		}
	})
}

// TestNotifier_Retries: while the server is away it tries again, ever more slowly,
// and what it had fetched comes again; nothing is done before it is stored.
func TestNotifier_Retries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		m, _, _, _ := notify(t, log)
		synctest.Wait()
		m.set(func() { m.fail = errors.New("away") })
		log.add(dom.InstanceKey("i"), running(""))
		time.Sleep(time.Minute) // of the bubble's clock
		m.set(func() {
			if m.done[3] || len(m.stored) > 0 {
				t.Error("told while the server is away")
			}
			if n := len(m.rewinds); n < 12 || n > 22 {
				t.Errorf("%d attempts within a minute", n)
			}
			m.fail = nil
		})
		time.Sleep(10 * time.Second)
		checkTold(t, m, "id3/s op "+body("600-RUNNING", "null"))
		m.set(func() {
			if !m.done[3] {
				t.Error("stored and not done")
			}
		})
	})
}

// TestNotifier_NextTerm takes up what a term before had fetched and not done.
func TestNotifier_NextTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		log.add(dom.InstanceKey("i"), running(""))
		m := &memNotices{log: log, done: map[uint64]bool{}}
		if batch, err := m.Fetch(t.Context(), 0); err != nil || len(batch) != 2 {
			t.Fatalf("%d events, %v", len(batch), err)
		}
		h := &memHistory{log: log}
		startNotifier(t, follow(t, log, &memBucket{}), h, m)
		synctest.Wait()
		checkTold(t, m, "id3/s op "+body("600-RUNNING", "null"))
	})
}

// TestNotifier_LateQueue: the queue learns of an event after the replica. The
// wake-up is not lost, and what is not woken for is found by looking.
func TestNotifier_LateQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		m, _, _, _ := notify(t, log)
		synctest.Wait()
		m.set(func() { m.late = 1_000 })
		log.add(dom.InstanceKey("i"), running(""))
		synctest.Wait()
		checkTold(t, m, "id3/s op "+body("600-RUNNING", "null"))

		m.set(func() { m.late, m.next, m.done[3], m.stored = 0, 2, false, nil }) // it comes again
		time.Sleep(6 * time.Second)
		checkTold(t, m, "id3/s op "+body("600-RUNNING", "null"))
	})
}

// TestNotifier_Idle: launches and everything else that is no report wake nobody.
func TestNotifier_Idle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		m, _, _, _ := notify(t, log)
		synctest.Wait()
		var before int
		m.set(func() { before = m.fetches })
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		for n := range 100 {
			log.add(dom.InstanceKey(fmt.Sprint(n)), events.LaunchRequested{})
		}
		synctest.Wait()
		m.set(func() {
			if m.fetches != before {
				t.Errorf("%d fetches for launches", m.fetches-before)
			}
		})
	})
}

// TestNotifier_Unknown leaves an event of a newer version to a newer version.
func TestNotifier_Unknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		log.add(dom.InstanceKey("i"), events.Unknown{Name: "epum.instance.state_changed.v9"})
		m, _, _, ended := notify(t, log)
		if err := <-ended; !errors.Is(err, events.ErrDeposed) {
			t.Errorf("it ends with %v", err)
		}
		m.set(func() {
			if m.done[3] || len(m.stored) > 0 {
				t.Error("the unknown event is done")
			}
		})
	})
}
