package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// notifyLook is how often a notifier looks without being woken: for what a
	// deposed one fetched and never acknowledged, and whether its queue still is.
	notifyLook = 5 * time.Second
	// notifyLate is how long the queue may take to give an event that the replica
	// has folded already: another server, or another goroutine of it, serves it.
	notifyLate = 250 * time.Millisecond
	// notifyBehind is how many events a notifier is behind at most while nobody
	// subscribes: less than a second of work for whoever subscribes then.
	notifyBehind = 10_000
	// notifyFirst doubles with each failure up to notifyLongest.
	notifyFirst   = 50 * time.Millisecond
	notifyLongest = 5 * time.Second
)

// Notice is an event of an instance that was fetched from Notices.
type Notice struct {
	Envelope events.Envelope
	Event    events.Event
	Done     func() error // tells the queue that all are told of it; lost, it comes again
}

// Notification is what one subscriber is told of one event.
type Notification struct {
	ID         string // the same whenever and whoever tells it
	Subscriber events.Subscriber
	Body       []byte
}

// Notices is the queue of instance events of which subscribers may have to be
// told, and the place where they are. It outlives the processes that work on it.
type Notices interface {
	// Rewind puts the queue back to the first event that is not done, so that
	// whatever was fetched comes again, in order; it gives the sequence before
	// that. Where the queue is gone it is made anew from an event on.
	Rewind(ctx context.Context, from uint64) (uint64, error)
	// Skip has the queue go on behind upTo, if all up to an event before that is
	// done; false: it is not, or the queue cannot.
	Skip(ctx context.Context, done, upTo uint64) (bool, error)
	// Fetch gives the next events, in order, at most some hundreds. Where there
	// are none it waits for the first at most for wait.
	Fetch(ctx context.Context, wait time.Duration) ([]Notice, error)
	// Store publishes notifications, in order, and returns when all are stored.
	// One that never can be is logged and left out.
	Store(ctx context.Context, notifications []Notification) error
}

// Notifier tells subscribers what has become of instances (design §4): for each
// accepted report of RUNNING or later one notification to each who was subscribed
// to the domain when the log took it. Only the leader runs one. Two do no harm:
// an event is done only by who has stored all its notifications, and whoever
// stores them gives them the same ids.
type Notifier struct {
	replica *Replica
	history History
	notices Notices
	log     *slog.Logger

	feed *Feed  // of reports, and of domains that have got a subscriber
	some bool   // somebody may subscribe: he is told at once
	none uint64 // where not: nobody has since this event
	want uint64 // the last report that the replica has folded, as far as the feed said
	got  uint64 // the last event fetched and done
}

// NewNotifier makes a notifier of one leader's term.
func NewNotifier(replica *Replica, history History, notices Notices, log *slog.Logger) *Notifier {
	return &Notifier{replica: replica, history: history, notices: notices, log: log}
}

// Run notifies until ctx ends, or until the replica has started anew or folds an
// event that this program does not know: then it returns events.ErrDeposed.
// Failures are retried. epoch is where the queue begins if it is gone.
func (n *Notifier) Run(ctx context.Context, epoch uint64) error {
	n.feed = n.replica.NewFeed(n.concerns)
	defer n.feed.Close()
	n.got = epoch
	for wait := notifyFirst; ctx.Err() == nil; wait = min(2*wait, notifyLongest) {
		began := n.got
		err := n.follow(ctx)
		if errors.Is(err, events.ErrDeposed) {
			return err
		}
		if n.got > began {
			wait = notifyFirst
		}
		if ctx.Err() == nil {
			n.log.Warn("notifications interrupted", "error", err, "retry_in", wait, "seq", n.got)
			pause(ctx, wait)
		}
	}
	return ctx.Err()
}

// follow tells whatever comes until something fails. It begins with what was
// fetched and not done, by this notifier or one before.
func (n *Notifier) follow(ctx context.Context) error {
	n.some = true
	n.look()
	var err error
	if n.got, err = n.notices.Rewind(ctx, n.got+1); err != nil {
		return err
	}
	look := time.NewTicker(notifyLook)
	defer look.Stop()
	for due := true; ; {
		// Noted before the fetch: what is folded during it wakes this again.
		n.note(n.feed.Take())
		if n.feed.Broken() {
			return events.ErrDeposed
		}
		if due || n.some && n.want > n.got || n.want > n.got+notifyBehind {
			if err := n.catchUp(ctx); err != nil {
				return err
			}
		}
		select {
		case <-n.feed.Ready():
			due = false
		case <-look.C:
			due = true
			n.look()
		case <-ctx.Done():
			n.leave(ctx)
			return ctx.Err()
		}
	}
}

// leave skips what nobody is to be told of, so that the next notifier need not read it.
func (n *Notifier) leave(ctx context.Context) {
	if n.note(n.feed.Take()); n.some || n.want <= n.got || n.feed.Broken() {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyLate)
	defer cancel()
	_, _ = n.skip(last) // what it is worth: the next one reads it otherwise
}

