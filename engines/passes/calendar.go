package passes

import (
	"container/heap"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// calendarTick is how exact a calendar is: nothing comes early, and nothing
// later than that.
const calendarTick = 10 * time.Millisecond

// calendar keeps things by the time at which they are due. To put one costs the
// same however many there are; to take costs what is due. A thing that was put
// twice comes twice: its owner knows which time counts.
type calendar[T any] struct {
	start time.Time
	slots map[int64][]T // ticks since start → what is due then
	order ticks         // the keys of slots
}

func newCalendar[T any](start time.Time) *calendar[T] {
	return &calendar[T]{start: start, slots: map[int64][]T{}}
}

func (c *calendar[T]) put(at time.Time, x T) {
	tick := int64((at.Sub(c.start) + calendarTick - 1) / calendarTick)
	slot, known := c.slots[tick]
	if !known {
		heap.Push(&c.order, tick)
	}
	c.slots[tick] = append(slot, x)
}

// next is when the first thing is due, at the latest at latest.
func (c *calendar[T]) next(latest time.Time) time.Time {
	if len(c.order) > 0 {
		if first := c.at(c.order[0]); first.Before(latest) {
			return first
		}
	}
	return latest
}

// take takes out what is due.
func (c *calendar[T]) take(now time.Time) (due []T) {
	for len(c.order) > 0 && !c.at(c.order[0]).After(now) {
		tick := c.order[0]
		heap.Pop(&c.order)
		if due == nil {
			due = c.slots[tick] // the only one, mostly
		} else {
			due = append(due, c.slots[tick]...)
		}
		delete(c.slots, tick)
	}
	return due
}

func (c *calendar[T]) at(tick int64) time.Time {
	return c.start.Add(time.Duration(tick) * calendarTick)
}

// ticks is a heap, the earliest on top.
type ticks []int64

// Len implements heap.Interface, as do the methods below.
func (t ticks) Len() int           { return len(t) }
func (t ticks) Less(i, j int) bool { return t[i] < t[j] }
func (t ticks) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *ticks) Push(x any)        { *t = append(*t, x.(int64)) } //nolint:errcheck // only ticks are pushed
func (t *ticks) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

// alarms wake domains, each at one time only.
type alarms struct {
	at  map[events.DomainID]time.Time
	due *calendar[events.DomainID] // what at does not have for that time is void
}

func newAlarms(start time.Time) *alarms {
	return &alarms{at: map[events.DomainID]time.Time{}, due: newCalendar[events.DomainID](start)}
}

// set has a domain woken, unless it will be before. Whoever is woken early sets it
// again.
func (a *alarms) set(at time.Time, id events.DomainID) {
	if earlier, known := a.at[id]; known && !at.Before(earlier) {
		return
	}
	a.at[id] = at
	a.due.put(at, id)
}

// next is when the first domain is woken, at the latest at latest.
func (a *alarms) next(latest time.Time) time.Time { return a.due.next(latest) }

// take gives the domains whose time has come.
func (a *alarms) take(now time.Time) map[events.DomainID]bool {
	woken := map[events.DomainID]bool{}
	for _, id := range a.due.take(now) {
		if at, known := a.at[id]; known && !at.After(now) {
			delete(a.at, id)
			woken[id] = true
		}
	}
	return woken
}
