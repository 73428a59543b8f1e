package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

// cloud is a simulated cloud of all sites: it launches and terminates as design
// §6 wants it of an agent, late, out of order, again and again, and it fails.
type cloud struct {
	nc *nats.Conn
	js natsjs.JetStream

	ctx  context.Context
	work sync.WaitGroup

	mu     sync.Mutex
	rand   *rand.Rand
	calm   bool             // nothing fails any more
	vms    map[string]*vm   // instance id → what is, or was, under it
	born   []string         // their ids, in the order in which they were heard of
	storms map[string]storm // by site
	stormy int              // how many storms there were
	newest time.Time        // election of the latest leader heard
	tokens map[string]bool

	reports, beats atomic.Int64
}

// vm is one instance. It runs while it is live.
type vm struct {
	id, site string
	live     bool
	ended    bool // it is never launched, or launched again
	state    events.InstanceState
	counter  int
	silent   time.Time // no heartbeat before then
	launches int
}

func newCloud(t testing.TB, e *epum, seed uint64) *cloud {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &cloud{
		nc: e.nc, js: e.js, ctx: ctx, rand: rand.New(rand.NewPCG(seed, 0)),
		vms: map[string]*vm{}, storms: map[string]storm{}, tokens: map[string]bool{},
	}
	for subject, hear := range map[string]nats.MsgHandler{
		"epum.provisioner.*.*": c.hear,
		"epum.ouagent.*.*":     c.asked,
	} {
		sub, err := e.nc.Subscribe(subject, hear)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	c.work.Go(c.heartbeats)
	t.Cleanup(func() { cancel(); c.work.Wait() })
	return c
}

// later runs f without the lock, after a random time.
func (c *cloud) later(least, most time.Duration, f func()) {
	wait := least + time.Duration(c.rand.Int64N(int64(most-least)))
	c.work.Go(func() {
		if pauseFor(c.ctx, wait) {
			f()
		}
	})
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c *cloud) hear(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	elected, err := time.Parse(time.RFC3339Nano, m.Header.Get(events.HeaderTime))
	if err != nil || elected.Before(c.newest) {
		return // of a leader that has had a successor
	}
	c.newest = elected
	var req struct {
		InstanceIDs []string `json:"instance_ids"`
		Nodes       []string `json:"nodes"`
	}
	if json.Unmarshal(m.Data, &req) != nil {
		return
	}
	tokens := strings.Split(m.Subject, ".")
	for _, id := range slices.Concat(req.InstanceIDs, req.Nodes) {
		v, known := c.vms[id]
		if !known {
			v = &vm{id: id, site: tokens[2]}
			c.vms[id] = v
			c.born = append(c.born, id)
		}
		switch tokens[3] {
		case events.OpProvision:
			c.provision(v)
		case events.OpTerminateNodes:
			c.terminate(v)
		case events.OpDumpState:
			if !known {
				v.ended, v.state = true, events.Failed
			}
			c.report(v)
		}
	}
}

func (c *cloud) provision(v *vm) {
	if v.launches > 0 || v.ended {
		c.report(v)
		return
	}
	v.launches++
	if _, storm := c.storms[v.site]; storm {
		v.ended, v.state = true, events.Failed
		c.report(v)
		return
	}
	v.live, v.state = true, events.Requested
	c.report(v)
	c.grow(v)
}

// grow brings a vm on, step by step, to RUNNING and maybe further.
func (c *cloud) grow(v *vm) {
	c.later(time.Millisecond, 60*time.Millisecond, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := slices.Index(events.InstanceStates, v.state)
		switch {
		case !v.live || v.ended:
			return
		case v.state == events.Running:
			c.wither(v)
			return
		case !c.calm && c.rand.IntN(40) == 0:
			v.live, v.ended, v.state = false, true, events.Failed
		case v.state == events.Requested: // there is no error to retry after
			v.state = events.Pending
		default:
			v.state = events.InstanceStates[n+1]
		}
		c.report(v)
		c.grow(v)
	})
}

