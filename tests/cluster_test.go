package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// startCluster starts three NATS servers that are one cluster.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var ports []int
	var routes []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // held until all are chosen, so that they differ
		port := l.Addr().(*net.TCPAddr).Port
		ports, routes = append(ports, port), append(routes, "nats://127.0.0.1:"+strconv.Itoa(port))
	}
	return startNodes(t, ports, strings.Join(routes, ","))
}

func startNodes(t *testing.T, ports []int, routes string) []*server.Server {
	t.Helper()
	var servers []*server.Server
	for n, port := range ports {
		srv, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: -1, ServerName: "n" + strconv.Itoa(n), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port},
			Routes:  server.RoutesFromStr(routes),
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		servers = append(servers, srv)
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	}
	for n, srv := range servers {
		eventually(t, fmt.Sprint("server ", n, " is ready"), func() bool {
			return srv.ReadyForConnections(time.Second) && srv.JetStreamIsCurrent()
		})
	}
	return servers
}
