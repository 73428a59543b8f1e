package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// leaseKey is the only key of the bucket.
	leaseKey = "leader"
	// leasePoll is how often a waiter looks by itself, should a marker be lost.
	leasePoll = time.Second
	// leaseRenewals is how often within its time a lease is renewed.
	leaseRenewals = 3
	// leaseMargin is the part of a lease that its holder does not use: room for
	// clocks that run apart, and for a late timer.
	leaseMargin = 10
	// releasePatience bounds a release; an unreleased lease expires.
	releasePatience = 2 * time.Second
	// headerTake is in every message of one holding; its value is unique to it.
	headerTake = "Epum-Lease"
)

// errLeaseLost is the cause of a holding that somebody else ended.
var errLeaseLost = errors.New("jetstream: the lease is lost")

// errLeaseOver is the cause of a holding that was not renewed in time.
var errLeaseOver = errors.New("jetstream: the lease was not renewed in time")

// Lease is the leader's lease: one key in the bucket of leases that its holder
// renews (design §6). It is safe for concurrent use.
type Lease struct {
	nc      *nats.Conn
	pub     *publisher
	stream  string
	subject string
	ttl     time.Duration
	log     *slog.Logger
	create  func(context.Context) error // the bucket, where there is none
	passed  atomic.Uint64               // the stray message that WaitFree has found to be in nobody's lease's place
}

// Lease is the cell's lease.
func (c *Cell) Lease() *Lease {
	return &Lease{
		nc:      c.nc,
		pub:     c.pub,
		stream:  c.streams.leases.Name,
		subject: "$KV." + c.cfg.Prefix.Stream(events.BucketLeases) + "." + leaseKey,
		ttl:     c.cfg.LeaseTTL,
		log:     c.cfg.Logger,
		create:  func(ctx context.Context) error { return reconcile(ctx, c.js, c.streams.leases, c.cfg.Logger) },
	}
}

// Holder gives the process that holds the lease; projections.ErrNotFound where
// nobody does.
func (l *Lease) Holder(ctx context.Context) (string, error) {
	m, held, err := l.current(ctx)
	if err != nil {
		return "", fmt.Errorf("holder of the lease: %w", err)
	}
	if !held {
		return "", fmt.Errorf("holder of the lease: %w", projections.ErrNotFound)
	}
	return string(m.Data), nil
}

// stray reports whether a message of the key is neither a lease, which is the name of
// a process, nor says that there is none. Whoever asks a server for something may name
// the key as the place for the answer: it hides whether somebody has the lease.
func stray(m stored) bool {
	return m.copied || bytes.HasPrefix(m.Data, []byte("{")) || m.Seq > 0 && len(m.Data) == 0 && !purged(m.header)
}

// current gives the last message of the key, also where it says that nobody holds
// the lease, or is stray; its sequence is 0 where there is none.
func (l *Lease) current(ctx context.Context) (stored, bool, error) {
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Last: l.subject})
	if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeStreamNotFound {
		// Somebody has deleted the bucket. Who held the lease cannot renew it, and
		// the fence keeps two leaders apart.
		l.log.Error("the bucket of leases is gone: creating it again", "stream", l.stream)
		return stored{}, false, l.create(ctx)
	}
	if notFound(err) {
		return stored{}, false, nil
	}
	return m, err == nil && !purged(m.header) && !stray(m), err
}

// WaitFree returns when the lease can be taken, or with ctx's error. It watches the
// key, and looks by itself once a second. A stray message in the lease's place goes
// with time as a lease does; where others follow it, so that it never goes, the lease
// can be taken once it was nowhere seen for as long as it lasts.
func (l *Lease) WaitFree(ctx context.Context) error {
	for ctx.Err() == nil {
		if l.watch(ctx) {
			return nil
		}
	}
	return ctx.Err()
}

// watch is one life of a watcher; it says whether the lease can be taken.
func (l *Lease) watch(ctx context.Context) bool {
	f, err := openFeed(ctx, l.nc, l.stream, natsjs.ConsumerConfig{DeliverPolicy: natsjs.DeliverNewPolicy, FilterSubject: l.subject}, smallBuffer)
	if err == nil {
		defer f.close()
	}
	var since time.Time // since when only strays were seen; zero: they were not
	for {
		m, held, readErr := l.current(ctx)
		switch {
		case readErr != nil || held:
			since = time.Time{}
		case !stray(m):
			return true
		case since.IsZero():
			since = time.Now()
			l.log.Warn("a message that is no lease, somebody's answer maybe, is in the place of the lease", "seq", m.Seq)
		case time.Since(since) > l.ttl:
			l.passed.Store(m.Seq)
			return true
		}
		if err != nil {
			sleep(ctx, leasePoll)
			return false
		}
		wait, cancel := context.WithTimeout(ctx, leasePoll)
		next, info, readErr := f.read(wait)
		cancel()
		switch {
		case ctx.Err() != nil || errors.Is(readErr, ErrTailBroken):
			return false
		case readErr == nil && !stray(stored{Seq: info.seq, Data: next.Data, header: next.Header, copied: events.Copied(next.Header)}):
			since = time.Time{}
		}
	}
}

