package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// The ports' smallest possible sides, for what does not depend on JetStream.

var (
	created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dom     = events.DomainID{Owner: "o", Name: "d"}
)

// at is so many seconds after the stream was created.
func at(seconds int) time.Time { return created.Add(time.Duration(seconds) * time.Second) }

type entry struct {
	env events.Envelope
	ev  events.Event
}

// memLog is a log in memory.
type memLog struct {
	mu      sync.Mutex
	entries []entry       // sequence n at n-1
	grown   chan struct{} // closed when entries or deaf change
	deaf    bool          // tails hear of nothing new
	starts  []projections.TailStart
	ends    int                                                            // questions for the end
	end     func(ctx context.Context, n int) (projections.Position, error) // answers the nth of them; nil: the end
}

func newLog() *memLog { return &memLog{grown: make(chan struct{})} }

// add appends an event at a second, by default its sequence.
func (l *memLog) add(key events.Key, ev events.Event, more ...func(*events.Envelope)) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := len(l.entries) + 1
	env := events.Envelope{Key: key, Type: ev.Type(), Seq: uint64(seq), Time: at(seq), ID: fmt.Sprint("id", seq)}
	for _, change := range more {
		change(&env)
	}
	l.entries = append(l.entries, entry{env, ev})
	l.wake()
	return env.Seq
}

func (l *memLog) setDeaf(deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = deaf
	l.wake()
}

func (l *memLog) wake() {
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *memLog) questions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends
}

func (l *memLog) tails() []projections.TailStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]projections.TailStart(nil), l.starts...)
}

// fold is the fold of the first n events.
func (l *memLog) fold(n int) *events.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := events.NewState()
	for _, e := range l.entries[:n] {
		events.Apply(s, e.env, e.ev)
	}
	return s
}

// End implements projections.Source, as do the methods below.
func (l *memLog) End(ctx context.Context) (projections.Position, error) {
	l.mu.Lock()
	l.ends++
	n, end := l.ends, l.end
	p := projections.Position{Seq: uint64(len(l.entries)), Created: created}
	l.mu.Unlock()
	if end != nil {
		return end(ctx, n)
	}
	return p, nil
}

func (l *memLog) EventID(_ context.Context, seq uint64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq < 1 || seq > uint64(len(l.entries)) {
		return "", projections.ErrNotFound
	}
	return l.entries[seq-1].env.ID, nil
}

func (l *memLog) Tail(ctx context.Context, start projections.TailStart, apply func(events.Envelope, events.Event)) error {
	l.mu.Lock()
	l.starts = append(l.starts, start)
	n, deaf := 0, l.deaf
	for n < len(l.entries) {
		e := l.entries[n].env
		if e.Seq >= start.From || !start.Since.IsZero() && !e.Time.Before(start.Since) {
			break
		}
		n++
	}
	l.mu.Unlock()
	for {
		l.mu.Lock()
		grown := l.grown
		var next []entry
		if !deaf && !l.deaf {
			next = l.entries[n:]
		}
		deaf = deaf || l.deaf // and stays so, as the tail of a dead node does
		l.mu.Unlock()
		for _, e := range next {
			apply(e.env, e.ev)
			n++
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *memLog) Keys(_ context.Context, after, upTo uint64, seen func(events.Key)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.env.Seq > after && e.env.Seq <= upTo {
			seen(e.env.Key)
		}
	}
	return nil
}

// memBucket is a state bucket in memory.
type memBucket struct {
	mu       sync.Mutex
	docs     map[events.Key]string
	revision uint64
	writes   int
	batches  []batch
	reads    func() // called before each read; nil: nothing
	readErr  error
}

// batch is one write of a projector.
type batch struct {
	Entries    int
	Checkpoint projections.Checkpoint
}

// set makes the bucket hold a state with a checkpoint, which may be changed.
func (b *memBucket) set(s *events.State, more ...func(*projections.Checkpoint)) {
	c := projections.Checkpoint{Seq: s.Seq, Time: s.Time, EventID: fmt.Sprint("id", s.Seq), Digest: s.Digest, Created: created, FoldVersion: events.FoldVersion}
	for _, change := range more {
		change(&c)
	}
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	docs := map[events.Key]string{events.CheckpointKey: string(data)}
	for k, d := range s.Documents() {
		docs[k] = string(d.AppendJSON(nil))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.docs = docs
	b.revision++
}

func (b *memBucket) state() (docs map[events.Key]string, writes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.docs), b.writes
}

// Ensure implements projections.Bucket, as do the methods below.
func (b *memBucket) Ensure(context.Context) error { return nil }

func (b *memBucket) Read(_ context.Context, keys ...events.Key) ([]projections.Entry, error) {
	if b.reads != nil {
		b.reads()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readErr != nil {
		return nil, b.readErr
	}
	var found []projections.Entry
	for k, doc := range b.docs {
		for _, key := range keys {
			prefix, wild := strings.CutSuffix(string(key), "*")
			if k == key || wild && strings.HasPrefix(string(k), prefix) {
				found = append(found, projections.Entry{Key: k, Value: []byte(doc), Revision: b.revision})
			}
		}
	}
	return found, nil
}

func (b *memBucket) All(_ context.Context, each func(projections.Entry) error) error {
	b.mu.Lock()
	docs, revision := maps.Clone(b.docs), b.revision
	b.mu.Unlock()
	for k, doc := range docs {
		if err := each(projections.Entry{Key: k, Value: []byte(doc), Revision: revision}); err != nil {
			return err
		}
	}
	return nil
}

func (b *memBucket) Newest(ctx context.Context, key events.Key) (projections.Entry, error) {
	entries, err := b.Read(ctx, key)
	if err == nil && len(entries) == 0 {
		err = projections.ErrNotFound
	}
	if err != nil {
		return projections.Entry{}, err
	}
	return entries[0], nil
}

func (b *memBucket) Strays(context.Context, uint64) ([]events.Key, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return nil, b.revision, nil
}

func (b *memBucket) Write(_ context.Context, entries []projections.Entry, checkpoint []byte, revision uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if revision != b.revision {
		return 0, &events.ConflictError{Guard: events.Guard{Key: events.CheckpointKey, Seq: revision}, Got: b.revision}
	}
	if b.docs == nil {
		b.docs = map[events.Key]string{}
	}
	var c projections.Checkpoint
	if err := json.Unmarshal(checkpoint, &c); err != nil {
		return 0, err
	}
	b.batches = append(b.batches, batch{len(entries), c})
	for _, e := range entries {
		if _, _, ok := e.Key.Parts(); !ok || e.Key.Kind() == events.KindPass {
			panic("no key of a document: " + e.Key)
		}
		if e.Value == nil {
			delete(b.docs, e.Key)
		} else {
			b.docs[e.Key] = string(e.Value)
		}
	}
	b.docs[events.CheckpointKey] = string(checkpoint)
	b.revision++
	b.writes++
	return b.revision, nil
}

// follow starts a replica and returns when it has caught up.
func follow(t *testing.T, log *memLog, bucket *memBucket) *projections.Replica {
	t.Helper()
	r := projections.NewReplica(log, bucket, &memBucket{}, slog.New(slog.DiscardHandler))
	started := make(chan struct{})
	run(t, func(ctx context.Context) { _ = r.Run(ctx, func() { close(started) }) })
	select {
	case <-started:
	case <-time.After(10 * time.Second):
		t.Fatal("the replica does not catch up")
	}
	return r
}

// run runs f until the test ends.
func run(t *testing.T, f func(context.Context)) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}
