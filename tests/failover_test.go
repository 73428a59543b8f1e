package tests

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

var failoverFaults = flag.String("failover", "kill,freeze", "which faults TestFailover has, with commas between; all: all of them")

// leaderFaults are what happens to a leader, or to its server. Each gives what
// makes it whole again.
var leaderFaults = map[string]func(f *failover, n *node) (heal func()){
	"kill": func(f *failover, n *node) func() {
		n.end(syscall.SIGKILL)
		return func() { f.serve(n) }
	},
	"term": func(f *failover, n *node) func() {
		n.end(syscall.SIGTERM)
		return func() { f.serve(n) }
	},
	"freeze": func(_ *failover, n *node) func() {
		n.signal(syscall.SIGSTOP)
		return func() { n.signal(syscall.SIGCONT) }
	},
	"cut": func(_ *failover, n *node) func() {
		n.wire.cut()
		return n.wire.mend
	},
	"black hole": func(_ *failover, n *node) func() {
		n.wire.eat(toServer)
		n.wire.eat(toClient)
		return n.wire.mend
	},
	"deaf": func(_ *failover, n *node) func() {
		n.wire.eat(toClient)
		return n.wire.mend
	},
	serverKilled: func(f *failover, n *node) func() {
		n.server.end(syscall.SIGKILL)
		f.startServer(n.server)
		f.waitServer(n.server)
		return func() {}
	},
}

// serverKilled is the one fault after which the same process may lead on.
const serverKilled = "server kill"

// redelivered is how long a wait may take for which a report is needed: one that
// was given to a process that is cut off is given to another after 30 s.
const redelivered = 50 * time.Second

// failover is a leader and a standby that domains live under.
type failover struct {
	*crew
	cloud *cloud
	fault string
}

// TestFailover has every fault at every point of a domain's life: the outcome is
// as if nothing had happened. By default it has two of the faults;
//
//	go test ./tests -run Failover -failover all
//
// has them all.
func TestFailover(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	kinds := strings.Split(*failoverFaults, ",")
	if *failoverFaults == "all" {
		kinds = nil
		for kind := range leaderFaults {
			kinds = append(kinds, kind)
		}
	}
	for _, kind := range kinds {
		if leaderFaults[kind] == nil {
			t.Fatalf("there is no fault %q", kind)
		}
		t.Run(kind, func(t *testing.T) {
			if *natsServers == 1 { // more would be too much at once
				t.Parallel()
			}
			f := &failover{crew: &crew{fleet: newFleet(t, *natsServers), path: path}, fault: kind}
			f.epum = f.connect()
			f.cloud = newCloud(t, f.connect(), 1)
			f.cloud.settle()
			lease := "1s"
			if *natsServers > 1 { // a lost stream leader costs seconds
				lease = "3s"
			}
			f.join("--retry_interval", "500ms", "--lease_ttl", lease)
			f.join("--retry_interval", "500ms", "--lease_ttl", lease)
			f.define()
			for n, stage := range stages {
				for _, moment := range moments {
					f.live(fmt.Sprint("web", n, moment[:2]), stage.name, moment)
				}
			}
			f.settled(f.epum)
			f.projected()
			f.bucketIsFold()
			findings := checkLog(f.log(), expectations{attempts: f.attempts, reports: f.cloud.tokens})
			if live, odd := f.cloud.living(); len(live)+len(odd)+len(findings) > 0 {
				t.Errorf("live: %q, odd: %q, findings:\n%s", live, odd, strings.Join(findings, "\n"))
			}
		})
	}
}

// The moments at which a stage of a domain's life is disturbed: before its
// command, when the leader's append is on its way, and when that is in the log.
var moments = []string{"before", "during", "after"}

// stages are a domain's life.
var stages = []struct {
	name    string
	begin   func(f *failover, domain string)
	events  int // launches and terminations of the domain in the log, once decided
	running int // instances, in the end
}{
	{"add", func(f *failover, domain string) {
		f.carryOut(domain, func(token string) commands.Command {
			c := tokened(2, token)
			c.Health = []byte(`{"boot_timeout":5}`) // then an instance is asked what became of it
			return commands.AddDomain{DomainID: domain, DefinitionID: "d", Config: c}
		})
	}, 2, 2},
	{"reconfigure", func(f *failover, domain string) {
		f.carryOut(domain, func(token string) commands.Command {
			return commands.ReconfigureDomain{DomainID: domain, Config: tokened(3, token)}
		})
	}, 3, 3},
	{"fail", func(f *failover, domain string) { f.cloud.fail(f.running(domain)[0]) }, 4, 3},
	{"remove", func(f *failover, domain string) {
		f.carryOut("", func(string) commands.Command { return commands.RemoveDomain{DomainID: domain} })
	}, 7, 0},
}

