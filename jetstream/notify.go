package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// notifyConsumer is the durable on the log that remembers which events
	// subscribers were told of.
	notifyConsumer = "notify"
	// notifyAckWait is when an event comes again that a deposed leader fetched
	// and never acknowledged; what a new one lacks comes at once, by Rewind.
	notifyAckWait = 30 * time.Second
	// notifyBatch is how many events are fetched at once.
	notifyBatch = 256
	// notifyInFlight is how many notifications wait for the stream at once.
	notifyInFlight = 1000
)

// Notices is the queue of instance events for the notifier, and the stream of
// notifications (design §4).
type Notices struct {
	nc     *nats.Conn
	js     natsjs.JetStream
	pub    *publisher
	events *Log
	stream string // of the log
	prefix events.Prefix
	log    *slog.Logger
}

var _ projections.Notices = (*Notices)(nil)

// Notices is the cell's queue of instance events for the notifier.
func (c *Cell) Notices() *Notices {
	return &Notices{
		nc: c.nc, js: c.js, pub: c.pub, events: c.Log(), stream: c.streams.events.Name, prefix: c.cfg.Prefix, log: c.cfg.Logger,
	}
}

// config is the durable consumer. Each event is acknowledged by itself: an ack
// then says that whoever sends it has stored the notifications of that event, and
// stays true however late it comes. One that acknowledged all before it would also
// cover events that another leader fetched: a deposed one, awake again, is handed
// what follows the new one's batch, and its ack would drop that batch if the new
// leader died with it. An ack of an event that a Rewind put back and that was not
// delivered again is ignored by the server: it comes again, under the same ids.
// So there is no limit of events that are out, which such a leader could use up.
func (n *Notices) config() natsjs.ConsumerConfig {
	return natsjs.ConsumerConfig{
		Durable:       notifyConsumer,
		Description:   "epum: events that subscribers were not told of yet",
		FilterSubject: n.prefix.Event("instance.>"),
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, // of those that deliver new ones only, none can be skipped
		AckPolicy:     natsjs.AckExplicitPolicy,
		AckWait:       notifyAckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
	}
}

// open creates the consumer, or updates it. It stays where it is: only a new one
// begins at the log's end.
func (n *Notices) open(ctx context.Context) error {
	return settle(ctx, "consumer "+notifyConsumer, func(ctx context.Context) error {
		want := n.config()
		have, err := n.js.Consumer(ctx, n.stream, notifyConsumer)
		switch {
		case errors.Is(err, natsjs.ErrConsumerNotFound):
			log, err := n.js.Stream(ctx, n.stream)
			if err != nil {
				return fmt.Errorf("jetstream: look up stream %s: %w", n.stream, err)
			}
			return n.create(ctx, log.CachedInfo().State.LastSeq+1)
		case err != nil:
			return fmt.Errorf("jetstream: look up consumer %s: %w", notifyConsumer, err)
		}
		is := have.CachedInfo().Config
		next := is // what is not relied on is the operator's, and where it began stays
		next.FilterSubject, next.FilterSubjects, next.HeadersOnly = want.FilterSubject, nil, false
		next.AckPolicy, next.AckWait, next.BackOff = want.AckPolicy, want.AckWait, nil
		next.MaxDeliver, next.MaxAckPending = want.MaxDeliver, want.MaxAckPending
		if reflect.DeepEqual(is, next) {
			return nil
		}
		if _, err = n.js.UpdateConsumer(ctx, n.stream, next); err != nil && !passing(err) {
			return fmt.Errorf("%w: consumer %s of stream %s: %w", ErrIncompatible, notifyConsumer, n.stream, err)
		}
		return err
	})
}

// create creates the consumer where there is none. Unless the log is empty too, it
// was deleted, or an older version has written the log.
func (n *Notices) create(ctx context.Context, begins uint64) error {
	want := n.config()
	want.OptStartSeq = begins
	if _, err := n.js.CreateConsumer(ctx, n.stream, want); err != nil {
		return fmt.Errorf("jetstream: create consumer %s: %w", notifyConsumer, err)
	}
	if begins > 1 {
		n.log.Error("the consumer of notifications was missing and is created: subscribers hear nothing of what was not told before it begins",
			"stream", n.stream, "consumer", notifyConsumer, "begins", begins)
	}
	return nil
}

// Rewind puts the consumer back to its ack floor: what was fetched and not
// acknowledged comes again, in the log's order, whoever has it now. Where the
// consumer is gone it is created from an event on.
func (n *Notices) Rewind(ctx context.Context, from uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	_, err := n.js.Consumer(ctx, n.stream, notifyConsumer) // a reset of none is not answered
	if errors.Is(err, natsjs.ErrConsumerNotFound) {
		return from - 1, n.create(ctx, from)
	}
	if err != nil {
		return 0, fmt.Errorf("look up the consumer of notifications: %w", err)
	}
	reset, err := n.js.ResetConsumer(ctx, n.stream, notifyConsumer)
	if err != nil {
		return 0, fmt.Errorf("rewind the consumer of notifications: %w", err)
	}
	return reset.ResetSeq - 1, nil
}

