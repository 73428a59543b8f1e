package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// serverReady bounds the start: a long log is scanned once after a crash.
	serverReady = 2 * time.Minute
	// noStoreLimit is more than any disk holds, in bytes: the disk is the limit.
	noStoreLimit = int64(1) << 50
	// embeddedName is how such a server is called.
	embeddedName = "epum-embedded"
)

// EmbeddedConfig says how an embedded server is started.
type EmbeddedConfig struct {
	Listen     string       // host:port; port -1 picks a free one
	StoreDir   string       // created if it does not exist; one server at a time
	SyncAlways bool         // every acknowledged write is on the disk (design §7, embedded.sync always)
	Logger     *slog.Logger // nil: slog.Default()
}

// Server is a nats-server with JetStream inside this process.
type Server struct {
	srv  *server.Server
	lock *os.File
}

// StartServer starts a nats-server with JetStream and returns when it answers.
// It installs no signal handlers. The error says what is wrong where the port is
// in use, or the store directory is not writable or used by another server.
func StartServer(cfg EmbeddedConfig) (*Server, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	lock, err := lockStore(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(&server.Options{
		Host:               host,
		Port:               port,
		ServerName:         embeddedName,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           cfg.StoreDir,
		SyncAlways:         cfg.SyncAlways,
		JetStreamMaxStore:  noStoreLimit,
		JetStreamMaxMemory: noStoreLimit,
	})
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("jetstream: configure the embedded server: %w", err)
	}
	fatal := make(chan string, 1)
	srv.SetLoggerV2(&serverLog{log: cfg.Logger, fatal: fatal}, false, false, false)
	s := &Server{srv: srv, lock: lock}
	if err := s.start(cfg, fatal); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(cfg EmbeddedConfig, fatal <-chan string) error {
	ready := make(chan bool, 1)
	go func() {
		s.srv.Start()
		ready <- s.srv.ReadyForConnections(serverReady)
	}()
	select {
	case ok := <-ready:
		if !ok {
			return fmt.Errorf("jetstream: the embedded server on %s, store %s, is not ready after %s", cfg.Listen, cfg.StoreDir, serverReady)
		}
		if !s.srv.JetStreamEnabled() {
			return fmt.Errorf("jetstream: the embedded server started without JetStream, store %s", cfg.StoreDir)
		}
		return nil
	case text := <-fatal:
		return fmt.Errorf("jetstream: start the embedded server on %s, store %s: %s", cfg.Listen, cfg.StoreDir, text)
	}
}

// ClientURL is the URL that clients connect to.
func (s *Server) ClientURL() string { return s.srv.ClientURL() }

// Shutdown stops the server and waits until it has stopped and let go of its
// store. It may be called more than once.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	_ = s.lock.Close()
}

func splitListen(listen string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("jetstream: listen address %q: %w", listen, err)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("jetstream: listen address %q: the port is no number from -1 to 65535", listen)
	}
	if port == 0 {
		port = server.RANDOM_PORT // 0 would mean 4222 to the server
	}
	return host, port, nil
}

// lockStore creates the store directory and takes the lock in it, which holds
// until the file is closed: two servers on one store would destroy it.
func lockStore(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("jetstream: the embedded server needs a store directory")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("jetstream: create the store directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "epum.lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("jetstream: the store directory %s is not writable: %w", dir, err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("jetstream: the store directory %s is in use by another server: %w", dir, err)
	}
	return f, nil
}

// serverLog passes the server's log on. Its notices are debug lines here.
type serverLog struct {
	log   *slog.Logger
	fatal chan<- string
}

const serverMessage = "nats-server"

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug(serverMessage, "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn(serverMessage, "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error(serverMessage, "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(serverMessage, "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