// carryOut sends a command with an id until its outcome is known.
func (f *failover) carryOut(token string, command func(token string) commands.Command) {
	t := f.epum.t
	t.Helper()
	n := len(f.attempts) + 1
	if token != "" {
		token = fmt.Sprint("tok-al-", n)
	}
	a := f.note(fmt.Sprint("c", n), token, command(token))
	eventually(t, a.String(), func() bool { a.send(f.nc, time.Second); return a.outcome == acknowledged })
}

// live leads a domain through its life and breaks the leader at one point of it.
func (f *failover) live(domain, stage, moment string) {
	t := f.epum.t
	t.Helper()
	for _, s := range stages {
		what := fmt.Sprintf("%s, %s of %s %s", f.fault, moment, s.name, domain)
		decided := func() { within(t, redelivered, what+": decided", func() bool { return f.actions(domain) >= s.events }) }
		if s.name == stage {
			f.disturbed(domain, moment, func() { s.begin(f, domain) }, decided)
		} else {
			s.begin(f, domain)
		}
		decided()
		within(t, redelivered, what+": all run", func() bool { return len(f.running(domain)) == s.running })
		if n := f.actions(domain); n != s.events {
			t.Fatalf("%s: %d launches and terminations, want %d", what, n, s.events)
		}
	}
	within(t, redelivered, domain+" is gone", func() bool {
		return f.fold().Domain(events.DomainID{Owner: "al", Name: domain}) == nil
	})
}

// disturbed carries out a stage while the leader breaks.
func (f *failover) disturbed(domain, moment string, begin, decided func()) {
	t := f.epum.t
	t.Helper()
	var leader *node
	var held *trap
	switch moment {
	case "during":
		done := make(chan struct{})
		leader, held = f.hold(domain, func() { defer close(done); begin() })
		defer await(t, "the command is answered", done)
	case "after":
		begin()
		decided()
	}
	leads := f.fold().Leader()
	if leader == nil {
		n := slices.IndexFunc(f.nodes, func(n *node) bool { return strings.HasPrefix(leads.Process, n.name+"-") })
		leader = f.nodes[n]
	}
	heal := leaderFaults[f.fault](f, leader)
	if moment == "before" {
		begin()
	}
	if f.fault != serverKilled {
		within(t, redelivered, "another one leads", func() bool { return f.fold().Leader().Epoch > leads.Epoch })
		decided()
	}
	if held != nil {
		held.release() // what was under way for so long arrives now
	}
	heal()
	leader.wire.mend()
	eventually(t, leader.name+" is back", func() bool { return leader.waitReady(time.Second) })
}

// hold begins a stage and holds the append of the leader that comes of it.
func (f *failover) hold(domain string, begin func()) (leader *node, held *trap) {
	traps := make([]*trap, len(f.nodes))
	for n, node := range f.nodes { // whoever leads by then
		traps[n] = node.wire.hold("HPUB epum.event.instance.al."+domain+".", "Nats-Batch-Commit")
	}
	go begin()
	within(f.epum.t, redelivered, "the leader's append is on its way", func() bool {
		for n, trap := range traps {
			select {
			case <-trap.sprung:
				leader, held = f.nodes[n], trap
			default:
			}
		}
		return leader != nil
	})
	for _, node := range f.nodes {
		if node != leader {
			node.wire.mend()
		}
	}
	return leader, held
}

// actions counts the launches and terminations of a domain that the log has.
func (f *failover) actions(domain string) (n int) {
	for _, l := range f.log() {
		of, _, _ := l.key.Parts()
		if of.Name == domain && (l.typ() == events.TypeLaunchRequested || l.typ() == events.TypeTerminateRequested) {
			n++
		}
	}
	return n
}

// running gives the ids of a domain's instances that run by the log.
func (f *failover) running(domain string) (ids []string) {
	for _, i := range f.fold().Instances(events.DomainID{Owner: "al", Name: domain}) {
		if i.State == events.Running {
			ids = append(ids, i.ID)
		}
	}
	return ids
}
