package jetstream_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// patience is how long a test waits for what must happen.
const patience = 15 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func startServer(t testing.TB, cfg jetstream.EmbeddedConfig) *jetstream.Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:-1"
	}
	if cfg.StoreDir == "" {
		cfg.StoreDir = t.TempDir()
	}
	cfg.Logger = quiet
	srv, err := jetstream.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

func connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: url, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openCell(t testing.TB, nc *nats.Conn, cfg jetstream.Config) *jetstream.Cell {
	t.Helper()
	if cfg.Process == "" {
		cfg.Process = "p1"
	}
	cfg.Logger = quiet
	cell, err := jetstream.Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	return cell
}

// newCell is a cell on a server of its own.
func newCell(t testing.TB) (*jetstream.Cell, *nats.Conn) {
	t.Helper()
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	return openCell(t, nc, jetstream.Config{}), nc
}

// startCluster starts three servers that are one cluster; it gives them and the
// URLs of all.
func startCluster(t *testing.T) (servers []*server.Server, urls string) {
	t.Helper()
	var ports, routes []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports, routes = append(ports, port), append(routes, "nats://127.0.0.1:"+port)
		l.Close()
	}
	for n, port := range ports {
		route, _ := strconv.Atoi(port)
		srv, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: -1, ServerName: "n" + strconv.Itoa(n), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: route},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		servers = append(servers, srv)
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	}
	clients := make([]string, len(servers))
	for n, srv := range servers {
		eventually(t, func() error {
			if !srv.ReadyForConnections(time.Second) || !srv.JetStreamIsCurrent() {
				return fmt.Errorf("server %d is not ready", n)
			}
			return nil
		})
		clients[n] = srv.ClientURL()
	}
	return servers, strings.Join(clients, ",")
}

// eventually polls until check gives nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func domain(n int) events.DomainID {
	return events.DomainID{Owner: "alice", Name: "d" + strconv.Itoa(n)}
}

// added is a draft that adds a domain, guarded by there being none.
func added(n int) events.Draft {
	return guarded(domain(n).Key(), 0, events.DomainAdded{
		DefinitionID: "web", DefinitionSeq: 1,
		Config: events.Config{General: []byte(`{"engine_class":"simplest"}`), EngineConf: []byte(`{"preserve_n":2}`)},
	})
}

// guarded is a draft that expects a last sequence on its own key.
func guarded(key events.Key, seq uint64, ev events.Event) events.Draft {
	return events.Draft{ID: uuid.NewString(), Key: key, Event: ev, Guard: events.Guard{Key: key, Seq: seq}, Actor: "alice", CausationID: "alice/c1"}
}

func mustAppend(t testing.TB, log *jetstream.Log, d events.Draft) uint64 {
	t.Helper()
	seq, err := log.Append(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// elect appends an election behind the last one and gives the epoch.
func elect(t testing.TB, log *jetstream.Log, process string) uint64 {
	t.Helper()
	last, err := log.Last(context.Background(), events.LeaderKey)
	if err != nil {
		last = projections.LastEvent{}
	}
	return mustAppend(t, log, guarded(events.LeaderKey, last.Seq, events.LeaderElected{Process: process}))
}

func passDraft(epoch uint64) events.Draft {
	return events.Draft{
		ID: uuid.NewString(), Key: events.PassKey, Event: events.PassCommitted{}, Actor: "leader/p1", Epoch: epoch,
		Guard: events.Guard{Key: events.LeaderKey, Seq: epoch},
	}
}

// launches is a batch of n launches in one domain.
func launches(epoch uint64, dom events.DomainID, n int) []events.Draft {
	drafts := make([]events.Draft, n)
	for i := range drafts {
		d := guarded(dom.InstanceKey(uuid.Must(uuid.NewV7()).String()), 0, events.LaunchRequested{LaunchID: "l", DeployableType: "epu_work_consumer", Site: "ec2-east", Allocation: "small"})
		d.Actor, d.Epoch = "leader/p1", epoch
		drafts[i] = d
	}
	return drafts
}

// gathered collects what a tail gives.
type gathered struct {
	mu   sync.Mutex
	envs []events.Envelope
	evs  []events.Event
}

func (g *gathered) apply(env events.Envelope, ev events.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.envs, g.evs = append(g.envs, env), append(g.evs, ev)
}

func (g *gathered) seqs() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	seqs := make([]uint64, len(g.envs))
	for n, e := range g.envs {
		seqs[n] = e.Seq
	}
	return seqs
}

func (g *gathered) waitFor(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() error {
		if got := len(g.seqs()); got < n {
			return fmt.Errorf("%d of %d events", got, n)
		}
		return nil
	})
}

// tail runs a tail until the test ends, or stop is called; then err has its error.
func tail(t testing.TB, log *jetstream.Log, start projections.TailStart) (g *gathered, stop context.CancelFunc, err <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g = &gathered{}
	done := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		done <- log.Tail(ctx, start, g.apply)
	}()
	t.Cleanup(func() { cancel(); <-finished })
	return g, cancel, done
}

func rawStream(t testing.TB, nc *nats.Conn, name string) natsjs.Stream {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
