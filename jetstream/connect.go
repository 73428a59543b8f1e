package jetstream

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pingInterval and maxPings find a frozen server, which closes nothing, in
	// 3 to 4.5 s.
	pingInterval = 1500 * time.Millisecond
	maxPings     = 2
	// reconnectWait is short since a standby is as good as the server lost;
	// reconnectJitter keeps many clients from coming back in one instant.
	reconnectWait   = 200 * time.Millisecond
	reconnectJitter = 200 * time.Millisecond
	connectTimeout  = 2 * time.Second
)

// ConnectConfig says how to reach NATS.
type ConnectConfig struct {
	URL    string       // one or more server URLs, with commas between
	Creds  string       // path of a credentials file; "": none
	Name   string       // of the connection, as the server lists it
	Logger *slog.Logger // nil: slog.Default()
	// Wait lets Connect succeed where no server can be reached yet: it goes on
	// trying in the background. False: Connect fails.
	Wait bool
	// Closed is called once, when the connection is closed for good: by Close, with
	// nil, or by the server's wish, with its reason. nil: nobody is told.
	Closed func(reason error)
}

// Connect opens a connection that reconnects for ever and notices a frozen
// server within seconds.
func Connect(cfg ConnectConfig) (*nats.Conn, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(&wireDialer{net.Dialer{Timeout: connectTimeout}}),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.RetryOnFailedConnect(cfg.Wait),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // then it is meant
				log.Warn("nats disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("nats reconnected", "url", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if sub != nil {
				log.Warn("nats error", "subject", sub.Subject, "error", err)
				return
			}
			log.Warn("nats error", "error", err)
		}),
	}
	if cfg.Closed != nil {
		opts = append(opts, nats.ClosedHandler(func(nc *nats.Conn) { cfg.Closed(nc.LastError()) }))
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("jetstream: connect to %s: %w", Redacted(cfg.URL), err)
	}
	return nc, nil
}

// Redacted is a list of URLs without what is before an @ in each: names,
// passwords and tokens.
func Redacted(urls string) string {
	list := strings.Split(urls, ",")
	for n, u := range list {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(u), "://")
		if !ok {
			scheme, rest = "nats", scheme
		}
		list[n] = scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(list, ",")
}
