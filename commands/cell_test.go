package commands_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// process is one process of the service over a real log: its replica can be
// held back, and its log counts conflicts.
type process struct {
	*commands.Handler
	reporter *commands.Reporter
	replica  *projections.Replica
	source   *gatedSource
	log      *countingLog
	orphans  chan string
}

// gatedSource is a log whose tail stands still while gate is locked, and whose
// end cannot be had while down is set.
type gatedSource struct {
	projections.Source
	gate sync.RWMutex
	down atomic.Bool
}

func (g *gatedSource) Tail(ctx context.Context, start projections.TailStart, apply func(events.Envelope, events.Event)) error {
	return g.Source.Tail(ctx, start, func(env events.Envelope, ev events.Event) {
		g.gate.RLock()
		defer g.gate.RUnlock()
		apply(env, ev)
	})
}

func (g *gatedSource) End(ctx context.Context) (projections.Position, error) {
	if g.down.Load() {
		return projections.Position{}, projections.ErrNoQuorum
	}
	return g.Source.End(ctx)
}

type countingLog struct {
	commands.Log
	appends, conflicts atomic.Int64
}

func (l *countingLog) Append(ctx context.Context, d events.Draft) (uint64, error) {
	l.appends.Add(1)
	seq, err := l.Log.Append(ctx, d)
	if _, ok := errors.AsType[*events.ConflictError](err); ok {
		l.conflicts.Add(1)
	}
	return seq, err
}

// startCell starts an embedded server and n processes over it.
func startCell(t testing.TB, n int) []*process {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	srv, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	processes := make([]*process, n)
	for i := range processes {
		processes[i] = startProcess(t, srv.ClientURL(), quiet)
	}
	return processes
}

func startProcess(t testing.TB, url string, quiet *slog.Logger) *process {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: url, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: uuid.NewString(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{source: &gatedSource{Source: cell.Log()}, log: &countingLog{Log: cell.Log()}, orphans: make(chan string, 10)}
	p.replica = projections.NewReplica(p.source, cell.State(), cell.Purged(), quiet)
	p.Handler = &commands.Handler{Log: p.log, Replica: p.replica, Engines: known(), NewID: uuid.NewString}
	p.reporter = &commands.Reporter{
		Log: p.log, Replica: p.replica, NewID: uuid.NewString, Logger: quiet,
		Orphan: func(nodeID, site string) { p.orphans <- nodeID + "@" + site },
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.replica.Run(ctx, func() { close(started) })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		cell.Close()
		nc.Close()
	})
	select {
	case <-started:
	case <-time.After(10 * time.Second):
		t.Fatal("the replica does not start")
	}
	return p
}

// hold keeps the process's replica where it is until the returned function is
// called.
func (p *process) hold() (release func()) {
	p.source.gate.Lock()
	return sync.OnceFunc(p.source.gate.Unlock)
}

// must carries out a command that has to succeed.
func (p *process) must(t testing.TB, cmd commands.Command) uint64 {
	t.Helper()
	seq, err := p.Do(t.Context(), owner, "", cmd)
	if err != nil {
		t.Fatalf("%s: %v", cmd.Op(), err)
	}
	return seq
}

// write appends an event as it is, guarded by what the log ends with.
func (p *process) write(t testing.TB, key events.Key, ev events.Event) uint64 {
	t.Helper()
	last, err := p.log.Last(t.Context(), key)
	if err != nil && !errors.Is(err, projections.ErrNotFound) {
		t.Fatal(err)
	}
	seq, err := p.log.Append(t.Context(), events.Draft{
		ID: uuid.NewString(), Key: key, Event: ev, Guard: events.Guard{Key: key, Seq: last.Seq}, Actor: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// end is the log's last sequence, which the replica has folded.
func (p *process) end(t testing.TB) uint64 {
	t.Helper()
	seq, err := p.replica.Barrier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (p *process) domain(t testing.TB) (d *events.Domain) {
	t.Helper()
	p.end(t)
	p.replica.View(func(s *events.State) { d = s.Domain(domainD) })
	return d
}

func (p *process) instance(t testing.TB, id string) (i *events.Instance) {
	t.Helper()
	p.end(t)
	p.replica.View(func(s *events.State) { i = s.Instance(id) })
	return i
}

// eventually polls until done holds.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
