package jetstream

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// queueSlots is how many messages of a queue are handled at once: as many
	// single appends in flight reach the log's ceiling.
	queueSlots = 128
	// waitingBytes is how much of the headers and bodies that wait is kept; what is
	// above it is read again when its turn comes.
	waitingBytes = 64 << 20
	// laneRoom is how many messages wait in one lane, of about 300 bytes without
	// their bodies; those above it go back to the server for a while.
	laneRoom = 10_000
	// keepPatience is how long the server may take to confirm that it goes on
	// waiting: a message that comes again later than this and the time at which it
	// is told so is in nobody else's hands yet.
	keepPatience = time.Second
)

// lanes spread the messages of one life of a consumer over lanes, one for each
// token for as long as any of its messages waits. So no lane waits for another
// one, and none outlives the stream.
type lanes struct {
	queue *queue
	nc    *nats.Conn
	stop  context.Context // ended: begin nothing more
	grace context.Context // ended: give up what runs
	slots chan struct{}   // one for each message that is handled

	running sync.WaitGroup
	mu      sync.Mutex
	waiting map[string]*laneQueue // by token
	bytes   int                   // that are kept of what waits
}

// laneQueue is what waits in a lane, by its sequence.
type laneQueue struct {
	all   []*delivery
	ahead chan struct{} // has an element once something came before all others
}

// take has a message handled in its lane.
func (w *lanes) take(d *delivery) {
	w.mu.Lock()
	in, running := w.waiting[d.token]
	if !running {
		in = &laneQueue{ahead: make(chan struct{}, 1)}
		w.waiting[d.token] = in
	}
	full := len(in.all) >= laneRoom
	if !full {
		w.put(in, d)
	}
	w.mu.Unlock()
	if full {
		w.answered(d, d.again(w.nc, w.queue.longest))
	}
	if !running {
		w.running.Go(func() { w.workOff(w.queue.lane(d.token), d.token, in) })
	}
}

// put is called with the lock held.
func (w *lanes) put(in *laneQueue, d *delivery) {
	if !d.parked && w.bytes+d.size() > waitingBytes {
		d.park()
	}
	w.bytes += d.size()
	n, found := slices.BinarySearchFunc(in.all, d.seq, func(other *delivery, seq uint64) int { return cmp.Compare(other.seq, seq) })
	switch {
	case !found:
		in.all = slices.Insert(in.all, n, d)
	case in.all[n].times <= d.times: // the server has given up on the earlier one
		w.bytes -= in.all[n].size()
		in.all[n] = d
	default:
		w.bytes -= d.size()
	}
	if n == 0 {
		select {
		case in.ahead <- struct{}{}:
		default:
		}
	}
}

// next takes the first message off a lane, and until when it may be handled; nil
// where none waits: then the lane has ended.
func (w *lanes) next(token string, in *laneQueue) (d *delivery, late time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(in.all) == 0 {
		delete(w.waiting, token)
		return nil, time.Time{}
	}
	d = in.all[0]
	in.all[0] = nil
	in.all = in.all[1:]
	w.bytes -= d.size()
	return d, w.late(d)
}

// late is when a message is no longer ours for sure.
func (w *lanes) late(d *delivery) time.Time { return d.owned.Add(w.queue.ackWait * 3 / 4) }

// workOff runs a lane until nothing waits in it.
func (w *lanes) workOff(l lane, token string, in *laneQueue) {
	for {
		d, late := w.next(token, in)
		if d == nil {
			return
		}
		if w.stop.Err() != nil {
			w.answered(d, d.again(w.nc, 0))
			continue
		}
		if time.Now().After(late) {
			continue // the server gives it to the next one
		}
		w.slots <- struct{}{}
		pause, back := w.work(l, d, late)
		<-w.slots
		if back {
			w.mu.Lock()
			w.put(in, d)
			w.mu.Unlock()
		}
		if pause > 0 {
			w.rest(in, pause)
		}
	}
}

// rest waits, but no longer than until something comes before all that waits.
func (w *lanes) rest(in *laneQueue, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-in.ahead:
	case <-w.stop.Done():
	}
}

