package agent

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// asksPause is the least time between two answers to dump_state. The leader asks
// once for each instance that it has lost contact with, so an agent is asked as
// often as it has instances, and one answer speaks for all of them.
const asksPause = 250 * time.Millisecond

// asks are the sites whose agents were asked for heartbeats and have not
// answered yet. Any goroutine may use it.
type asks struct {
	prefix events.Prefix
	wake   chan struct{} // holds one wake-up

	mu    sync.Mutex
	sites map[string]bool
}

func newAsks(prefix events.Prefix) *asks {
	return &asks{prefix: prefix, wake: make(chan struct{}, 1), sites: make(map[string]bool)}
}

// heard takes a dump_state to an OU agent's address. Whoever sends it and
// whatever is in it: it asks for nothing but heartbeats. An address that is no
// agent's of this program is ignored. It never blocks.
func (a *asks) heard(msg *nats.Msg) {
	token, _, _ := strings.Cut(strings.TrimPrefix(msg.Subject, string(a.prefix)+".ouagent."), ".")
	address, err := events.ParseToken(token)
	if err != nil {
		return
	}
	site, ok := strings.CutPrefix(address, addressPrefix)
	if !ok {
		return
	}
	a.mu.Lock()
	a.sites[site] = true
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take gives the sites that were asked, and forgets them.
func (a *asks) take() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	sites := a.sites
	a.sites = make(map[string]bool)
	return sites
}
