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
	// their bodies; the last ones above it go back to the server for a while.
	laneRoom = 4_000
	// keepPatience is how long the server may take to confirm that it goes on
	// waiting: a message that comes again later than this and the time at which it
	// is told so is in nobody else's hands yet.
	keepPatience = time.Second
)

// lanes spread the messages of one life of a consumer over lanes, one for each
// token for as long as any of its messages waits. So no lane waits for another
// one, and none outlives the stream.
type lanes struct {
	queue     *queue
	nc        *nats.Conn
	stop      context.Context // ended: begin nothing more
	deadlines deadlines

	running sync.WaitGroup
	mu      sync.Mutex
	waiting map[string]*laneQueue // by token
	bytes   int                   // that are kept of what waits
	ready   []*laneQueue          // one message of each is to be handled
	some    *sync.Cond            // there are any, or the end has come
	workers int                   // up to queueSlots
	idle    int                   // workers that wait and were not called
	ended   bool
}

// laneQueue is what waits in a lane, by its sequence.
type laneQueue struct {
	lane  lane
	token string
	all   []*delivery
	busy  bool        // it is ready, or a message of it is being handled
	rest  *time.Timer // nil: it does not rest
}

func newLanes(stop, grace context.Context, q *queue) *lanes {
	w := &lanes{queue: q, nc: q.inbox.js.Conn(), stop: stop, waiting: map[string]*laneQueue{}}
	w.some = sync.NewCond(&w.mu)
	w.deadlines = deadlines{parent: grace, began: time.Now(), step: q.ackWait / 8}
	w.running.Go(w.keep)
	return w
}

// end waits for what is being handled, and gives the rest back. Nothing may be
// taken any more, and stop must have ended.
func (w *lanes) end() {
	w.mu.Lock()
	w.ended = true
	w.some.Broadcast()
	for _, in := range w.waiting {
		for _, d := range in.all {
			w.answered(d, d.again(w.nc, 0))
		}
		in.all = nil
	}
	w.mu.Unlock()
	w.running.Wait()
}

// take has a message handled in its lane.
func (w *lanes) take(d *delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := w.waiting[d.token]
	if in == nil {
		in = &laneQueue{lane: w.queue.lane(d.token), token: d.token}
		w.waiting[d.token] = in
	}
	w.put(in, d)
	if last := len(in.all) - 1; last >= laneRoom {
		w.bytes -= in.all[last].size
		w.answered(in.all[last], in.all[last].again(w.nc, w.queue.longest))
		in.all = slices.Delete(in.all, last, last+1)
	}
	if !in.busy && (in.rest == nil || in.all[0] == d) {
		w.call(in)
	}
}

// put puts a message into its place in a lane. It is called with the lock held.
func (w *lanes) put(in *laneQueue, d *delivery) {
	if !d.parked && w.bytes+d.size > waitingBytes {
		d.park()
	}
	n, found := slices.BinarySearchFunc(in.all, d.seq, func(other *delivery, seq uint64) int { return cmp.Compare(other.seq, seq) })
	switch {
	case !found:
		in.all = slices.Insert(in.all, n, d)
	case in.all[n].times <= d.times: // the server has given up on the earlier one
		w.bytes -= in.all[n].size
		in.all[n] = d
	default:
		return
	}
	w.bytes += d.size
}

// call has a lane's first message handled. It is called with the lock held.
func (w *lanes) call(in *laneQueue) {
	if in.rest != nil {
		in.rest.Stop()
		in.rest = nil
	}
	in.busy = true
	w.ready = append(w.ready, in)
	switch {
	case w.idle > 0:
		w.idle--
		w.some.Signal()
	case w.workers < queueSlots:
		w.workers++
		w.running.Go(w.workOff)
	}
}

// workOff handles messages until the end.
func (w *lanes) workOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.ended {
		if len(w.ready) == 0 {
			w.idle++
			w.some.Wait()
			continue
		}
		in := w.ready[0]
		w.ready[0] = nil
		w.ready = w.ready[1:]
		d := in.all[0]
		in.all[0] = nil
		in.all = in.all[1:]
		w.bytes -= d.size
		late := w.late(d)
		w.mu.Unlock()
		pause, back := w.work(in.lane, d, late)
		w.mu.Lock()
		w.handled(in, d, pause, back)
	}
}

// handled says how a lane goes on. It is called with the lock held.
func (w *lanes) handled(in *laneQueue, d *delivery, pause time.Duration, back bool) {
	in.busy = false
	switch {
	case w.ended && back:
		w.answered(d, d.again(w.nc, 0))
		return
	case w.ended:
		return
	case back:
		w.put(in, d)
	}
	switch {
	case pause > 0 && (len(in.all) == 0 || in.all[0].seq >= d.seq):
		var rest *time.Timer
		rest = time.AfterFunc(pause, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if in.rest == rest && !w.ended {
				in.rest = nil
				w.goOn(in)
			}
		})
		in.rest = rest
	default:
		w.goOn(in)
	}
}

// goOn is called with the lock held.
func (w *lanes) goOn(in *laneQueue) {
	if len(in.all) > 0 {
		w.call(in)
	} else {
		delete(w.waiting, in.token)
	}
}

// late is when a message is no longer ours for sure.
func (w *lanes) late(d *delivery) time.Time { return d.owned.Add(w.queue.ackWait * 3 / 4) }

// work handles one message and tells the server. A pause says that its lane has
// to rest then; back that the message waits on in it.
func (w *lanes) work(l lane, d *delivery, late time.Time) (pause time.Duration, back bool) {
	if w.stop.Err() != nil {
		w.answered(d, d.again(w.nc, 0))
		return 0, false
	}
	ctx := w.deadlines.before(late)
	if ctx.Err() != nil {
		return 0, false // the server gives it to the next one
	}
	err := w.handle(ctx, l, d)
	early, isEarly := errors.AsType[*earlyError](err)
	switch {
	case err == nil:
		w.answered(d, l.ack(w.deadlines.parent, d))
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
	err := error(&events.DeadLetterError{Reason: errCopy.Error()})
	if !d.copied {
		err = l.handle(ctx, d)
	}
	dead, ok := errors.AsType[*events.DeadLetterError](err)
	if !ok {
		return err
	}
	if err := w.queue.inbox.bury(w.deadlines.parent, d, dead.Reason); err != nil {
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
