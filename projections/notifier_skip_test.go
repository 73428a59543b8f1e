package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// TestNotifier_Nobody: where nobody subscribes reports wait, and are then skipped, but
// not those since somebody did.
func TestNotifier_Nobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		m, _, r, _ := notify(t, log)
		m.set(func() { m.most = 1000 })
		check := func(what string, fetches bool, skips int, do func()) {
			synctest.Wait()
			m.set(func() { m.fetches, m.skips = 0, 0 })
			do()
			synctest.Wait()
			m.set(func() {
				if m.fetches > 0 != fetches || m.skips != skips {
					t.Errorf("%s: %d fetches, %d skips", what, m.fetches, m.skips)
				}
			})
		}
		report := func(n int) {
			for range n {
				log.add(dom.InstanceKey("i"), running(""))
			}
		}
		log.add(dom.Key(), events.DomainAdded{})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		check("a few reports", false, 0, func() { report(100) })
		check("a look", false, 1, func() { time.Sleep(5 * time.Second) })
		check("many reports", false, 1, func() { report(11_000) })
		m.set(func() {
			if m.next < 10_000 {
				t.Errorf("the queue is at %d of %d", m.next, len(log.entries))
			}
		})
		report(100)
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), running(""))
		synctest.Wait()
		want := []string{fmt.Sprintf("id%d/s op %s", r.Applied(), body("600-RUNNING", "null"))}
		checkTold(t, m, want...)

		log.add(dom.Key(), events.DomainUnsubscribed{SubscriberName: "s"})
		check("a look once nobody subscribes", true, 0, func() { time.Sleep(5 * time.Second) })
		report(1)
		check("reports since", false, 1, func() { time.Sleep(5 * time.Second) })

		// Somebody is there when the log takes a report, and gone when that is noted.
		other := events.DomainID{Owner: "o", Name: "other"}
		log.add(other.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(other.InstanceKey("i"), events.LaunchRequested{})
		seq := log.add(other.InstanceKey("i"), running(""))
		log.add(other.Key(), events.DomainUnsubscribed{SubscriberName: "s"})
		check("after he came and went", true, 0, func() { report(11_000) })
		checkTold(t, m, append(want, fmt.Sprintf("id%d/s op %s", seq, strings.Replace(body("600-RUNNING", "null"), `"d"`, `"other"`, 1)))...)
	})
}

// TestNotifier_Gone: the last who subscribed has gone, and a term begins that hears
// late of what he is to be told yet. It is not skipped.
func TestNotifier_Gone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{SubscriberName: "s", SubscriberOp: "op"})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		log.add(dom.InstanceKey("i"), running(""))
		log.add(dom.Key(), events.DomainUnsubscribed{SubscriberName: "s"})
		m := &memNotices{log: log, done: map[uint64]bool{}, late: 1, most: 1000}
		startNotifier(t, follow(t, log, &memBucket{}), &memHistory{log: log}, m)
		synctest.Wait()
		checkTold(t, m)
		for range 11_000 {
			log.add(dom.InstanceKey("i"), running(""))
		}
		synctest.Wait()
		checkTold(t, m, "id3/s op "+body("600-RUNNING", "null"))
		if m.skips > 0 {
			t.Errorf("%d skips", m.skips)
		}
	})
}

// TestNotifier_Flow: a term that begins in the middle of many reports reads those from
// before it, and no others if nobody subscribes.
func TestNotifier_Flow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{})
		log.add(dom.InstanceKey("i"), events.LaunchRequested{})
		report := func(n int) {
			for range n {
				log.add(dom.InstanceKey("i"), running(""))
			}
		}
		report(2_000)
		m := &memNotices{log: log, done: map[uint64]bool{}, most: 500}
		m.meets = func() {
			if len(log.entries) < 50_000 {
				report(1_000)
			}
		}
		startNotifier(t, follow(t, log, &memBucket{}), &memHistory{log: log}, m)
		synctest.Wait()
		report(20_000)
		synctest.Wait()
		m.set(func() {
			if m.fetches > 10 || m.next < 20_000 {
				t.Errorf("%d fetches, %d skips, at %d of %d", m.fetches, m.skips, m.next, len(log.entries))
			}
		})
	})
}

// TestNotifier_Leaves: what nobody is to be told of is skipped at the end of a term, so
// that the next one need not read it; what somebody may be told of is left.
func TestNotifier_Leaves(t *testing.T) {
	for _, subscribed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log := newLog()
			log.add(dom.Key(), events.DomainAdded{})
			log.add(dom.InstanceKey("i"), events.LaunchRequested{})
			m := &memNotices{log: log, done: map[uint64]bool{}, most: 1000}
			n := projections.NewNotifier(follow(t, log, &memBucket{}), &memHistory{log: log}, m, slog.New(slog.DiscardHandler))
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx, 0) }()
			synctest.Wait()
			for range 100 {
				log.add(dom.InstanceKey("i"), running(""))
			}
			synctest.Wait()
			if subscribed {
				log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "op"})
			}
			last := log.add(dom.InstanceKey("i"), running(""))
			end()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			m.set(func() {
				if !subscribed && (m.skips != 1 || m.next < 102) || subscribed && m.done[last] && len(m.stored) == 0 {
					t.Errorf("subscribed %v: %d skips, the queue is at %d of %d, told %d", subscribed, m.skips, m.next, len(log.entries), len(m.stored))
				}
			})
		})
	}
}
