package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// ErrFuture is returned when a point of the log is asked for that has not come yet.
var ErrFuture = errors.New("projections: the log has not got that far")

// Annals is the log as a Chronicle reads it. It is safe for concurrent use.
type Annals interface {
	History
	// End is as Source has it.
	End(ctx context.Context) (Position, error)
	// Resolve gives the sequence of the last event at or before a point; 0 where there
	// is none.
	Resolve(ctx context.Context, p Point) (uint64, error)
	// TimeOf gives the timestamp of the event at a sequence; ErrNotFound where it has
	// gone.
	TimeOf(ctx context.Context, seq uint64) (time.Time, error)
}

// Chronicle answers what was, from the log alone. What an answer costs follows the
// history of what it is about, not the log's. It is safe for concurrent use.
type Chronicle struct {
	log    Annals
	origin *Origin
	clock  func() time.Time
}

// NewChronicle makes a chronicle of a log, whose purges the bucket knows.
func NewChronicle(log Annals, purged Bucket) *Chronicle {
	return &Chronicle{log: log, origin: NewOrigin(purged), clock: time.Now}
}

// At gives what a point of the log is; the zero point is its end. The error wraps
// ErrFuture where the point has not come yet, ErrNotFound where the log begins later,
// and ErrNoQuorum where the log's end cannot be had.
func (c *Chronicle) At(ctx context.Context, p Point) (AsOf, error) {
	end, err := c.log.End(ctx)
	if err != nil {
		return AsOf{}, err
	}
	switch {
	case p.Seq > end.Seq:
		return AsOf{}, fmt.Errorf("%w: it ends at %d", ErrFuture, end.Seq)
	case p.Time.After(end.Time) && p.Time.After(c.clock()):
		return AsOf{}, fmt.Errorf("%w: it is %s now", ErrFuture, c.clock().UTC().Format(time.RFC3339))
	case p == Point{}:
		return AsOf{Seq: end.Seq, Time: end.Time}, nil
	}
	at := AsOf{Seq: p.Seq}
	if at.Seq == 0 {
		if at.Seq, err = c.log.Resolve(ctx, p); err != nil {
			return AsOf{}, err
		}
		if at.Seq == 0 {
			return AsOf{}, fmt.Errorf("%w: the log begins later", ErrNotFound)
		}
	}
	if at.Time, err = c.log.TimeOf(ctx, at.Seq); errors.Is(err, ErrNotFound) {
		err = nil // it was purged
	}
	return at, err
}

// DescribeDomain gives the domain document as Reader.DescribeDomain gave it then, but
// for what was read of its metrics, which the log does not have. The error is an
// *AbsentError where there was no such domain, or as At says.
func (c *Chronicle) DescribeDomain(ctx context.Context, id events.DomainID, p Point, after string, limit int) ([]byte, error) {
	at, err := c.At(ctx, p)
	if err != nil {
		return nil, err
	}
	absent := &AbsentError{Domain: id, At: at}
	var state *events.State
	err = c.hold(ctx, func(point PurgePoint) (err error) {
		absent.Removed = nil
		if state, err = c.state(ctx, point, id, at); err != nil {
			return err
		}
		return c.relate(ctx, id, id.AllInstances(), state, at, func(r *events.Recorded) {
			if _, removed := r.Event.(events.DomainRemoved); removed && r.Key == id.Key() {
				absent.Removed = &AsOf{Seq: r.Seq, Time: r.Time}
			}
			events.Apply(state, r.Envelope, r.Event)
		})
	})
	if err != nil {
		return nil, err
	}
	view := domainView{domain: state.Domain(id), decision: state.Decision(id), instances: state.Instances(id), asOf: at}
	if view.domain != nil {
		if at.Time.IsZero() { // the event itself has been purged
			view.asOf.Time = state.Time
		}
		return view.json(after, limitOr(limit)), nil
	}
	if absent.Added, err = c.added(ctx, id, at.Seq+1); err != nil {
		return nil, err
	}
	return nil, absent
}

// Relate calls hear with the events of a domain, its decisions and its instances (or
// one of them; "" for all) up to what At gave, in order. begin is given first what is
// known from before the first of them. Where the log is purged meanwhile it begins anew,
// with begin. The error is as At says.
func (c *Chronicle) Relate(
	ctx context.Context, id events.DomainID, instance string, at AsOf, begin func(*events.State), hear func(*events.Recorded),
) error {
	keys := id.AllInstances()
	if instance != "" {
		keys = id.InstanceKey(instance)
	}
	return c.hold(ctx, func(point PurgePoint) error {
		state, err := c.state(ctx, point, id, at)
		if err != nil {
			return err
		}
		begin(state)
		return c.relate(ctx, id, keys, state, at, hear)
	})
}

// relate calls hear with what is behind a state.
func (c *Chronicle) relate(ctx context.Context, id events.DomainID, instances events.Key, state *events.State, at AsOf, hear func(*events.Recorded)) error {
	return c.log.History(ctx, Query{
		Keys: []events.Key{id.Key(), id.DecisionKey(), instances}, From: Point{Seq: state.Seq + 1}, To: Point{Seq: at.Seq},
	}, func(r *events.Recorded) error {
		hear(r)
		return nil
	})
}

// hold is Origin.Hold.
func (c *Chronicle) hold(ctx context.Context, read func(PurgePoint) error) error {
	end, err := c.log.End(ctx)
	if err != nil {
		return err
	}
	return c.origin.Hold(ctx, end.Created, read)
}

// state is what is known of a domain from before the purge point.
func (c *Chronicle) state(ctx context.Context, point PurgePoint, id events.DomainID, at AsOf) (*events.State, error) {
	if at.Seq < point.Seq {
		return nil, fmt.Errorf("%w up to %d", ErrPurged, point.Seq)
	}
	return c.origin.Documents(ctx, point, id.Keys()...)
}

