package tests

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

// logged is one event as the stream has it.
type logged struct {
	key    events.Key
	seq    uint64
	time   time.Time
	header nats.Header
	body   []byte
}

func (l logged) typ() string { return l.header.Get(events.HeaderType) }
func (l logged) id() string  { return l.header.Get(events.HeaderID) }

func (l logged) epoch() uint64 {
	n, _ := strconv.ParseUint(l.header.Get(events.HeaderCEEpoch), 10, 64)
	return n
}

func (l logged) decode() events.Event { return events.Decode(l.typ(), l.body) }

func (l logged) envelope() events.Envelope {
	return events.Envelope{
		Key: l.key, Type: l.typ(), Seq: l.seq, Time: l.time.UTC(), ID: l.id(), Actor: l.header.Get(events.HeaderActor),
		CausationID: l.header.Get(events.HeaderCausation), Epoch: l.epoch(),
	}
}

// log gives all events, straight from the stream. It tries again where a server
// goes meanwhile.
func (e *epum) log() (all []logged) {
	e.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if all, err = e.tryLog(); err == nil {
			return all
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("read the log: %v", err)
		}
	}
}

func (e *epum) tryLog() (all []logged, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	stream, err := e.js.Stream(ctx, e.prefix.Stream(events.StreamEvents))
	if err != nil {
		return nil, err
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return nil, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{InactiveThreshold: time.Minute})
	if err != nil {
		return nil, err
	}
	defer func() { // a stream has a limit of them
		if info := consumer.CachedInfo(); info != nil {
			_ = stream.DeleteConsumer(ctx, info.Name)
		}
	}()
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(natsjs.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		all = append(all, logged{
			key: e.prefix.EventKey(msg.Subject()), seq: meta.Sequence.Stream, time: meta.Timestamp,
			header: msg.Headers(), body: msg.Data(),
		})
		if meta.Sequence.Stream >= last {
			return all, nil
		}
	}
}

// logOf gives the events of a type; "": of all types.
func (e *epum) logOf(typ string) []logged {
	e.t.Helper()
	var some []logged
	for _, l := range e.log() {
		if l.typ() == typ {
			some = append(some, l)
		}
	}
	return some
}

func (e *epum) eventStream() natsjs.Stream {
	e.t.Helper()
	s, err := e.js.Stream(e.ctx(), e.prefix.Stream(events.StreamEvents))
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// fold folds the log, from the stream alone.
func (e *epum) fold() *events.State {
	e.t.Helper()
	s := events.NewState()
	for _, l := range e.log() {
		events.Apply(s, l.envelope(), l.decode())
	}
	return s
}

// appendByHand appends an event that no epum wrote.
func (e *epum) appendByHand(key events.Key, typ, body string) uint64 {
	e.t.Helper()
	msg := nats.NewMsg(e.prefix.Event(key))
	msg.Header.Set(events.HeaderSpecVersion, events.SpecVersion)
	msg.Header.Set(events.HeaderID, "by-hand-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	msg.Header.Set(events.HeaderSource, "/by/hand")
	msg.Header.Set(events.HeaderType, typ)
	msg.Header.Set(events.HeaderCETime, time.Now().UTC().Format(time.RFC3339Nano))
	msg.Header.Set(events.HeaderActor, "hand")
	msg.Data = []byte(body)
	ack, err := e.js.PublishMsg(e.ctx(), msg)
	if err != nil {
		e.t.Fatal(err)
	}
	return ack.Sequence
}

// state is the state bucket as any NATS client sees it.
func (e *epum) state() natsjs.KeyValue {
	e.t.Helper()
	kv, err := e.js.KeyValue(e.ctx(), e.prefix.Stream(events.BucketState))
	if err != nil {
		e.t.Fatal(err)
	}
	return kv
}

// documents gives all documents of the state bucket, without the checkpoint.
func (e *epum) documents() map[events.Key]string {
	e.t.Helper()
	ctx := e.ctx()
	entries, err := e.state().WatchAll(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = entries.Stop() }()
	docs := map[events.Key]string{}
	for {
		select {
		case entry, open := <-entries.Updates():
			switch {
			case !open:
				e.t.Fatalf("of the bucket's documents only %d came", len(docs))
			case entry == nil:
				delete(docs, events.CheckpointKey)
				return docs
			case entry.Operation() == natsjs.KeyValuePut:
				docs[events.Key(entry.Key())] = string(entry.Value())
			default:
				delete(docs, events.Key(entry.Key()))
			}
		case <-ctx.Done():
			e.t.Fatalf("of the bucket's documents %d came in time", len(docs))
		}
	}
}

// checkpoint gives the state bucket's checkpoint; empty where there is none.
func (e *epum) checkpoint() map[string]any {
	c := map[string]any{}
	kv, err := e.js.KeyValue(e.ctx(), e.prefix.Stream(events.BucketState))
	if err != nil {
		return c
	}
	entry, err := kv.Get(e.ctx(), string(events.CheckpointKey))
	if err == nil {
		err = json.Unmarshal(entry.Value(), &c)
	}
	if err != nil {
		return map[string]any{}
	}
	return c
}

// projected waits until the bucket is the fold of the whole log.
func (e *epum) projected() {
	e.t.Helper()
	eventually(e.t, "the bucket is as new as the log", func() bool {
		info, err := e.eventStream().Info(e.ctx())
		c := e.checkpoint()
		return err == nil && c["seq"] == float64(info.State.LastSeq) && c["to"] == nil && c["fold_version"] == float64(events.FoldVersion)
	})
}

// stranger holds the lease without being an epum.
type stranger struct {
	e    *epum
	stop context.CancelFunc
	done chan struct{}
}

// takeLeaseAway takes the lease from whoever has it and keeps it until release.
func (e *epum) takeLeaseAway() *stranger {
	e.t.Helper()
	kv, err := e.js.KeyValue(e.ctx(), e.prefix.Stream(events.BucketLeases))
	if err != nil {
		e.t.Fatal(err)
	}
	// One write that replaces the holder: a delete first would let others in between.
	if _, err := kv.Put(e.ctx(), "leader", []byte("stranger")); err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stranger{e: e, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = kv.Put(ctx, "leader", []byte("stranger"))
			case <-ctx.Done():
				return
			}
		}
	}()
	e.t.Cleanup(func() { cancel(); <-s.done })
	return s
}

// release gives the lease back.
func (s *stranger) release() {
	s.e.t.Helper()
	s.stop()
	<-s.done
	kv, err := s.e.js.KeyValue(s.e.ctx(), s.e.prefix.Stream(events.BucketLeases))
	if err == nil {
		err = kv.Delete(s.e.ctx(), "leader")
	}
	if err != nil {
		s.e.t.Fatal(err)
	}
}

// noLeader waits until nobody answers as the leader.
func (e *epum) noLeader() {
	e.t.Helper()
	eventually(e.t, "nobody leads", func() bool {
		_, err := e.nc.Request(e.prefix.LeaderCall("run_pass"), []byte(`{"pass":"reap"}`), time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
}

// recorder keeps what a process logs.
type recorder struct {
	mu   sync.Mutex
	text strings.Builder
	slog.Handler
}

func newRecorder() *recorder {
	r := &recorder{}
	r.Handler = slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})
	return r
}

// Write implements io.Writer.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// said reports whether something was logged.
func (r *recorder) said(what string) bool { return r.times(what) > 0 }

// times is how often something was logged.
func (r *recorder) times(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), what)
}
