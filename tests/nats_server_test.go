package tests

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

var natsServers = flag.Int("servers", 1, "how many NATS servers TestSoak and TestFailover have: 1, or 3 with as many copies of everything")

// natsServer is a real NATS server that is started again and again.
type natsServer struct {
	*program
	addr string // host:port for clients
	conf string // path of its configuration
}

func (s *natsServer) url() string { return "nats://" + s.addr }

// addServers adds n servers; more than one are a cluster.
func (f *fleet) addServers(n int) {
	f.t.Helper()
	path, err := natsBinary()
	if err != nil {
		f.t.Fatal(err)
	}
	ports := freePorts(f.t, 2*n)
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, strconv.Quote("nats://127.0.0.1:"+strconv.Itoa(port)))
	}
	for i := range n {
		name := "nats-" + strconv.Itoa(i)
		s := &natsServer{
			program: f.program(name, path), addr: "127.0.0.1:" + strconv.Itoa(ports[i]), conf: filepath.Join(f.dir, name+".conf"),
		}
		conf := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream {store_dir: %q, sync_interval: always}\n",
			name, s.addr, filepath.Join(f.dir, name))
		if n > 1 { // a client stays with the server that it was given
			conf += fmt.Sprintf("cluster {name: c, listen: \"127.0.0.1:%d\", no_advertise: true, routes: [%s]}\n",
				ports[n+i], strings.Join(routes, ", "))
		}
		if err := os.WriteFile(s.conf, []byte(conf), 0o600); err != nil {
			f.t.Fatal(err)
		}
		f.servers = append(f.servers, s)
		f.t.Cleanup(func() { s.end(syscall.SIGKILL) })
		f.startServer(s)
	}
	for _, s := range f.servers {
		f.waitServer(s)
	}
}

// startServer starts a server, again.
func (f *fleet) startServer(s *natsServer) {
	if err := s.start(nil, "-c", s.conf); err != nil {
		f.t.Errorf("start %s: %v", s.name, err)
	}
}

// waitServer waits until JetStream answers where a server is.
func (f *fleet) waitServer(s *natsServer) {
	f.t.Helper()
	within(f.t, 2*patience, s.name+" answers", func() bool {
		nc, err := nats.Connect(s.url())
		if err != nil {
			return false
		}
		defer nc.Close()
		_, err = nc.Request("$JS.API.INFO", nil, time.Second)
		return err == nil
	})
}

// url gives the servers, with commas between.
func (f *fleet) url() string {
	var urls []string
	for _, s := range f.servers {
		urls = append(urls, s.url())
	}
	return strings.Join(urls, ",")
}