// errEnough ends a reading.
var errEnough = errors.New("projections: enough was read")

// added gives the first event from a sequence on that adds a domain; nil: none does.
func (c *Chronicle) added(ctx context.Context, id events.DomainID, from uint64) (added *AsOf, err error) {
	err = c.log.History(ctx, Query{Keys: []events.Key{id.Key()}, From: Point{Seq: from}}, func(r *events.Recorded) error {
		if _, ok := r.Event.(events.DomainAdded); !ok {
			return nil
		}
		added = &AsOf{Seq: r.Seq, Time: r.Time}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return added, err
}

// DomainOf gives the domain that an owner's instance is or was of; ErrNotFound where
// the owner has had no such instance.
func (c *Chronicle) DomainOf(ctx context.Context, owner, instance string) (id events.DomainID, err error) {
	err = c.log.History(ctx, Query{Keys: []events.Key{events.AnyInstance(owner, instance)}}, func(r *events.Recorded) error {
		id, _, _ = r.Key.Parts()
		return errEnough
	})
	switch {
	case errors.Is(err, errEnough):
		return id, nil
	case err == nil:
		err = fmt.Errorf("instance %q of %q: %w", instance, owner, ErrNotFound)
	}
	return id, err
}

// Any reports whether the log has an event of one of the keys.
func (c *Chronicle) Any(ctx context.Context, keys []events.Key) (bool, error) {
	err := c.log.History(ctx, Query{Keys: keys}, func(*events.Recorded) error { return errEnough })
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

// AbsentError is returned for a domain that there was not at a point of the log.
type AbsentError struct {
	Domain  events.DomainID
	At      AsOf
	Removed *AsOf // when the last one of the name had gone; nil: there was none before
	Added   *AsOf // when the next one came; nil: none has
}

func (e *AbsentError) Error() string {
	text := fmt.Sprintf("you had no domain %q as of event %d (%s)", e.Domain.Name, e.At.Seq, e.At.Time.UTC().Format(time.RFC3339))
	if e.Removed != nil {
		text += fmt.Sprintf(": it had gone at event %d (%s)", e.Removed.Seq, e.Removed.Time.UTC().Format(time.RFC3339))
	}
	if e.Added != nil {
		text += fmt.Sprintf("; it was added at event %d (%s)", e.Added.Seq, e.Added.Time.UTC().Format(time.RFC3339Nano))
	}
	return text
}

// Unwrap makes it an ErrNotFound.
func (e *AbsentError) Unwrap() error { return ErrNotFound }

// HistoryQuery asks for a page of history.
type HistoryQuery struct {
	Keys         []events.Key
	Reader       string          // the caller; who else has changed a definition is left out
	Since, Until Point           // zero: all there is
	Types        map[string]bool // the event types that are wanted; nil: all
	After        uint64          // only what is behind this sequence
	Limit        int             // events at most
	Room         int             // bytes of them at most
}

// HistoryPage is a page of it. There may be more events even where it has fewer than
// were asked for.
type HistoryPage struct {
	Events []json.RawMessage `json:"events"`         // CloudEvents, the oldest first
	Next   uint64            `json:"next,omitempty"` // go on after it; 0: that is all
}

const (
	// mostLooked is how many events are looked at for one page.
	mostLooked = 200_000
	// longestLook is for how long.
	longestLook = 3 * time.Second
)

// Page gives a page of history.
func (c *Chronicle) Page(ctx context.Context, q HistoryQuery) (HistoryPage, error) {
	page := HistoryPage{Events: []json.RawMessage{}}
	read := Query{Keys: events.Narrow(q.Keys, q.Types), From: q.Since, To: q.Until}
	if len(read.Keys) == 0 { // which would be all
		return page, nil
	}
	if q.After > 0 {
		read.From = Point{Seq: q.After + 1}
	}
	looked, room, began := 0, q.Room, time.Now()
	last := q.After // as far as the page has got
	err := c.log.History(ctx, read, func(r *events.Recorded) error {
		if looked++; looked > mostLooked || looked%1000 == 0 && time.Since(began) > longestLook {
			page.Next = last
			return errEnough
		}
		since := r.Seq >= q.Since.Seq && !r.Time.Before(q.Since.Time)
		if since && (q.Types == nil || q.Types[r.Type]) {
			line := fitting(discreet(r, q.Reader), q.Room)
			if len(page.Events) == q.Limit || len(line)+1 > room {
				page.Next = last
				return errEnough
			}
			room -= len(line) + 1 // and a comma
			page.Events = append(page.Events, line)
		}
		last = r.Seq
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return page, err
}

// discreet is an event without the name of another caller, which the events of a
// definition have: in the actor, before the command id, and, as a checksum, in the seal.
func discreet(r *events.Recorded, reader string) *events.Recorded {
	if r.Key.Kind() != events.KindDefinition || r.Actor == reader {
		return r
	}
	nameless := *r
	nameless.Header = maps.Clone(r.Header)
	for _, name := range []string{events.HeaderActor, events.HeaderCausation, events.HeaderSeal} {
		delete(nameless.Header, name)
	}
	return &nameless
}

// fitting is an event as a CloudEvent. One that fits no message is without its body,
// and says with the attribute leftout how many bytes that had.
func fitting(r *events.Recorded, room int) []byte {
	line := r.AppendCloudEvent(nil)
	if len(line)+1 <= room {
		return line
	}
	short := *r
	short.Body = nil
	line = short.AppendCloudEvent(nil)
	return append(line[:len(line)-1], `,"leftout":"`+strconv.Itoa(len(r.Body))+`"}`...)
}