// wither makes a vm that runs fail, some time.
func (c *cloud) wither(v *vm) {
	c.later(100*time.Millisecond, 20*time.Second, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch n := c.rand.IntN(6); {
		case !v.live || v.ended || c.calm:
			return
		case n == 0:
			v.state = events.RunningFailed
			c.report(v)
		case n == 1:
			v.live, v.ended, v.state = false, true, events.Failed
			c.report(v)
		default:
			v.silent = time.Now().Add(time.Duration(c.rand.Int64N(int64(6 * time.Second))))
			c.wither(v)
		}
	})
}

func (c *cloud) terminate(v *vm) {
	if v.ended && !v.live {
		if v.state == "" {
			v.state = events.Terminated
		}
		c.report(v)
		return
	}
	v.ended = true
	if v.launches == 0 {
		v.state = events.Terminated
		c.report(v)
		return
	}
	c.later(time.Millisecond, 150*time.Millisecond, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		v.live, v.state = false, events.Terminated
		c.report(v)
	})
}

// report sends what is known of a vm until it is durably taken: after a while, so
// that a later report may overtake it, and sometimes twice.
func (c *cloud) report(v *vm) {
	v.counter++
	token := c.token()
	body, err := json.Marshal(map[string]any{
		"node_id": v.id, "state": v.state, "site": v.site, "update_counter": v.counter, "token": token, "public_ip": "10.0.0.1",
	})
	if err != nil {
		panic(err)
	}
	copies := 1
	if c.rand.IntN(10) == 0 {
		copies = 2
	}
	subject := events.DefaultPrefix.Node(v.id, events.OpInstanceInfo)
	for range copies {
		c.reports.Add(1)
		c.later(0, 50*time.Millisecond, func() {
			for c.ctx.Err() == nil {
				ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
				_, err := c.js.Publish(ctx, subject, body)
				cancel()
				if err == nil || !pauseFor(c.ctx, 100*time.Millisecond) {
					return
				}
			}
		})
	}
}

// token makes the token of a report.
func (c *cloud) token() string {
	token := fmt.Sprint("tok-r-", len(c.tokens))
	c.tokens[token] = true
	return token
}

// heartbeats sends those of all that run.
func (c *cloud) heartbeats() {
	for pauseFor(c.ctx, 300*time.Millisecond) {
		now := time.Now()
		c.mu.Lock()
		states := map[string]string{}
		for id, v := range c.vms {
			state, beats := c.says(v, now)
			if !beats {
				continue
			}
			if !c.calm && c.rand.IntN(300) == 0 {
				state = string(events.HealthProcessError)
			}
			states[id] = state
		}
		c.mu.Unlock()
		for id, state := range states {
			c.beat(id, state)
		}
	}
}

// says is what the agent of a vm says of it; ok is false where it says nothing.
func (c *cloud) says(v *vm, now time.Time) (state string, ok bool) {
	switch s := c.storms[v.site]; {
	case !v.live || v.state != events.Running || !c.calm && now.Before(v.silent):
		return "", false
	case s.takes(v.id):
		return s.health, s.health != ""
	}
	return string(events.HealthOK), true
}

// asked answers the dump_state of an agent with a heartbeat.
func (c *cloud) asked(m *nats.Msg) {
	id := strings.Split(m.Subject, ".")[2]
	c.mu.Lock()
	state, answers := "", false
	if v := c.vms[id]; v != nil {
		state, answers = c.says(v, time.Now())
	}
	c.mu.Unlock()
	if answers {
		c.beat(id, state)
	}
}

// beat sends one heartbeat.
func (c *cloud) beat(id, state string) {
	c.beats.Add(1)
	body := `{"node_id":` + strconv.Quote(id) + `,"state":` + strconv.Quote(state) + `}`
	_ = c.nc.Publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), []byte(body)) // nobody promises that it arrives
}

// settle lets nothing fail from now on.
func (c *cloud) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = true
}

// living gives the ids of the vms that run, sorted, and what is odd about any.
func (c *cloud) living() (ids, odd []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, v := range c.vms {
		if v.live {
			ids = append(ids, id)
		}
		if v.launches > 1 {
			odd = append(odd, fmt.Sprintf("%s was launched %d times", id, v.launches))
		}
	}
	slices.Sort(ids)
	return ids, odd
}
