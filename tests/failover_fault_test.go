package tests

import (
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// kind is a kind of fault that hits a process of the service, and how it ends.
type kind struct {
	name string
	hit  func(*member)
	heal func(*member) // once another one leads; nil: it is dead and is started again
}

// kinds are all kinds of faults.
var kinds = []kind{
	{name: "killed", hit: func(m *member) { _ = m.cmd.Process.Kill() }},
	{name: "terminated", hit: func(m *member) { _ = m.cmd.Process.Signal(syscall.SIGTERM) }},
	{
		name: "paused",
		hit:  func(m *member) { _ = m.cmd.Process.Signal(syscall.SIGSTOP) },
		heal: func(m *member) { _ = m.cmd.Process.Signal(syscall.SIGCONT) },
	},
	{ // what it sent and was sent meanwhile arrives late
		name: "cut off",
		hit:  eachWay((*proxy).hold),
		heal: eachWay((*proxy).heal),
	},
	{ // its connections are closed, and it gets no new ones
		name: "severed",
		hit:  eachWay((*proxy).sever),
		heal: eachWay((*proxy).heal),
	},
}

func eachWay(do func(*proxy)) func(*member) {
	return func(m *member) {
		for _, way := range m.ways {
			do(way)
		}
	}
}

// leaderFault is a fault that hits the leader. It ends when another one leads.
type leaderFault struct {
	kind
	struck chan struct{} // closed once it has hit
	over   chan struct{} // closed once it has ended
	member *member       // that was hit; set when struck
	before int           // how often the member had stopped leading; set when struck
	err    error         // set when over
}

// stoppedLeading is what a process logs that leads no more, or is not to.
var stoppedLeading = []string{`"term ended"`, `"not leading"`}

// prepare makes a fault that strike lets loose.
func prepare(k kind) *leaderFault {
	return &leaderFault{kind: k, struck: make(chan struct{}), over: make(chan struct{})}
}

// strike hits the leader now. It may be called from any goroutine, once.
func (f *cell) strike(x *leaderFault) {
	process, epoch := f.elected()
	for _, m := range f.members {
		if m.process == process {
			x.member = m
		}
	}
	if x.member == nil {
		x.err = fmt.Errorf("no process leads: %q is elected", process)
		close(x.struck)
		close(x.over)
		return
	}
	x.before = x.member.out.said(stoppedLeading...)
	x.hit(x.member)
	close(x.struck)
	go func() {
		defer close(x.over)
		x.err = f.succeeded(process, epoch)
		if x.heal != nil {
			x.heal(x.member)
		}
	}()
}

// succeeded waits until another process than the one elected in epoch is elected.
func (f *cell) succeeded(process string, epoch uint64) error {
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if p, e := f.elected(); e > epoch && p != process {
			return nil
		}
	}
	return fmt.Errorf("nobody leads after %s of epoch %d", process, epoch)
}

// strikeOn hits the leader as soon as a message on the subject is heard.
func (f *cell) strikeOn(x *leaderFault, subject string) {
	f.t.Helper()
	sub, err := f.nc.Subscribe(subject, func(*nats.Msg) {
		select {
		case <-x.struck:
		default:
			f.strike(x)
		}
	})
	if err == nil {
		err = f.nc.Flush()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = sub.Unsubscribe() })
}

// recovered waits until the fault is over: another one leads, and the process
// that was hit is back and knows that it leads no more.
func (f *cell) recovered(x *leaderFault) {
	f.t.Helper()
	await(f.t, "the fault strikes", x.struck)
	await(f.t, "another one leads", x.over)
	if x.err != nil {
		f.t.Fatal(x.err)
	}
	m := x.member
	if x.heal != nil {
		eventually(f.t, "the old leader stops leading", func() bool { return m.out.said(stoppedLeading...) > x.before })
		return
	}
	if err := m.cmd.Wait(); err != nil && x.name == "terminated" {
		f.t.Errorf("SIGTERM: %v", err)
	}
	m.cmd = nil
	f.start(m)
}
