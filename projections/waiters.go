package projections

import "container/heap"

// waiter waits for a sequence to be folded.
type waiter struct {
	seq   uint64
	done  chan struct{} // closed when it is
	index int           // in waiters; -1: it is not there any more
}

// waiters is a heap, the lowest sequence on top: an event costs those that it
// wakes, however many wait.
type waiters []*waiter

// forget takes out one that waits no longer.
func (w *waiters) forget(x *waiter) {
	if x.index >= 0 {
		heap.Remove(w, x.index)
	}
}

// Len implements heap.Interface, as do the methods below.
func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].seq < w[j].seq }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push implements heap.Interface.
func (w *waiters) Push(x any) {
	added := x.(*waiter) //nolint:errcheck // only waiters are pushed
	added.index = len(*w)
	*w = append(*w, added)
}

// Pop implements heap.Interface.
func (w *waiters) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	x.index = -1
	(*w)[last] = nil
	*w = (*w)[:last]
	return x
}
