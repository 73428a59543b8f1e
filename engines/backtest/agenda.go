package backtest

import (
	"container/heap"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// occurrence is what is to happen to an instance at a time.
type occurrence struct {
	at       time.Time
	n        int // which of those put there it is
	instance string
	event    events.Event
}

// agenda is what is to happen, the next first; of what is at one time, what was put
// first.
type agenda struct {
	due  occurrences
	made int
}

func (a *agenda) put(o occurrence) {
	a.made++
	o.n = a.made
	heap.Push(&a.due, o)
}

// next is when the first thing happens, at the latest at latest.
func (a *agenda) next(latest time.Time) time.Time {
	if len(a.due) > 0 && a.due[0].at.Before(latest) {
		return a.due[0].at
	}
	return latest
}

// take takes out what happens by a time.
func (a *agenda) take(now time.Time) (due []occurrence) {
	for len(a.due) > 0 && !a.due[0].at.After(now) {
		o, _ := heap.Pop(&a.due).(occurrence)
		due = append(due, o)
	}
	return due
}

// occurrences is a heap.
type occurrences []occurrence

// Len implements heap.Interface, as do the methods below.
func (o occurrences) Len() int { return len(o) }

func (o occurrences) Less(i, j int) bool {
	if o[i].at.Equal(o[j].at) {
		return o[i].n < o[j].n
	}
	return o[i].at.Before(o[j].at)
}
func (o occurrences) Swap(i, j int) { o[i], o[j] = o[j], o[i] }
func (o *occurrences) Push(x any)   { *o = append(*o, x.(occurrence)) } //nolint:errcheck // only occurrences are pushed
func (o *occurrences) Pop() any {
	last := len(*o) - 1
	x := (*o)[last]
	(*o)[last] = occurrence{}
	*o = (*o)[:last]
	return x
}
