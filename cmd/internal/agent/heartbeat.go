package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// DefaultHeartbeatInterval is the time between two heartbeats of an instance
// where none is given. The leader waits for many of them (missing_timeout, 120 s)
// before it misses one.
const DefaultHeartbeatInterval = 5 * time.Second

// addressPrefix and a site are the address of the site's agent: the plain name
// that its heartbeats give as their caller, and that dump_state goes to.
const addressPrefix = "epum-agent-"

// heartbeatsSize is how many heartbeats may wait for the connection. What comes
// on top is dropped: the next one says the same, and later.
const heartbeatsSize = 8192

// heartbeat is an ou_heartbeat (design §4).
type heartbeat struct {
	NodeID string          `json:"node_id"`
	State  events.Health   `json:"state"`
	Error  string          `json:"error,omitempty"` // one sentence
	Failed []failedProcess `json:"failed_processes,omitempty"`
	Caller string          `json:"caller"`    // the agent's address
	Time   string          `json:"timestamp"` // RFC 3339, UTC; the agent's clock
}

// failedProcess is a health check that did not end well. Without a code and a
// signal it was too slow, or did not start.
type failedProcess struct {
	Name       string `json:"name"` // the program's base name
	ExitCode   *int   `json:"exit_code,omitempty"`
	ExitSignal string `json:"exit_signal,omitempty"` // as SIGSEGV
}

// heartbeatInterval gives the default for zero. The error says what is wrong
// with a negative one.
func heartbeatInterval(given time.Duration) (time.Duration, error) {
	switch {
	case given < 0:
		return 0, fmt.Errorf("agent: heartbeat interval %v: it is negative", given)
	case given == 0:
		return DefaultHeartbeatInterval, nil
	}
	return given, nil
}

// beat sends a heartbeat of an instance of a site, over core NATS. Without a
// connection it is dropped: a heartbeat that comes late says what is no more.
func (l *line) beat(site string, hb heartbeat) {
	if !l.nc.IsConnected() {
		return
	}
	hb.Caller = addressPrefix + site
	body, err := json.Marshal(hb)
	if err == nil {
		err = l.nc.Publish(l.prefix.Node(hb.NodeID, events.OpHeartbeat), body)
	}
	if err != nil {
		l.log.Debug("heartbeat not sent", slog.String("instance", hb.NodeID), slog.Any("error", err))
	}
}

// timestamp is the present time as heartbeats give it.
func timestamp() string { return time.Now().UTC().Format(time.RFC3339Nano) }
