package tests

import (
	"context"
	"syscall"
	"time"
)

// saboteur breaks one node, or the NATS server, again and again.
type saboteur struct {
	fleet  *fleet
	script *faultScript
	node   *node          // nil: the server
	counts map[string]int // faults by kind
}

// run follows the script until ctx ends; then all is whole again.
func (s *saboteur) run(ctx context.Context) {
	for {
		f := s.script.next(s.node == nil)
		if !pauseFor(ctx, f.pause) {
			return
		}
		s.counts[f.kind]++
		if s.node == nil {
			s.breakServer(ctx, f)
		} else {
			s.breakNode(ctx, f)
		}
	}
}

func (s *saboteur) breakServer(ctx context.Context, f fault) {
	server := s.fleet.servers[s.script.IntN(len(s.fleet.servers))]
	if f.kind == "server kill" {
		server.kill()
		pauseFor(ctx, f.lasts)
		server.start().answers()
		return
	}
	server.pause()
	pauseFor(ctx, f.lasts)
	server.resume()
}

func (s *saboteur) breakNode(ctx context.Context, f fault) {
	n, w := s.node, s.node.wire
	defer w.mend()
	trapped := func(t *trap) {
		if s.reached(ctx, t) {
			pauseFor(ctx, f.lasts)
		}
	}
	switch f.kind {
	case "kill":
		s.down(ctx, syscall.SIGKILL, f.lasts)
	case "term":
		s.down(ctx, syscall.SIGTERM, f.lasts)
	case "freeze", "freeze long":
		n.signal(syscall.SIGSTOP)
		pauseFor(ctx, f.lasts)
		n.signal(syscall.SIGCONT)
	case "hold batch":
		trapped(w.hold("HPUB epum.event.", "Nats-Batch-Commit"))
	case "hold event":
		trapped(w.hold("HPUB epum.event.domain."))
	case "lose batch answer":
		trapped(w.lose("HPUB epum.event.", "Nats-Batch-Commit"))
	case "lose event answer":
		trapped(w.lose("HPUB epum.event.domain."))
	default:
		s.breakWire(w, f.kind)
		pauseFor(ctx, f.lasts)
	}
}

func (s *saboteur) breakWire(w *wire, kind string) {
	switch kind {
	case "cut":
		w.cut()
	case "black hole":
		w.eat(toServer)
		w.eat(toClient)
	case "deaf":
		w.eat(toClient)
	case "mute":
		w.eat(toServer)
	case "slow":
		w.delay(20 * time.Millisecond)
	default:
		s.fleet.t.Errorf("no fault %q", kind)
	}
}

// reached waits for a trap to spring, at most as long as it is worth.
func (s *saboteur) reached(ctx context.Context, t *trap) bool {
	select {
	case <-t.sprung:
		s.counts["sprung"]++
		return true
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	return false
}

// down ends the service on the node for a while.
func (s *saboteur) down(ctx context.Context, sig syscall.Signal, lasts time.Duration) {
	s.node.down.Store(true)
	s.node.ended.Store(true)
	s.node.end(sig)
	pauseFor(ctx, lasts)
	s.node.down.Store(false) // whoever minds the fleet starts it again
}

// blackouts kills all processes at once, again and again, and gives how often.
func (f *fleet) blackouts(ctx context.Context, script *faultScript) (n int) {
	for pauseFor(ctx, script.between(script.calm/4, script.calm)) {
		f.dark.Store(true)
		for _, node := range f.nodes {
			node.ended.Store(true)
			node.end(syscall.SIGKILL)
		}
		n++
		pauseFor(ctx, script.between(time.Second, 3*time.Second))
		f.dark.Store(false)
	}
	return n
}
