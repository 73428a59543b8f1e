package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestCluster_NodeLost has the service on three NATS nodes, with three copies of
// everything, and loses the node that the leader is connected to.
func TestCluster_NodeLost(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	e, far := connect(t, nodes[0].ClientURL()), connect(t, nodes[2].ClientURL())
	e.process(named("a"), replicated(nodes[1]))
	if l := e.leader(); l.Process != "a" {
		t.Fatalf("%+v leads", l)
	}
	e.process(named("b"), replicated(nodes[0]))
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(5)})
	if r := e.decide(); r.Launched != 5 {
		t.Errorf("%+v", r)
	}
	for _, id := range p.provisions(5) {
		e.reportState("al", "web", id, events.Running)
	}

	nodes[1].Shutdown()
	nodes[1].WaitForShutdown()
	before := e.answered()
	if len(before) != 2 {
		t.Fatalf("the processes answer as %v", before)
	}
	// A queue group's own node comes first, so a client on each node that is left
	// is what reaches both processes wherever they are.
	ops := []string{commands.SubscribeDomain{}.Op(), "describe_domain"}
	n := 0
	eventually(t, "both processes carry out commands and describe", func() bool {
		for _, client := range []*epum{e, far} {
			n++
			subscriber := fmt.Sprint("s", n%10)
			seq := client.do("al", commands.SubscribeDomain{DomainID: "web", SubscriberName: subscriber, SubscriberOp: strconv.Itoa(n)})
			doc, err := client.as("al").DescribeDomain(client.try(), "web", "", 0)
			if err != nil {
				t.Logf("describe: %v", err)
				return false
			}
			if doc.AsOf.Seq < seq || doc.InstanceCounts[events.Running] != 5 {
				t.Fatalf("as of %d, written at %d: %v", doc.AsOf.Seq, seq, doc.InstanceCounts)
			}
		}
		now := e.answered()
		for id := range before {
			for _, op := range ops {
				if now[id][op] <= before[id][op] {
					return false
				}
			}
		}
		return true
	})
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(7)})
	for range 2 { // the second one finds nothing to do
		eventually(t, "a pass goes through", func() bool {
			_, err := e.as("operator").RunPass(e.try(), "decide")
			return err == nil
		})
	}
	e.copied(events.StreamEvents)
	if launches := len(e.logOf(events.TypeLaunchRequested)); launches != 7 {
		t.Errorf("%d launches, want 7", launches)
	}
	e.projected()
	e.copied(events.BucketState)
	e.bucketIsFold()
}

// startCluster starts three NATS servers that are one cluster.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	ports := freePorts(t, 3)
	routes := make([]string, len(ports))
	for n, port := range ports {
		routes[n] = "nats://127.0.0.1:" + strconv.Itoa(port)
	}
	servers := make([]*server.Server, len(ports))
	for n, port := range ports {
		srv, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: -1, ServerName: "n" + strconv.Itoa(n), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		servers[n] = srv
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	}
	for n, srv := range servers {
		eventually(t, fmt.Sprintf("server %d is ready", n), func() bool {
			return srv.ReadyForConnections(time.Second) && srv.JetStreamIsCurrent()
		})
	}
	return servers
}

// lastPort is the last one that freePorts has given.
var lastPort struct {
	sync.Mutex
	n int
}

// freePorts gives n ports that are free, and that nobody else is given before a server
// listens there: none twice, and all below those from which the system gives one to
// whoever listens or connects without naming any.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	const lowest, highest = 10_000, 32_000
	lastPort.Lock()
	defer lastPort.Unlock()
	if lastPort.n == 0 { // another run of the tests may be under way
		lastPort.n = lowest + rand.IntN(highest-lowest)
	}
	var ports []int
	for range highest - lowest {
		if lastPort.n++; lastPort.n > highest {
			lastPort.n = lowest
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(lastPort.n))
		if err != nil {
			continue
		}
		_ = l.Close()
		if ports = append(ports, lastPort.n); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no port is free")
	return nil
}

// replicated has a process keep three copies of everything, and start out
// connected to one node; the others it learns from that one.
func replicated(node *server.Server) func(*service.Config) {
	return func(c *service.Config) { c.NATS.URL, c.NATS.Replicas = node.ClientURL(), 3 }
}

// try bounds one request that the lost node may have taken along with it.
func (e *epum) try() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	e.t.Cleanup(cancel)
	return ctx
}

// answered gives how often each process has answered each operation with 200.
func (e *epum) answered() map[string]map[string]int {
	e.t.Helper()
	inbox := e.nc.NewInbox()
	sub, err := e.nc.SubscribeSync(inbox)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	found := map[string]map[string]int{}
	eventually(e.t, "all processes tell their stats", func() bool {
		if err := e.nc.PublishRequest("$SRV.STATS.epum", inbox, nil); err != nil {
			e.t.Fatal(err)
		}
		for {
			msg, err := sub.NextMsg(time.Second)
			if err != nil {
				return false
			}
			id, answers := statsOf(e.t, msg)
			found[id] = answers
			if len(found) == len(e.processes) {
				return true
			}
		}
	})
	return found
}

func statsOf(t testing.TB, msg *nats.Msg) (id string, answers map[string]int) {
	t.Helper()
	var stats struct {
		ID        string `json:"id"`
		Endpoints []struct {
			Name string `json:"name"`
			Data struct {
				Answers map[string]int `json:"answers"`
			} `json:"data"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(msg.Data, &stats); err != nil {
		t.Fatalf("stats %s: %v", msg.Data, err)
	}
	answers = map[string]int{}
	for _, endpoint := range stats.Endpoints {
		answers[endpoint.Name] = endpoint.Data.Answers["200"]
	}
	return stats.ID, answers
}

// copied waits until all nodes that are up have the whole of a stream, so that
// any of them gives the same.
func (e *epum) copied(stream string) {
	e.t.Helper()
	eventually(e.t, stream+" is copied", func() bool { return e.isCopied(stream) })
}

// isCopied reports whether all nodes that are up have the whole of a stream.
func (e *epum) isCopied(stream string) bool {
	e.t.Helper()
	name := e.prefix.Stream(stream)
	if stream == events.BucketState {
		name = "KV_" + name
	}
	s, err := e.js.Stream(e.ctx(), name)
	if err != nil {
		return false
	}
	cluster := s.CachedInfo().Cluster
	if cluster == nil || cluster.Leader == "" {
		return false
	}
	for _, peer := range cluster.Replicas {
		if !peer.Offline && (!peer.Current || peer.Lag > 0) {
			return false
		}
	}
	return true
}
