package tests

import (
	"context"
	"encoding/json"
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
)

// TestFailover_Servers has the servers fail in the middle of a domain's life.
func TestFailover_Servers(t *testing.T) {
	t.Parallel()
	runChosen(t, []testCase{
		{"server killed", func(t *testing.T) { aroundServer(t, func(s *natsServer, _ *cell) { s.kill() }, again) }},
		{"server paused", func(t *testing.T) {
			aroundServer(t, func(s *natsServer, f *cell) { s.pause(); f.disconnected() }, (*natsServer).resume)
		}},
		{"node killed", func(t *testing.T) { aroundNode(t, (*natsServer).kill, again) }},
		{"node paused", func(t *testing.T) { aroundNode(t, (*natsServer).pause, (*natsServer).resume) }},
		{"node cut off", nodeCutOff},
		{"leader and follower killed", func(t *testing.T) { noQuorum(t, 0, (*natsServer).kill, again) }},
		{"leader and follower paused", func(t *testing.T) { noQuorum(t, 0, (*natsServer).pause, (*natsServer).resume) }},
		{"followers killed", func(t *testing.T) { noQuorum(t, 1, (*natsServer).kill, again) }},
		{"followers paused", func(t *testing.T) { noQuorum(t, 1, (*natsServer).pause, (*natsServer).resume) }},
		{"store limit", storeLimit},
		{"disk full", diskFull},
	}, []string{"server_killed"})
}

// again starts a server that was killed.
func again(s *natsServer) { s.start().ready() }

// aroundServer is a life in which the only server goes and comes back, twice.
func aroundServer(t *testing.T, hit func(*natsServer, *cell), heal func(*natsServer)) {
	server := newNATS(t, natsOptions{}).start().ready()
	f := newCell(t, &backend{servers: []*natsServer{server}, replicas: 1, lease: time.Second})
	f.still()
	w := f.observe("web", false)
	acknowledged := f.keepWriting("still", false)
	f.grow(w, nil)
	for range 2 {
		hit(server, f)
		heal(server)
		f.goesOn(acknowledged.Load)
	}
	f.shrink(w, nil)
	f.asIfNothingHappened(w)
}

// aroundNode is a life in which the node that leads the log's stream goes, another
// takes over, and it comes back.
func aroundNode(t *testing.T, hit, heal func(*natsServer)) {
	c := newCluster(t)
	f := newCell(t, c.backend())
	f.still()
	w := f.observe("web", false)
	acknowledged := f.keepWriting("still", false)
	f.grow(w, nil)
	lost := f.streamLeader()
	hit(c.nodes[lost])
	f.slowly("another node leads the stream", func() bool {
		n := f.streamLeader()
		return n >= 0 && n != lost
	})
	f.goesOn(acknowledged.Load)
	heal(c.nodes[lost])
	f.whole(c)
	f.shrink(w, nil)
	f.asIfNothingHappened(w)
}

// nodeCutOff cuts the node that leads the stream off from the other two, but not
// from a client and a process that know no other. They are never told what is old,
// nor that a command was taken.
func nodeCutOff(t *testing.T) {
	c := newCluster(t)
	f := newCell(t, c.backend())
	f.still()
	w := f.observe("web", false)
	acknowledged := f.keepWriting("still", false)
	f.grow(w, nil)
	lost := f.streamLeader()
	alone := dial(t, c.nodes[lost].url())
	w.through(alone)
	for n := range c.nodes {
		if n != lost {
			f.members[0].ways[n].sever()
		}
	}
	for _, ways := range [][]*proxy{f.ways, f.members[1].ways, f.members[2].ways} {
		ways[lost].sever()
	}
	f.reachable(alone, 3)
	describe := func(want int) {
		t.Helper()
		f.slowly("the node that is alone describes with "+strconv.Itoa(want), func() bool {
			return f.inTime(alone, natsapi.OpDescribeDomain, map[string]string{"domain_id": "web"}, "").code == want
		})
	}
	describe(200)

	heal := c.cutOff(lost)
	f.reachable(alone, 1)
	repeat := f.refusedForNow(alone)
	f.goesOn(acknowledged.Load)
	w.acknowledged(f.command(commands.ReconfigureDomain{DomainID: "web", Config: preserve(2)}))
	describe(503)
	w.acknowledged(f.command(commands.ReconfigureDomain{DomainID: "web", Config: preserve(2)}))
	heal()
	for _, way := range slices.Concat(f.ways, f.members[0].ways, f.members[1].ways, f.members[2].ways) {
		way.heal()
	}
	repeat()
	f.whole(c)
	f.shrink(w, nil)
	f.asIfNothingHappened(w)
}

// noQuorum takes two of three nodes away, from the stream's leader (0) or from the
// one behind it (1) on: what is asked of the third is answered with 503, or right,
// in time. Where the third is the leader, what it could not commit may land later.
func noQuorum(t *testing.T, from int, hit, heal func(*natsServer)) {
	c := newCluster(t)
	f := newCell(t, c.backend())
	f.still()
	w := f.observe("web", false)
	f.grow(w, nil)
	from += f.streamLeader()
	lost := []*natsServer{c.nodes[from%3], c.nodes[(from+1)%3]}
	for _, s := range lost {
		hit(s)
	}
	left := dial(t, c.nodes[(from+2)%3].url())
	w.through(left)
	f.reachable(left, 3)
	repeat := f.refusedForNow(left)
	for _, s := range lost {
		heal(s)
	}
	repeat()
	f.whole(c)
	f.shrink(w, nil)
	f.asIfNothingHappened(w)
}

