package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// TombstoneAge is how long a finished instance's id is remembered, so that a
// late request cannot launch it again. The leader re-sends every few seconds
// and gives up long before; a week outlasts a long weekend's outage.
const TombstoneAge = 7 * 24 * time.Hour

// Config says what an Agent serves and where it keeps its state.
type Config struct {
	Prefix events.Prefix // "" means events.DefaultPrefix
	Site   string        // a plain name; "" means "local"
	Types  Types         // nil means DefaultTypes()
	Dir    string        // the state directory, created if need be; "" means "epum-agent"
	Logger *slog.Logger  // nil means slog.Default()

	HeartbeatInterval time.Duration // between two heartbeats of an instance; 0 means DefaultHeartbeatInterval
}

func (c Config) withDefaults() (Config, error) {
	c.Prefix = cmp.Or(c.Prefix, events.DefaultPrefix)
	c.Site = cmp.Or(c.Site, "local")
	if c.Types == nil {
		c.Types = DefaultTypes()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("site", c.Site)
	if err := events.CheckName(c.Site); err != nil {
		return c, fmt.Errorf("agent: site: %w", err)
	}
	if err := events.CheckName(addressPrefix + c.Site); err != nil {
		return c, fmt.Errorf("agent: site: the agent's address %s%s: %w", addressPrefix, c.Site, err)
	}
	var err error
	if c.HeartbeatInterval, err = heartbeatInterval(c.HeartbeatInterval); err != nil {
		return c, err
	}
	dir, err := filepath.Abs(cmp.Or(c.Dir, "epum-agent"))
	c.Dir = dir
	return c, err
}

// Agent serves one site with processes of this machine. It is opened by Open
// and has to be Run, once; the processes outlive it.
type Agent struct {
	cfg       Config
	dir       *directory
	inbox     *inbox
	line      *line
	instances map[string]*instance // by instance id; Run's goroutine owns the map
	group     sync.WaitGroup       // every goroutine of the agent

	heartbeats chan heartbeat // to be published; sent to without waiting
	checks     chan struct{}  // one for each health check that runs; full: the next one waits
}

// Run opens an agent and runs it until ctx is done.
func Run(ctx context.Context, nc *nats.Conn, cfg Config) error {
	a, err := Open(nc, cfg)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// Open locks the state directory, reads it, and subscribes, so that no request
// sent after Open has returned is missed. It starts and signals no process.
// The error wraps ErrLocked where another agent serves the directory.
func Open(nc *nats.Conn, cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := openDirectory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, dir: dir, instances: make(map[string]*instance),
		heartbeats: make(chan heartbeat, heartbeatsSize), checks: make(chan struct{}, maxChecks),
	}
	if err := a.load(nc); err != nil {
		dir.close()
		return nil, err
	}
	return a, nil
}

func (a *Agent) load(nc *nats.Conn) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if _, err := inspect(os.Getpid()); err != nil {
		return fmt.Errorf("agent: it needs Linux's /proc: %w", err)
	}
	records, err := a.dir.records()
	if err != nil {
		return err
	}
	fence, err := openFence(filepath.Join(a.dir.path, fenceFile))
	if err != nil {
		return err
	}
	if a.line, err = newLine(nc, a.cfg.Prefix, a.cfg.Logger, &a.group); err != nil {
		return err
	}
	for _, rec := range records {
		a.instances[rec.NodeID] = newInstance(a, rec)
	}
	a.line.host = host
	a.inbox, err = openInbox(nc, a.cfg.Prefix, a.cfg.Site, fence, a.cfg.Logger)
	return err
}

// Run takes up the processes that an earlier agent left and serves requests
// until ctx is done; then it returns nil and leaves the processes running. It
// closes the agent; with a ctx that is done already it does only that.
func (a *Agent) Run(ctx context.Context) error {
	defer a.dir.close()
	a.group.Go(func() { a.publishHeartbeats(ctx) })
	a.adopt(ctx)
	a.inbox.serve(ctx, a)
	a.group.Wait()
	return nil
}

// adopt wakes every instance that is not finished, or whose end the leader may
// not have heard of.
func (a *Agent) adopt(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	var open []*instance
	for _, i := range a.instances {
		if !i.rec.Settled {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return
	}
	found := findProcesses(a.cfg.Site)
	if slices.ContainsFunc(open, func(i *instance) bool { return i.rec.intent() && found[i.rec.NodeID] == nil }) {
		time.Sleep(execWindow)
		found = findProcesses(a.cfg.Site)
	}
	for _, i := range open {
		i.tell(ctx, wants{adopt: true, found: killChecks(found[i.rec.NodeID])})
	}
	a.cfg.Logger.Info("instances adopted", "instances", len(open))
}

// killChecks ends the health checks that an agent left which could not end them
// itself, and gives the other processes.
func killChecks(found []process) []process {
	return slices.DeleteFunc(found, func(p process) bool {
		switch {
		case p.check && p.session == p.PID:
			p.signal(syscall.SIGKILL) // with what it has just started
		case p.check:
			p.kill()
		}
		return p.check
	})
}

// publishHeartbeats is on its own, so that a connection that stalls holds up
// heartbeats alone.
func (a *Agent) publishHeartbeats(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case hb := <-a.heartbeats:
			a.line.beat(a.cfg.Site, hb)
		}
	}
}

func (a *Agent) instance(id string) *instance {
	i, ok := a.instances[id]
	if !ok {
		i = newInstance(a, record{report: report{NodeID: id, Site: a.cfg.Site}})
		a.instances[id] = i
	}
	return i
}

func (a *Agent) provision(ctx context.Context, _, id string, req events.ProvisionRequest) {
	a.instance(id).tell(ctx, wants{provision: &req})
}

func (a *Agent) terminate(ctx context.Context, _, id string) {
	a.instance(id).tell(ctx, wants{terminate: true})
}

func (a *Agent) dump(ctx context.Context, _, id string) {
	a.instance(id).tell(ctx, wants{dump: true})
}

func (a *Agent) answer(context.Context, map[string]bool) { // one site alone is served
	for _, i := range a.instances {
		i.ask()
	}
}

// prune forgets what ended before the given time.
func (a *Agent) prune(before time.Time) {
	for id, i := range a.instances {
		if !i.forgettable(before) {
			continue
		}
		if err := a.dir.remove(id); err != nil {
			a.cfg.Logger.Error("tombstone not removed", "instance", id, "error", err)
			continue
		}
		delete(a.instances, id)
	}
}
