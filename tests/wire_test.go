package tests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// wire is the network between one client of NATS and the server, message by
// message, for tests that break it. It starts out whole.
type wire struct {
	net.Listener
	server string

	mu    sync.Mutex
	links map[*link]bool
	down  bool          // nobody gets through, and no connection lasts
	eaten [2]bool       // what goes in a direction vanishes
	late  time.Duration // how long each message is under way
	trap  *trap         // nil: none is set
	loss  *trap         // nil: none is set
}

// The directions of a wire.
const (
	toServer = iota
	toClient
)

// link is one connection through a wire.
type link struct {
	ends [2]net.Conn // [toServer] is where the server is
	lost []byte      // the subject of the answer that is to be lost; nil: none
}

// trap waits for a message to the server. It springs once.
type trap struct {
	marks  [][]byte      // all of them are in the message
	sprung chan struct{} // closed when it was there
	let    chan struct{} // closed when it may go on
	once   sync.Once
}

func newTrap(marks []string) *trap {
	t := &trap{sprung: make(chan struct{}), let: make(chan struct{})}
	for _, m := range marks {
		t.marks = append(t.marks, []byte(m))
	}
	return t
}

// release lets go on what was held.
func (t *trap) release() { t.once.Do(func() { close(t.let) }) }

func (t *trap) isSprung() bool {
	select {
	case <-t.sprung:
		return true
	default:
		return false
	}
}

// catches reports whether the trap springs on a message; only the first time.
func (t *trap) catches(message []byte) bool {
	if t == nil || t.isSprung() {
		return false
	}
	for _, m := range t.marks {
		if !bytes.Contains(message, m) {
			return false
		}
	}
	close(t.sprung)
	return true
}

// newWire lays a wire to a server's address.
func newWire(t testing.TB, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server, links: map[*link]bool{}}
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go w.connect(client)
		}
	}()
	return w
}

func (w *wire) url() string { return "nats://" + w.Addr().String() }

func (w *wire) connect(client net.Conn) {
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		client.Close()
		return
	}
	l := &link{ends: [2]net.Conn{server, client}}
	w.mu.Lock()
	if w.down {
		l.close()
	}
	w.links[l] = true
	w.mu.Unlock()
	go func() {
		w.carry(l, toServer)
		l.close()
		w.mu.Lock()
		delete(w.links, l)
		w.mu.Unlock()
	}()
	w.carry(l, toClient)
	// What the client has sent may still be held: the server's end stays open.
	client.Close()
}

func (l *link) close() {
	l.ends[toServer].Close()
	l.ends[toClient].Close()
}

// carry carries messages in one direction until the sender's end is closed, or,
// to the server, until the server's end is.
func (w *wire) carry(l *link, direction int) {
	r := bufio.NewReaderSize(l.ends[1-direction], 64<<10)
	to := bufio.NewWriterSize(l.ends[direction], 64<<10)
	for {
		message, err := readMessage(r)
		if err != nil {
			_ = to.Flush()
			return
		}
		if !w.passes(l, direction, message, to) {
			continue
		}
		_, err = to.Write(message)
		if err == nil && r.Buffered() == 0 {
			err = to.Flush()
		}
		if err != nil && direction == toServer {
			return
		}
	}
}

// passes says whether a message goes on, once it may.
func (w *wire) passes(l *link, direction int, message []byte, before *bufio.Writer) bool {
	w.mu.Lock()
	late, eaten := w.late, w.eaten[direction]
	var held *trap
	if direction == toServer && !eaten {
		if w.trap.catches(message) {
			held = w.trap
		}
		if reply := replyOf(message); reply != nil && w.loss.catches(message) {
			l.lost = reply
		}
	}
	lost := direction == toClient && l.lost != nil && bytes.Equal(subjectOf(message), l.lost)
	w.mu.Unlock()
	if late > 0 {
		time.Sleep(late)
	}
	if held != nil {
		_ = before.Flush()
		<-held.let
	}
	return !eaten && !lost
}

// cut closes all connections, and any new one, until mend.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	w.closeAll()
}

func (w *wire) closeAll() {
	for l := range w.links {
		l.close()
	}
}

// eat swallows what goes in a direction, until mend.
func (w *wire) eat(direction int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.eaten[direction] = true
}

// delay makes every message late, until mend.
func (w *wire) delay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = d
}

// hold holds the client's next message that has all the marks, and what it sends
// behind it on that connection, until released. Other connections pass.
func (w *wire) hold(marks ...string) *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trap = newTrap(marks)
	return w.trap
}

// lose loses the answer to the client's next message that asks for one and has all
// the marks.
func (w *wire) lose(marks ...string) *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = newTrap(marks)
	return w.loss
}

// mend makes the wire whole again. Where something was swallowed no connection can
// go on, as with TCP.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.eaten != [2]bool{} {
		w.closeAll()
	}
	w.down, w.eaten, w.late, w.loss = false, [2]bool{}, 0, nil
	if w.trap != nil {
		w.trap.release()
		w.trap = nil
	}
}

var errNoNATS = errors.New("this is not the protocol of NATS")

// readMessage reads one message of the protocol of NATS: a line, and the payload
// that it announces.
func readMessage(r *bufio.Reader) ([]byte, error) {
	message, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	switch fields := bytes.Fields(message); {
	case len(fields) < 2:
	case isOp(fields[0], "PUB"), isOp(fields[0], "HPUB"), isOp(fields[0], "MSG"), isOp(fields[0], "HMSG"):
		size, err := strconv.Atoi(string(fields[len(fields)-1]))
		if err != nil {
			return nil, errNoNATS
		}
		line := len(message)
		message = append(message, make([]byte, size+2)...)
		_, err = io.ReadFull(r, message[line:])
		return message, err
	}
	return message, nil
}

func isOp(word []byte, op string) bool { return bytes.EqualFold(word, []byte(op)) }

// replyOf gives the subject that a publish wants its answer on; nil: none.
func replyOf(message []byte) []byte {
	line, _, _ := bytes.Cut(message, []byte("\r\n"))
	fields := bytes.Fields(line)
	switch {
	case len(fields) == 4 && isOp(fields[0], "PUB"), len(fields) == 5 && isOp(fields[0], "HPUB"):
		return fields[2]
	}
	return nil
}

// subjectOf gives the subject of a message to a client; nil: it is none.
func subjectOf(message []byte) []byte {
	line, _, _ := bytes.Cut(message, []byte("\r\n"))
	fields := bytes.Fields(line)
	if len(fields) > 3 && (isOp(fields[0], "MSG") || isOp(fields[0], "HMSG")) {
		return fields[1]
	}
	return nil
}
