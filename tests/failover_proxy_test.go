package tests

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy is the way to an address that can be taken away.
type proxy struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	state  *sync.Cond // of held and severed
	held   bool       // what comes waits
	severe bool       // connections are closed, and new ones at once
	conns  map[net.Conn]bool
}

// newProxy starts a way to an address; nobody need listen there yet.
func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, conns: map[net.Conn]bool{}}
	p.state = sync.NewCond(&p.mu)
	var running sync.WaitGroup
	running.Go(func() { p.accept(&running) })
	t.Cleanup(func() {
		_ = l.Close()
		p.sever()
		p.mu.Lock()
		p.held = false
		p.state.Broadcast()
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// hold keeps what comes, either way, until heal: as TCP does where packets are
// lost. What was sent meanwhile arrives late.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// sever closes all connections, and each new one, until heal.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.severe = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.state.Broadcast()
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.severe = false, false
	p.state.Broadcast()
}

func (p *proxy) accept(running *sync.WaitGroup) {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { p.connect(near, running) })
	}
}

// connect joins a connection with one to the other side.
func (p *proxy) connect(near net.Conn, running *sync.WaitGroup) {
	p.pass()
	far, err := net.DialTimeout("tcp", p.to, 2*time.Second)
	if err != nil {
		_ = near.Close()
		return
	}
	p.mu.Lock()
	p.conns[near], p.conns[far] = true, true
	severed := p.severe
	p.mu.Unlock()
	if severed {
		_, _ = near.Close(), far.Close()
	}
	running.Go(func() { p.copy(near, far) })
	p.copy(far, near)
}

// copy copies one way until either side is closed.
func (p *proxy) copy(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		delete(p.conns, to)
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.pass()
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// pass waits while the way is held.
func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held && !p.severe {
		p.state.Wait()
	}
}