// work handles one message and tells the server. A pause says that its lane has
// to rest then; back that the message waits on in it.
func (w *lanes) work(l lane, d *delivery, late time.Time) (pause time.Duration, back bool) {
	ctx, cancel := context.WithDeadline(w.grace, late)
	err := w.handle(ctx, l, d)
	cancel()
	early, isEarly := errors.AsType[*earlyError](err)
	switch {
	case err == nil:
		w.answered(d, l.ack(w.grace, d))
	case errors.Is(err, errGone):
	case isEarly:
		return early.pause, true
	case w.stop.Err() != nil:
		w.answered(d, d.again(w.nc, 0)) // whoever is next need not wait
	default:
		delay := nakDelay(d.times, w.queue.longest)
		w.queue.inbox.log.Warn("message not handled, it comes again", "subject", d.subject, "message", d.seq,
			"delivery", d.times, "delay", delay, "error", err)
		w.answered(d, d.again(w.nc, delay))
		if w.queue.inTurn {
			return delay + nakFirst, false
		}
	}
	return 0, false
}

// handle handles a message, or buries it; then it has left, too.
func (w *lanes) handle(ctx context.Context, l lane, d *delivery) error {
	if d.parked {
		if err := d.unpark(ctx, w.queue.inbox); err != nil {
			return err
		}
	}
	err := l.handle(ctx, d)
	dead, ok := errors.AsType[*events.DeadLetterError](err)
	if !ok {
		return err
	}
	if err := w.queue.inbox.bury(w.grace, d, dead.Reason); err != nil {
		return err
	}
	w.queue.inbox.log.Warn("message refused for good", "subject", d.subject, "message", d.seq, "reason", dead.Reason)
	w.answered(d, w.nc.Publish(d.reply, []byte(ackDead+" "+oneLine(dead.Reason))))
	return errGone
}

// answered logs an answer to the server that could not be sent; the message then
// comes again.
func (w *lanes) answered(d *delivery, err error) {
	if err != nil {
		w.queue.inbox.log.Warn("message not acknowledged", "subject", d.subject, "message", d.seq, "error", err)
	}
}

// keep has the server wait on for what waits here, until no more is begun.
func (w *lanes) keep() {
	for sleep(w.stop, w.queue.ackWait/4) {
		if err := w.keepAll(); err != nil {
			w.queue.inbox.log.Debug("the server does not say that it waits", "consumer", w.queue.consumer, "error", err)
		}
	}
}

// keepAll tells the server of all that has waited for some time, and believes it
// once it has answered for the last of them.
func (w *lanes) keepAll() error {
	confirmed, err := w.nc.SubscribeSync(w.nc.NewInbox())
	if err != nil {
		return err
	}
	defer func() { _ = confirmed.Unsubscribe() }() // fails where the connection is closed, and it with it
	kept, now, err := w.sayWorking(confirmed.Subject)
	if len(kept) == 0 || err != nil {
		return err
	}
	if _, err := confirmed.NextMsg(keepPatience); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range kept {
		d.owned = now
	}
	return nil
}

// sayWorking holds the lock so that whatever else is told of a message is told
// after this.
func (w *lanes) sayWorking(confirm string) (kept []*delivery, now time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now = time.Now()
	for _, in := range w.waiting {
		for _, d := range in.all {
			if age := now.Sub(d.owned); age > w.queue.ackWait/8 && now.Before(w.late(d)) {
				kept = append(kept, d)
			}
		}
	}
	for n, d := range kept {
		if n == len(kept)-1 {
			return kept, now, w.nc.PublishRequest(d.reply, confirm, []byte(ackWorking))
		}
		if err := w.nc.Publish(d.reply, []byte(ackWorking)); err != nil {
			return nil, now, err
		}
	}
	return nil, now, nil
}

// nakDelay is how long a message waits after its nth delivery.
func nakDelay(delivered uint64, longest time.Duration) time.Duration {
	delay := nakFirst
	for n := uint64(1); n < delivered && delay < longest; n++ {
		delay *= 2
	}
	return min(delay, longest)
}
