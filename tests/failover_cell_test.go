package tests

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// backend is the servers that cells are on.
type backend struct {
	servers  []*natsServer
	replicas int
	lease    time.Duration
}

// ways makes a way to each server.
func (b *backend) ways(t *testing.T) []*proxy {
	t.Helper()
	var ways []*proxy
	for _, s := range b.servers {
		ways = append(ways, newProxy(t, strings.TrimPrefix(s.url(), "nats://")))
	}
	return ways
}

func urlOf(ways []*proxy) string {
	urls := make([]string, len(ways))
	for n, way := range ways {
		urls[n] = "nats://" + way.address()
	}
	return strings.Join(urls, ",")
}

// dial connects as the service does: a server that does not answer is noticed.
func dial(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: url, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// cell is three processes of the service, and a test, each with a way of its own to
// each server.
type cell struct {
	*epum
	t       *testing.T
	backend *backend
	members []*member
	cloud   *provisioner
	ways    []*proxy // of the test itself, to each server

	background []func() // stop what during has started

	mu       sync.Mutex
	attempts map[string]*attempt // by command id
}

// member is one of the processes.
type member struct {
	*machine
	ways []*proxy // to each server
}

// newCell starts a cell, whose prefix nobody else has.
func newCell(t *testing.T, b *backend) *cell {
	t.Helper()
	ways := b.ways(t)
	nc := dial(t, urlOf(ways))
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	prefix := events.Prefix("f" + strings.ReplaceAll(uuid.NewString(), "-", ""))
	f := &cell{
		t: t, backend: b, ways: ways, attempts: map[string]*attempt{},
		epum: &epum{t: t, prefix: prefix, url: urlOf(ways), nc: nc, js: js},
	}
	t.Cleanup(f.cleanUp)
	for range 3 {
		m := &member{machine: newMachine(t), ways: b.ways(t)}
		f.members = append(f.members, m)
		f.start(m)
	}
	f.cloud = f.provisioner()
	return f
}

// cleanUp shows what the processes said where the test has failed, and leaves
// the servers to the other cells.
func (f *cell) cleanUp() {
	for n, m := range f.members {
		if f.t.Failed() && m.out != nil {
			f.t.Logf("log of process %d, %s:\n%s", n, m.process, m.out)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	names := f.js.StreamNames(ctx)
	for name := range names.Name() {
		if strings.Contains(name, string(f.prefix)) {
			_ = f.js.DeleteStream(ctx, name) // best effort: nobody else uses it
		}
	}
}

// start starts a process that is not running.
func (f *cell) start(m *member) {
	f.t.Helper()
	m.serve("--nats.url", urlOf(m.ways), "--nats.replicas", strconv.Itoa(f.backend.replicas), "--prefix", string(f.prefix),
		"--provisioner", "nats", "--lease_ttl", f.backend.lease.String(), "--log.format", "json")
}

// command carries out a command, which has to work, and gives its sequence.
func (f *cell) command(cmd commands.Command) uint64 {
	f.t.Helper()
	seq, err := f.attempt(cmd, uuid.NewString(), patience)
	if err != nil {
		f.t.Fatalf("%T: %v", cmd, err)
	}
	return seq
}

// attempt sends a command until it is acknowledged or the time is over, and
// notes what became of it.
func (f *cell) attempt(cmd commands.Command, id string, atMost time.Duration) (uint64, error) {
	f.attempted(cmd, id)
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	seq, err := f.as("al").Do(ctx, cmd, natsapi.WithCommandID(id))
	if err == nil {
		f.acknowledged(id, seq)
	}
	return seq, err
}

// attempted notes that a command is sent, maybe again.
func (f *cell) attempted(cmd commands.Command, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attempts[id] == nil {
		f.attempts[id] = &attempt{cmd: cmd, caller: "al", id: id}
	}
}

func (f *cell) acknowledged(id string, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.attempts[id]
	if a.outcome == acknowledged && a.seq != seq {
		f.t.Errorf("the command %s was acknowledged at %d and at %d", id, a.seq, seq)
	}
	a.outcome, a.seq = acknowledged, seq
}

// checkLog checks the whole log against all that was attempted.
func (f *cell) checkLog() {
	f.t.Helper()
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.attempts))
	f.mu.Unlock()
	for _, finding := range checkLog(f.log(), expectations{attempts: all}) {
		f.t.Error(finding)
	}
}

// elected gives who was elected last, and when; zero where nobody says.
func (f *cell) elected() (process string, epoch uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := f.js.Stream(ctx, f.prefix.Stream(events.StreamEvents))
	if err != nil {
		return "", 0
	}
	last, err := s.GetLastMsgForSubject(ctx, f.prefix.Event(events.LeaderKey))
	if err != nil {
		return "", 0
	}
	if e, ok := events.Decode(last.Header.Get(events.HeaderType), last.Data).(events.LeaderElected); ok {
		return e.Process, last.Sequence
	}
	return "", 0
}

// settled waits until the domain has so many running instances and no others.
func (f *cell) settled(domain string, running int) {
	f.t.Helper()
	f.slowly(domain+" runs "+strconv.Itoa(running), func() bool {
		doc := f.describe("al", domain)
		return len(doc.Instances) == running && doc.InstanceCounts[events.Running] == running
	})
}

// slowly is eventually for what takes the wait for an ack or an election of servers:
// a report that a process took along when it died comes to another after 30 s.
func (f *cell) slowly(what string, holds func() bool) {
	f.t.Helper()
	for late := time.Now().Add(2 * patience); !holds() && time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
	}
	eventually(f.t, what, holds)
}

// asked waits until the provisioner was asked for so many instances of a domain,
// which has its name as its site, and gives their ids. That one is asked for again
// is no matter.
func (f *cell) asked(domain string, want int) []string {
	f.t.Helper()
	return f.distinct(strconv.Itoa(want)+" instances of "+domain+" are asked for", want, func() []string {
		launches, _, _ := f.cloud.heard()
		var ids []string
		for _, l := range launches {
			if l.Site == domain {
				ids = append(ids, l.InstanceIDs...)
			}
		}
		return ids
	})
}

// ended is asked for the instances that are to be terminated, of all domains.
func (f *cell) ended(want int) []string {
	f.t.Helper()
	return f.distinct(strconv.Itoa(want)+" instances are to be terminated", want, func() []string {
		_, ids, _ := f.cloud.heard()
		return ids
	})
}

func (f *cell) distinct(what string, want int, heard func() []string) []string {
	f.t.Helper()
	var ids []string
	eventually(f.t, what, func() bool {
		ids = heard()
		slices.Sort(ids)
		ids = slices.Compact(ids)
		return len(ids) >= want
	})
	if len(ids) != want {
		f.t.Fatalf("%s: there are %q", what, ids)
	}
	return ids
}

// output keeps what a process says; it may be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String implements fmt.Stringer.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// said counts what the process has said.
func (o *output) said(what ...string) (n int) {
	text := o.String()
	for _, w := range what {
		n += strings.Count(text, w)
	}
	return n
}
