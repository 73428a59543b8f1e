package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
)

// presence is whether a domain is there, as far as its owner can know.
type presence int

const (
	maybe  presence = iota // a command that decides it is under way
	absent                 // it never was, or has gone
	there
)

// watch reads a domain all the time, and compares what it is told with what was
// acknowledged before it asked.
type watch struct {
	f      *cell
	domain string
	strict bool // every read has to be answered, and soon

	mu       sync.Mutex
	presence presence
	seq      uint64 // of the last acknowledged command
	asOf     uint64 // the newest answer
	answers  int
	refusals int
	problems []string
	longest  time.Duration
}

// observe starts to watch a domain that is not there yet; strict says that there
// always is a process that can answer. A process that is cut off says 503 even so.
func (f *cell) observe(domain string, strict bool) *watch {
	w := &watch{f: f, domain: domain, presence: absent, strict: strict}
	w.through(f.nc)
	w.through(f.nc) // one goes on while the other waits for a process that is gone
	return w
}

// through has it read over a connection, too.
func (w *watch) through(nc *nats.Conn) {
	client := natsapi.NewClient(nc, w.f.prefix, "al")
	w.f.during(func() { w.look(client) })
}

// during does something again and again until the test ends or stopBackground.
func (f *cell) during(do func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			do()
			<-tick.C
		}
	})
	stop := sync.OnceFunc(func() { cancel(); running.Wait() })
	f.background = append(f.background, stop)
	f.t.Cleanup(stop)
}

// stopBackground ends what during has started, and waits for it.
func (f *cell) stopBackground() {
	for _, stop := range f.background {
		stop()
	}
}

// expect says what is known of the domain from now on.
func (w *watch) expect(p presence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.presence = p
}

// acknowledged says that the domain is there, as new as seq.
func (w *watch) acknowledged(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.presence, w.seq = there, seq
}

func (w *watch) known() (p presence, seq, asOf uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.presence, w.seq, w.asOf
}

// slowest is what a read may take while there is a process that can answer it, also on
// a busy machine: a lost request is asked again after 2 s.
const slowest = 10 * time.Second

// look reads once.
func (w *watch) look(client *natsapi.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	was, seq, asOf := w.known()
	began := time.Now()
	doc, err := client.DescribeDomain(ctx, w.domain, "", 0)
	now, _, _ := w.known()
	surely := func(p presence) bool { return was == p && now == p }
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, time.Since(began))
	switch {
	case isNotFound(err):
		if w.answers++; surely(there) {
			w.wrong("it is there since %d, and not found", seq)
		}
	case err != nil:
		if w.refusals++; !errors.Is(err, commands.ErrUnavailable) {
			w.wrong("after %s: %v", time.Since(began), err)
		}
	case surely(absent):
		w.wrong("it is not there, and found as of %d", doc.AsOf.Seq)
	case doc.Seq < seq && surely(there), doc.AsOf.Seq < asOf:
		w.wrong("shown at %d as of %d, acknowledged at %d and seen as of %d before", doc.Seq, doc.AsOf.Seq, seq, asOf)
	default:
		w.answers++
		w.asOf = max(w.asOf, doc.AsOf.Seq)
	}
}

func (w *watch) wrong(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf("describe "+w.domain+": "+format, args...))
}

// check fails the test for what was read wrongly.
func (w *watch) check() {
	w.f.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, problem := range w.problems {
		if n == 5 {
			w.f.t.Errorf("and %d more", len(w.problems)-n)
			break
		}
		w.f.t.Error(problem)
	}
	if w.answers == 0 {
		w.f.t.Error("no read was answered")
	}
	if w.strict && w.longest > slowest {
		w.f.t.Errorf("a read took %s", w.longest)
	}
	w.f.t.Logf("%d reads answered, %d refused, the longest took %s", w.answers, w.refusals, w.longest)
}

// keepWriting changes a domain all the time. Each command is noted; strict says
// that none may fail.
func (f *cell) keepWriting(domain string, strict bool) *atomic.Uint64 {
	var n, acknowledged atomic.Uint64
	f.during(func() {
		op := fmt.Sprint("op", n.Add(1))
		_, err := f.attempt(commands.SubscribeDomain{DomainID: domain, SubscriberName: "s", SubscriberOp: op}, uuid.NewString(), patience)
		switch {
		case err == nil:
			acknowledged.Add(1)
		case strict:
			f.t.Errorf("subscribe %s: %v", domain, err)
		}
	})
	return &acknowledged
}

// answering waits until so many processes of the cell answer over a connection.
func (f *cell) answering(nc *nats.Conn, want int) {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("%d processes answer", want), func() bool {
		inbox := nc.NewInbox()
		sub, err := nc.SubscribeSync(inbox)
		if err != nil {
			return false
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := nc.PublishRequest("$SRV.PING.epum", inbox, nil); err != nil {
			return false
		}
		for ids := map[string]bool{}; ; {
			msg, err := sub.NextMsg(500 * time.Millisecond)
			if err != nil {
				return false
			}
			var pong micro.Ping
			if json.Unmarshal(msg.Data, &pong) == nil && pong.Metadata["prefix"] == string(f.prefix) {
				ids[pong.ID] = true
			}
			if len(ids) == want {
				return true
			}
		}
	})
}
