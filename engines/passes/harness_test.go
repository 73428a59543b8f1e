package passes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

var dom = events.DomainID{Owner: "o", Name: "d"}

// fed is a log that a test adds events to.
type fed struct {
	events chan fedEvent
	end    atomic.Uint64
}

type fedEvent struct {
	env events.Envelope
	ev  events.Event
}

func (f *fed) End(context.Context) (projections.Position, error) {
	return projections.Position{Created: began, Seq: f.end.Load()}, nil
}

func (*fed) EventID(_ context.Context, seq uint64) (string, error) { return fmt.Sprint("id", seq), nil }

func (f *fed) Tail(ctx context.Context, _ projections.TailStart, apply func(events.Envelope, events.Event)) error {
	for {
		select {
		case e := <-f.events:
			f.end.Store(e.env.Seq)
			apply(e.env, e.ev)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (*fed) Keys(context.Context, uint64, uint64, func(events.Key)) error { return nil }

// noBucket is a state bucket that is not there yet.
type noBucket struct{ projections.Bucket }

func (noBucket) Read(context.Context, ...events.Key) ([]projections.Entry, error) {
	return nil, projections.ErrNotFound
}

func (noBucket) Newest(context.Context, events.Key) (projections.Entry, error) {
	return projections.Entry{}, projections.ErrNotFound
}

// bench is a term with an outbox, a clock that the test drives, and what was sent.
type bench struct {
	t    testing.TB
	log  *fed
	seq  uint64
	term *Term
	now  time.Time
	sent []message
	fail bool // the network takes nothing

	recorded []events.Recorded // all that was added to the log
}

type message struct {
	subject string
	headers map[string][]string
	body    string
}

// Send implements Sender.
func (b *bench) Send(subject string, headers map[string][]string, body []byte) error {
	if b.fail {
		return errors.New("no network")
	}
	b.sent = append(b.sent, message{subject, headers, string(body)})
	return nil
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, log: &fed{events: make(chan fedEvent)}, now: began}
	logger := slog.New(slog.DiscardHandler)
	replica := projections.NewReplica(b.log, noBucket{}, noBucket{}, logger)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = replica.Run(ctx, nil)
	}()
	t.Cleanup(func() { cancel(); <-done })
	b.term = newTerm(NewLeader(Config{
		Prefix: "epum", ServiceName: "svc", Replica: replica, Sender: b, Logger: logger, RetryInterval: 5 * time.Second, TerminateLate: 10 * time.Minute,
		Clock: func() time.Time { return b.now }, Engines: engines.NewRegistry("simplest", simplest.Kind("local")),
	}))
	b.term.inputs = newInputs(ctx, b.term)
	b.term.epoch, b.term.elected, b.term.began = 7, at(1), b.now
	return b
}

// fold adds an event to the log, a second after the one before, and returns when
// the replica has folded it.
func (b *bench) fold(key events.Key, ev events.Event) events.Key {
	b.t.Helper()
	b.put(events.Envelope{Key: key, Time: at(int(b.seq + 1))}, ev)
	return key
}

// put adds an event to the log and returns when the replica has folded it.
func (b *bench) put(env events.Envelope, ev events.Event) {
	b.t.Helper()
	b.seq++
	env.Seq, env.Type, env.ID = b.seq, ev.Type(), cmp.Or(env.ID, fmt.Sprint("id", b.seq))
	b.recorded = append(b.recorded, events.Recorded{Envelope: env, Event: ev})
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	select {
	case b.log.events <- fedEvent{env, ev}:
	case <-ctx.Done():
		b.t.Fatal("the replica does not tail the log")
	}
	if err := b.term.Replica.WaitFor(ctx, b.seq); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) launch(id, site string) events.Key {
	return b.fold(dom.InstanceKey(id), events.LaunchRequested{LaunchID: "l-" + id, DeployableType: "w", Site: site, Allocation: "small"})
}

// subjects are the messages sent since the last call, in any order.
func (b *bench) subjects() []string {
	list := []string{}
	for _, m := range b.sent {
		var body struct {
			Nodes []string `json:"nodes"`
			IDs   []string `json:"instance_ids"`
		}
		if err := json.Unmarshal([]byte(m.body), &body); err != nil {
			b.t.Fatal(err)
		}
		ids := append(body.Nodes, body.IDs...)
		slices.Sort(ids)
		list = append(list, strings.TrimPrefix(m.subject, "epum.provisioner.")+" "+strings.Join(ids, " "))
	}
	slices.Sort(list)
	b.sent = nil
	return list
}

func (b *bench) want(what string, subjects ...string) {
	b.t.Helper()
	if diff := gocmp.Diff(append([]string{}, subjects...), b.subjects()); diff != "" {
		b.t.Errorf("%s (-want +sent):\n%s", what, diff)
	}
}