// Take takes the lease for a process, and renews it three times within its time
// while healthy says so, until release is called or ctx ends. held ends when the
// lease is lost, and by this process's own monotonic clock before it can expire;
// context.Cause says why. release ends it, waits for the renewal to stop, and gives
// the lease back if it still is this holding's; it may be called more than once.
// The error is events.ErrLeaseHeld where another holds it, and wraps
// events.ErrUnavailable where the bucket cannot be reached.
func (l *Lease) Take(ctx context.Context, process string, healthy func() bool) (held context.Context, release func(), err error) {
	h := &holding{lease: l, process: process, take: uuid.NewString(), healthy: healthy}
	until, err := h.start(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("take the lease: %w", err)
	}
	held, cancel := context.WithCancelCause(ctx)
	h.over = time.AfterFunc(time.Until(until), func() { cancel(errLeaseOver) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.renew(held, cancel)
	}()
	release = sync.OnceFunc(func() {
		cancel(context.Canceled)
		h.over.Stop()
		<-done
		h.giveBack()
	})
	return held, release, nil
}

// holding is one holding of the lease, by one process.
type holding struct {
	lease    *Lease
	process  string
	take     string // unique to this holding
	healthy  func() bool
	revision uint64
	over     *time.Timer // ends it when it was not renewed
}

// start takes the lease and says until when it may be used.
func (h *holding) start(ctx context.Context) (until time.Time, err error) {
	// A lease that expires in between changes the sequence to expect.
	for range 5 {
		m, held, err := h.lease.current(ctx)
		if err != nil {
			return time.Time{}, fmt.Errorf("%w: %w", events.ErrUnavailable, err)
		}
		switch {
		case held:
			return time.Time{}, fmt.Errorf("%w: %s", events.ErrLeaseHeld, m.Data)
		case stray(m) && m.Seq != h.lease.passed.Load():
			return time.Time{}, fmt.Errorf("%w: message %d, which is no lease, hides who has it", events.ErrLeaseHeld, m.Seq)
		}
		until, err = h.put(ctx, m.Seq)
		if _, conflict := errors.AsType[*events.ConflictError](err); !conflict {
			return until, err
		}
	}
	return time.Time{}, events.ErrLeaseHeld
}

// put writes the lease behind a revision and says until when it may be used.
func (h *holding) put(ctx context.Context, revision uint64) (until time.Time, err error) {
	sent := time.Now()
	seq, err := h.write(ctx, revision, &nats.Msg{Subject: h.lease.subject, Data: []byte(h.process), Header: nats.Header{}})
	if err != nil {
		return time.Time{}, err
	}
	h.revision = seq
	return sent.Add(h.lease.ttl - h.lease.ttl/leaseMargin), nil
}

func (h *holding) write(ctx context.Context, revision uint64, m *nats.Msg) (uint64, error) {
	l, id := h.lease, uuid.NewString()
	m.Header[events.HeaderID] = []string{id}
	m.Header[headerTake] = []string{h.take}
	m.Header[events.HeaderGuard] = []string{strconv.FormatUint(revision, 10)}
	guard := events.Guard{Key: leaseKey, Seq: revision}
	return write{
		what: "write the lease",
		send: func(ctx context.Context) (pubAck, error) { return l.pub.send(ctx, m, min(ackPatience, l.ttl/4)) },
		landed: func(ctx context.Context, _ bool) (uint64, bool, error) {
			last, _, err := l.current(ctx)
			return last.Seq, err == nil && events.Header(last.header, events.HeaderID) == id, err
		},
		conflict:   func(context.Context) error { return &events.ConflictError{Guard: guard} },
		repeatable: true,
	}.do(ctx)
}

// renew renews until held ends.
func (h *holding) renew(held context.Context, cancel context.CancelCauseFunc) {
	interval := h.lease.ttl / leaseRenewals
	for wait := interval; sleep(held, wait); {
		wait = interval
		if !h.healthy() {
			continue
		}
		until, err := h.renewOnce(held)
		switch {
		case err == nil:
			h.over.Reset(time.Until(until))
		case errors.Is(err, errLeaseLost):
			h.lease.log.Warn("lease lost", "process", h.process, "error", err)
			cancel(err)
			return
		case held.Err() == nil:
			h.lease.log.Warn("lease not renewed", "process", h.process, "error", err)
			wait = interval / 10
		}
	}
}

func (h *holding) renewOnce(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, h.lease.ttl/2)
	defer cancel()
	until, err := h.put(ctx, h.revision)
	if _, conflict := errors.AsType[*events.ConflictError](err); !conflict {
		return until, err
	}
	last, _, err := h.lease.current(ctx)
	switch {
	case err != nil:
		return time.Time{}, err
	case stray(last): // nobody takes the lease for as long as this may be one
		h.lease.log.Warn("a message that is no lease, somebody's answer maybe, took the place of the lease: renewed over it", "seq", last.Seq)
	case events.Header(last.header, headerTake) != h.take || purged(last.header):
		return time.Time{}, fmt.Errorf("%w: %q has it", errLeaseLost, last.Data)
	}
	// That, or an earlier renewal landed whose answer was lost.
	h.revision = last.Seq
	return h.put(ctx, h.revision)
}

// giveBack deletes the lease if it still is this holding's.
func (h *holding) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	last, held, err := h.lease.current(ctx)
	if err == nil && held && events.Header(last.header, headerTake) == h.take {
		_, err = h.write(ctx, last.Seq, &nats.Msg{Subject: h.lease.subject, Header: nats.Header{headerKVOperation: {"DEL"}}})
	}
	if err != nil {
		h.lease.log.Warn("lease not released", "process", h.process, "error", err)
	}
}