// refusedForNow sends commands that the log cannot take, and reads, over a
// connection to a server that is up: each is answered in time, and no command with
// 200. repeat sends the commands again, once the log can take them.
func (f *cell) refusedForNow(nc *nats.Conn) (repeat func()) {
	f.t.Helper()
	var asking sync.WaitGroup
	cmds := map[string]commands.Command{}
	for n := range 6 {
		id := uuid.NewString()
		cmd := commands.SubscribeDomain{DomainID: "web", SubscriberName: "n" + strconv.Itoa(n), SubscriberOp: "o"}
		cmds[id] = cmd
		asking.Go(func() {
			if code := f.send(nc, cmd, id); code != 503 {
				f.t.Errorf("a command is answered with %d", code)
			}
		})
		asking.Go(func() { f.inTime(nc, natsapi.OpDescribeDomain, map[string]string{"domain_id": "web"}, "") })
	}
	asking.Wait()
	return func() {
		f.t.Helper()
		for id, cmd := range cmds {
			f.repeat(cmd, id)
		}
	}
}

// repeat sends a command again until it is acknowledged, and then once more.
func (f *cell) repeat(cmd commands.Command, id string) {
	f.t.Helper()
	for range 2 {
		if _, err := f.attempt(cmd, id, 3*patience); err != nil {
			f.t.Fatalf("repeat %s: %v", id, err)
		}
	}
}

// send sends a command once, and gives the code of the answer.
func (f *cell) send(nc *nats.Conn, cmd commands.Command, id string) int {
	f.attempted(cmd, id)
	a := f.inTime(nc, cmd.Op(), cmd, id)
	if a.code == 200 {
		f.acknowledged(id, a.seq)
	}
	return a.code
}

// inTime sends a request once: it has to be answered within 5 s, and unless the
// answer is 200, with 503.
func (f *cell) inTime(nc *nats.Conn, op string, request any, id string) answer {
	const most = 5 * time.Second
	msg := nats.NewMsg(f.prefix.Command("al", op))
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	var err error
	if msg.Data, err = json.Marshal(request); err != nil {
		f.t.Error(err)
		return answer{}
	}
	reply, err := nc.RequestMsg(msg, most)
	if err != nil {
		f.t.Errorf("%s: no answer within %s: %v", op, most, err)
		return answer{}
	}
	a := f.readAnswer(reply)
	if a.code != 200 && a.code != 503 {
		f.t.Errorf("%s is answered with %d %s", op, a.code, a.message)
	}
	return a
}

// goesOn waits until further commands are acknowledged.
func (f *cell) goesOn(acknowledged func() uint64) {
	f.t.Helper()
	from := acknowledged()
	f.slowly("commands are acknowledged again", func() bool { return acknowledged() > from+3 })
}

// disconnected waits until all processes have noticed that their server is gone.
func (f *cell) disconnected() {
	f.t.Helper()
	const noticed = `"nats disconnected"`
	var before []int
	for _, m := range f.members {
		before = append(before, m.out.said(noticed))
	}
	for n, m := range f.members {
		eventually(f.t, "the server is missed", func() bool { return m.out.said(noticed) > before[n] })
	}
}

// reachable waits until the processes that answer over a connection are so many,
// and no request is sent elsewhere: to a server that is not there any more.
func (f *cell) reachable(nc *nats.Conn, processes int) {
	f.t.Helper()
	f.answering(nc, processes)
	f.slowly("all requests are answered", func() bool {
		for range 20 {
			// What is no request is refused by whoever takes it, without a look at the log.
			if _, err := nc.Request(f.prefix.Command("al", natsapi.OpDescribeDomain), []byte("["), 500*time.Millisecond); err != nil {
				return false
			}
		}
		return true
	})
}

// whole waits until all nodes have come back, and have what the others have.
func (f *cell) whole(c *natsCluster) {
	f.t.Helper()
	for _, node := range c.nodes {
		js, err := natsjs.New(dial(f.t, node.url()))
		if err != nil {
			f.t.Fatal(err)
		}
		f.slowly("the node is back", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := js.AccountInfo(ctx)
			return err == nil
		})
	}
	for _, stream := range []string{events.StreamEvents, events.BucketState} {
		f.slowly(stream+" is copied", func() bool { return f.isCopied(stream) })
	}
}

// streamLeader gives the node that leads the log's stream; -1 where none does.
func (e *epum) streamLeader() int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := e.js.Stream(ctx, e.prefix.Stream(events.StreamEvents))
	if err != nil || s.CachedInfo().Cluster == nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimPrefix(s.CachedInfo().Cluster.Leader, "n"))
	if err != nil {
		return -1
	}
	return n
}