// concerns is called with the replica locked and the event folded.
func (n *Notifier) concerns(e events.Envelope) bool {
	switch e.Type {
	case events.TypeStateChanged, events.TypeDomainSubscribed:
		return true
	case events.TypeDomainAdded:
		id, _, _ := e.Key.Parts()
		d := n.replica.state.Domain(id)
		return d != nil && len(d.Subscribers) > 0
	}
	return false
}

// note notes what the replica has folded.
func (n *Notifier) note(changed map[events.Key]uint64) {
	for key, seq := range changed {
		if key.Kind() == events.KindInstance {
			n.want = max(n.want, seq)
		} else {
			n.some = true
		}
	}
}

// look looks whether anybody subscribes to any domain still.
func (n *Notifier) look() {
	n.replica.View(func(s *events.State) {
		if n.some && !subscribed(s) {
			n.some, n.none = false, s.Seq
		}
	})
}

func subscribed(s *events.State) bool {
	for d := range s.Domains() {
		if len(d.Subscribers) > 0 {
			return true
		}
	}
	return false
}

// catchUp has the queue be done with what the replica has folded.
func (n *Notifier) catchUp(ctx context.Context) error {
	if !n.some && n.want > n.got {
		if skipped, err := n.skip(ctx); skipped || err != nil {
			return err
		}
	}
	return n.drain(ctx)
}

// skip leaves out all that is noted, since there is nobody to be told of it: to read
// it would cost a tenth of what reports cost. It does nothing where the queue is not
// done with what came when there may have been somebody.
func (n *Notifier) skip(ctx context.Context) (bool, error) {
	unknown := false
	n.replica.View(func(s *events.State) { unknown = s.HasUnknown() })
	if unknown {
		return false, events.ErrDeposed
	}
	if err := n.replica.checkLog(ctx); err != nil { // another one has other events there
		return false, err
	}
	skipped, err := n.notices.Skip(ctx, n.none, n.want)
	if skipped {
		n.got = n.want
	}
	return skipped, err
}

// drain tells all that the queue has. Where nobody subscribes it ends with what is
// noted, and with what somebody may have subscribed to: the rest is skipped.
func (n *Notifier) drain(ctx context.Context) error {
	enough := uint64(math.MaxUint64)
	if noted := max(n.none, n.want); !n.some && n.got < noted {
		enough = noted
	}
	for n.got < enough {
		var wait time.Duration
		if n.got < n.want {
			wait = notifyLate
		}
		batch, err := n.notices.Fetch(ctx, wait)
		if err != nil || len(batch) == 0 {
			return err
		}
		if err := n.tell(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// tell stores the notifications of a batch; only then are its events done.
func (n *Notifier) tell(ctx context.Context, batch []Notice) error {
	var last uint64
	for _, notice := range batch {
		last = max(last, notice.Envelope.Seq)
	}
	if err := n.replica.WaitFor(ctx, last); err != nil {
		return err
	}
	past := &past{history: n.history, replica: n.replica, upTo: last, versions: map[events.Key][]version{}}
	var all []Notification
	for _, notice := range batch {
		due, err := notifications(ctx, past, notice)
		if err != nil {
			return err
		}
		all = append(all, due...)
	}
	if err := n.notices.Store(ctx, all); err != nil {
		return err
	}
	for _, notice := range batch {
		if err := notice.Done(); err != nil {
			return err
		}
	}
	n.got = max(n.got, last)
	return nil
}

// notifications gives what subscribers are to be told of an event. It fails with
// events.ErrDeposed where only a newer program can say.
func notifications(ctx context.Context, past *past, notice Notice) ([]Notification, error) {
	env := notice.Envelope
	var report events.StateChanged
	switch ev := notice.Event.(type) {
	case events.StateChanged:
		report = ev
	case events.Unknown:
		return nil, events.ErrDeposed
	default:
		return nil, nil
	}
	state, ok := events.Notified(report.State)
	id, instance, named := env.Key.Parts()
	if !ok || !named {
		return nil, nil
	}
	domain, err := past.domain(ctx, id, env.Seq)
	if err != nil || domain == nil || len(domain.Subscribers) == 0 {
		return nil, err
	}
	hostname := report.Fields.Get(events.FieldPublicIP)
	if hostname == nil {
		if hostname, err = past.publicIP(ctx, env); err != nil {
			return nil, err
		}
	}
	body, err := json.Marshal(events.Notification{
		NodeID: instance, State: state, Owner: id.Owner, DomainID: id.Name,
		Properties: events.NotificationProperties{Hostname: hostname},
	})
	if err != nil {
		return nil, fmt.Errorf("notification of event %d: %w", env.Seq, err)
	}
	all := make([]Notification, len(domain.Subscribers))
	for i, s := range domain.Subscribers {
		all[i] = Notification{ID: env.ID + "/" + events.Token(s.Name), Subscriber: s, Body: body}
	}
	return all, nil
}