// Skip has the consumer go on behind upTo, if all up to done is acknowledged. It may
// put one back that is further on already: what was acknowledged then comes again. A
// consumer that an older version created cannot skip.
func (n *Notices) Skip(ctx context.Context, done, upTo uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	consumer, err := n.js.Consumer(ctx, n.stream, notifyConsumer)
	if err != nil {
		return false, fmt.Errorf("look up the consumer of notifications: %w", err)
	}
	switch floor := consumer.CachedInfo().AckFloor.Stream; {
	case floor < done:
		return false, nil
	case floor >= upTo:
		return true, nil
	}
	_, err = n.js.ResetConsumerToSequence(ctx, n.stream, notifyConsumer, upTo+1)
	if errors.Is(err, natsjs.ErrConsumerInvalidReset) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("have the consumer of notifications skip: %w", err)
	}
	return true, nil
}

// Fetch gives the events that the consumer has, at most 256. Where there are none it
// waits for the first at most for wait. It asks the server itself: the client's
// own fetch cannot tell that there is nothing from no answer.
func (n *Notices) Fetch(ctx context.Context, wait time.Duration) ([]projections.Notice, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+readPatience)
	defer cancel()
	body, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		NoWait  bool          `json:"no_wait"` // with expires: give what there is as soon as there is any
		Expires time.Duration `json:"expires,omitempty"`
	}{notifyBatch, true, wait})
	if err != nil {
		return nil, err
	}
	inbox := n.nc.NewInbox()
	answers := make(chan *nats.Msg, notifyBatch+1)
	sub, err := n.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("fetch notices: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := n.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+n.stream+"."+notifyConsumer, inbox, body); err != nil {
		return nil, fmt.Errorf("fetch notices: %w", err)
	}
	var batch []projections.Notice
	for len(batch) < notifyBatch {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, fmt.Errorf("fetch notices: %w", ctx.Err())
		}
		if status := events.Header(m.Header, "Status"); status != "" && len(m.Data) == 0 {
			if status == "404" || status == "408" { // no more
				return batch, nil
			}
			return nil, fmt.Errorf("fetch notices: status %s: %s", status, events.Header(m.Header, "Description"))
		}
		notice, err := n.notice(m)
		if err != nil {
			return nil, err
		}
		batch = append(batch, notice)
	}
	return batch, nil
}

func (n *Notices) notice(m *nats.Msg) (projections.Notice, error) {
	info, ok := parseMeta(m.Reply)
	if !ok {
		return projections.Notice{}, fmt.Errorf("fetch notices: a message without metadata: %q", m.Reply)
	}
	d := n.events.decode(m, info)
	return projections.Notice{
		Envelope: d.Envelope,
		Event:    d.Event,
		Done:     func() error { return n.nc.Publish(m.Reply, []byte("+ACK")) },
	}, nil
}

// Store publishes notifications, in order and many in flight at once, and returns
// when the stream has them all; one that it has already counts as stored. After an
// error all are to be stored again. One that the server refuses for good is logged
// and left out: no repeat could help, and the others must not wait for it.
func (n *Notices) Store(ctx context.Context, notifications []projections.Notification) error {
	for len(notifications) > 0 {
		part := notifications[:min(len(notifications), notifyInFlight)]
		notifications = notifications[len(part):]
		if err := n.storeAtOnce(ctx, part); err != nil {
			return fmt.Errorf("store notifications: %w", err)
		}
	}
	return nil
}

// storeAtOnce publishes all before it waits for the first answer.
func (n *Notices) storeAtOnce(ctx context.Context, part []projections.Notification) error {
	sent := make([]sentMessage, len(part)) // zero: refused
	defer func() { n.pub.forget(sent) }()
	for i, p := range part {
		m := &nats.Msg{
			Subject: n.prefix.Notify(p.Subscriber.Name, p.Subscriber.Op),
			Header:  nats.Header{headerMsgID: {p.ID}},
			Data:    p.Body,
		}
		var err error
		if sent[i], err = n.pub.publish(m); errors.Is(err, nats.ErrMaxPayload) {
			n.refused(p, err)
		} else if err != nil {
			return err
		}
	}
	late := time.NewTimer(ackPatience)
	defer late.Stop()
	for i, s := range sent {
		if s == (sentMessage{}) {
			continue
		}
		ack, err := n.pub.await(ctx, s, late.C)
		switch verdict := judge(ack, err); {
		case verdict == verdictRefused:
			n.refused(part[i], ack)
		case err != nil:
			return err
		case verdict != verdictStored:
			return ack
		}
	}
	return nil
}

func (n *Notices) refused(p projections.Notification, err error) {
	n.log.Error("notification cannot be stored and is lost", "subscriber", p.Subscriber.Name, "id", p.ID, "error", err)
}
