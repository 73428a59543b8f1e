package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// natsServer is a nats-server as a process of its own, with JetStream, that can
// be killed, paused and started again on the same port and store.
type natsServer struct {
	*program
	dir    string
	port   int
	config string // its file
}

// natsOptions are what a server is told beyond its port.
type natsOptions struct {
	name    string
	store   string // "": a directory of the test
	maxFile string // max_file_store; "": as much as can be
	sync    string // sync_interval; "": always
	more    string // further lines of the config
}

// newNATS makes a server; start starts it.
func newNATS(t testing.TB, o natsOptions) *natsServer {
	t.Helper()
	path, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	if o.name == "" {
		o.name = "n"
	}
	s := &natsServer{dir: t.TempDir(), port: freePorts(t, 1)[0]}
	s.program = &program{t: t, name: o.name, path: path, log: filepath.Join(s.dir, "nats.log")}
	s.configure(o)
	t.Cleanup(s.kill)
	return s
}

// configure writes the config; it counts from the next start on.
func (s *natsServer) configure(o natsOptions) {
	s.t.Helper()
	if o.store == "" {
		o.store = s.dir
	}
	if o.maxFile == "" {
		o.maxFile = "1TB"
	}
	if o.sync == "" {
		o.sync = "always"
	}
	s.config = filepath.Join(s.dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%d\"\nserver_name: %s\njetstream { store_dir: %q, max_file_store: %s, max_memory_store: 1GB, sync_interval: %s }\n%s",
		s.port, s.name, o.store, o.maxFile, o.sync, o.more)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *natsServer) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }
func (s *natsServer) url() string  { return "nats://" + s.addr() }

// start starts the server; ready waits for it.
func (s *natsServer) start() *natsServer {
	s.t.Helper()
	if err := s.program.start(nil, "-c", s.config); err != nil {
		s.t.Errorf("start %s: %v", s.name, err)
	}
	return s
}

// ready waits until the server takes connections.
func (s *natsServer) ready() *natsServer {
	s.t.Helper()
	eventually(s.t, s.name+" listens", func() bool {
		c, err := net.DialTimeout("tcp", s.addr(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return s
}

// answers waits until JetStream answers there.
func (s *natsServer) answers() {
	s.t.Helper()
	within(s.t, 2*patience, s.name+" answers", func() bool {
		nc, err := nats.Connect(s.url())
		if err != nil {
			return false
		}
		defer nc.Close()
		_, err = nc.Request("$JS.API.INFO", nil, time.Second)
		return err == nil
	})
}

func (s *natsServer) kill()   { s.end(syscall.SIGKILL) }
func (s *natsServer) pause()  { s.signal(syscall.SIGSTOP) }
func (s *natsServer) resume() { s.signal(syscall.SIGCONT) }

// natsCluster is three servers, whose clients are told of no server but those
// that they know. The way from each to each leads through a proxy of its own.
type natsCluster struct {
	nodes []*natsServer
	ways  map[[2]int]*proxy // [from, to]
}

// newCluster starts three servers that are one cluster. They sync as servers do by
// default: what one loses the others have.
func newCluster(t testing.TB) *natsCluster {
	t.Helper()
	const size = 3
	c := &natsCluster{ways: map[[2]int]*proxy{}}
	ports := freePorts(t, size)
	for from := range size {
		for to := range size {
			if from != to {
				c.ways[[2]int{from, to}] = newProxy(t, "127.0.0.1:"+strconv.Itoa(ports[to]))
			}
		}
	}
	for n, port := range ports {
		var routes []string
		for to := range size {
			if way := c.ways[[2]int{n, to}]; way != nil {
				routes = append(routes, strconv.Quote("nats://"+way.address()))
			}
		}
		// What it tells others of itself leads nowhere, so that nobody goes round a proxy.
		// Frozen nodes are missed within 3 s: until then they are sent a part of all requests.
		more := fmt.Sprintf("ping_interval: 1s, ping_max: 2\ncluster { name: c, listen: \"127.0.0.1:%d\", cluster_advertise: \"127.0.0.1:9\", no_advertise: true, routes: [%s] }\n",
			port, strings.Join(routes, ", "))
		c.nodes = append(c.nodes, newNATS(t, natsOptions{name: "n" + strconv.Itoa(n), sync: "2m", more: more}).start())
	}
	for _, node := range c.nodes {
		node.ready()
	}
	return c
}

// url names all nodes.
func (c *natsCluster) url() string {
	urls := make([]string, len(c.nodes))
	for n, node := range c.nodes {
		urls[n] = node.url()
	}
	return strings.Join(urls, ",")
}

// cutOff cuts a node off from the others, but not from its clients; heal ends it.
func (c *natsCluster) cutOff(node int) (heal func()) {
	for way, p := range c.ways {
		if way[0] == node || way[1] == node {
			p.hold()
		}
	}
	return func() {
		for _, p := range c.ways {
			p.heal()
		}
	}
}

// backend is the cluster as cells see it: three copies of everything.
func (c *natsCluster) backend() *backend {
	return &backend{servers: c.nodes, replicas: len(c.nodes), lease: 3 * time.Second}
}
