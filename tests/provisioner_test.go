package tests

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// provisioner is the cloud of a test: it records what it is asked and reports
// only what the test says.
type provisioner struct {
	e *epum

	mu         sync.Mutex
	launches   []events.ProvisionRequest
	sent       []time.Time // of each launch
	terminated []string    // one entry for each id of each request
	dumps      []string
	headers    []nats.Header
	settled    int
}

func (e *epum) provisioner() *provisioner {
	e.t.Helper()
	p := &provisioner{e: e}
	sub, err := e.nc.Subscribe(string(e.prefix)+".provisioner.*.*", p.hear)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.nc.Flush(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return p
}

func (p *provisioner) hear(msg *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	if op == "settle" {
		p.settled++
		return
	}
	p.headers = append(p.headers, msg.Header)
	var launch events.ProvisionRequest
	var nodes events.TerminateRequest
	into := any(&nodes)
	if op == events.OpProvision {
		into = &launch
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		p.e.t.Errorf("request %s is not readable: %v", msg.Subject, err)
		return
	}
	switch op {
	case events.OpProvision:
		p.launches, p.sent = append(p.launches, launch), append(p.sent, time.Now())
	case events.OpTerminateNodes:
		p.terminated = append(p.terminated, nodes.Nodes...)
	case events.OpDumpState:
		p.dumps = append(p.dumps, nodes.Nodes...)
	}
}

// newLaunched starts a server and a process, and gives al a domain "web" of one
// instance, which the provisioner has been asked for.
func newLaunched(t testing.TB) (e *epum, p *provisioner, id string) {
	t.Helper()
	e = newEpum(t)
	p = e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	e.decide()
	return e, p, p.provisions(1)[0]
}

// settle waits until all that was sent before is heard: a message of its own
// comes through after them. A pass sends its requests before it is answered.
func (p *provisioner) settle() {
	p.e.t.Helper()
	p.mu.Lock()
	want := p.settled + 1
	p.mu.Unlock()
	if err := p.e.nc.Publish(p.e.prefix.Provisioner("test", "settle"), nil); err != nil {
		p.e.t.Fatal(err)
	}
	eventually(p.e.t, "all requests are heard", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.settled >= want
	})
}

// provisions waits for a number of provision requests and gives their ids.
func (p *provisioner) provisions(want int) []string {
	p.e.t.Helper()
	var ids []string
	p.count("provision requests", want, func() int {
		ids = nil
		for _, l := range p.launches {
			ids = append(ids, l.InstanceIDs...)
		}
		return len(ids)
	})
	return ids
}

// terminations waits for a number of ids in terminate_nodes and gives them.
func (p *provisioner) terminations(want int) []string {
	p.e.t.Helper()
	var ids []string
	p.count("terminated ids", want, func() int { ids = append([]string(nil), p.terminated...); return len(ids) })
	return ids
}

// count waits until there are as many as wanted, and fails where there are more.
func (p *provisioner) count(what string, want int, count func() int) {
	p.e.t.Helper()
	p.settle()
	got := 0
	eventually(p.e.t, what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		got = count()
		return got >= want
	})
	if got != want {
		p.e.t.Fatalf("%d %s, want %d", got, what, want)
	}
}

// dumped waits for a number of ids in dump_state and gives them.
func (p *provisioner) dumped(want int) []string {
	p.e.t.Helper()
	var ids []string
	p.count("dumped ids", want, func() int { ids = append([]string(nil), p.dumps...); return len(ids) })
	return ids
}

// heard gives what has come so far.
func (p *provisioner) heard() (launches []events.ProvisionRequest, terminated []string, headers []nats.Header) {
	p.e.t.Helper()
	p.settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.launches), slices.Clone(p.terminated), slices.Clone(p.headers)
}
