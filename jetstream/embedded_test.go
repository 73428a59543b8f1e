package jetstream_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/jetstream"
)

func TestStartServer_errors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	running := t.TempDir()
	startServer(t, jetstream.EmbeddedConfig{StoreDir: running})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ listen, dir, want string }{
		"port in use":        {l.Addr().String(), t.TempDir(), "address already in use"},
		"store in use":       {"127.0.0.1:-1", running, "in use by another server"},
		"store is a file":    {"127.0.0.1:-1", filepath.Join(file, "x"), "store directory"},
		"no store":           {"127.0.0.1:-1", "", "store directory"},
		"no port":            {"127.0.0.1", t.TempDir(), "listen address"},
		"a port that is not": {"127.0.0.1:x", t.TempDir(), "no number"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: c.listen, StoreDir: c.dir, Logger: quiet})
			if err == nil {
				srv.Shutdown()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q does not say %q", err, c.want)
			}
		})
	}
}

func TestServer_restart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, SyncAlways: true})
	nc := connect(t, srv.ClientURL())
	cell := openCell(t, nc, jetstream.Config{})
	for n := range 20 {
		mustAppend(t, cell.Log(), added(n))
	}
	if _, err := cell.State().Write(t.Context(), instances(domain(1), 10), []byte("c"), 0); err != nil {
		t.Fatal(err)
	}
	before, err := cell.Log().End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.Shutdown()
	startServer(t, jetstream.EmbeddedConfig{Listen: strings.TrimPrefix(srv.ClientURL(), "nats://"), StoreDir: dir, SyncAlways: true})
	eventually(t, func() error {
		end, err := cell.Log().End(t.Context())
		if err == nil && (end.Seq != 20 || !end.Created.Equal(before.Created)) {
			t.Fatalf("the log is another one: %+v, it was %+v", end, before)
		}
		return err
	})
	got, err := cell.State().Read(t.Context(), domain(1).AllInstances())
	if err != nil || len(got) != 10 {
		t.Errorf("%d documents, %v", len(got), err)
	}
	mustAppend(t, cell.Log(), added(20))
}

func TestConnect_nobodyThere(t *testing.T) {
	_, err := jetstream.Connect(jetstream.ConnectConfig{URL: "nats://user:secret@127.0.0.1:1", Logger: quiet})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: "nats://127.0.0.1:1", Wait: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}
