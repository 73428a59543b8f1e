package jetstream

import (
	"bytes"
	"net"
	"strconv"
)

// wireDialer dials connections on which a subject with a carriage return does no
// harm. The server passes on what any program sends as a subject or reply, up to the
// next space. nats.go (1.55) takes a carriage return for the end of a word, and so
// reads other sizes than were sent, or closes the connection; what is in a stream
// then comes again, for ever. Such a subject gets a question mark in its place, which
// no name has in its canonical form.
//
// It reads what is not encrypted alone: a connection with TLS is left as it is.
type wireDialer struct{ net.Dialer }

// Dial implements nats.CustomDialer.
func (d *wireDialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c}, nil
}

// wire is one such connection.
type wire struct {
	net.Conn
	line    []byte // the part of a line that has come, where its end has not
	held    bool   // a carriage return was read that may end the line, or not
	payload int    // bytes that are still to come of a message
	opaque  bool   // this is not, or no longer, the protocol of NATS
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if w.opaque || len(p) < 2 {
		return w.readOpaque(p)
	}
	from := 0
	if w.held {
		p[0], from = '\r', 1
	}
	n, err := w.Conn.Read(p[from:])
	if n == 0 {
		return 0, err
	}
	w.held = false
	n = w.clean(p[:from+n])
	if n == 0 && err == nil { // all there was is held
		return w.Read(p)
	}
	return n, err
}

func (w *wire) readOpaque(p []byte) (int, error) {
	if w.held && len(p) > 0 {
		p[0], w.held = '\r', false
		return 1, nil
	}
	return w.Conn.Read(p)
}

// clean replaces the carriage returns inside lines, and gives how much of it may be
// handed on: all but one at the end that is not decided on.
func (w *wire) clean(b []byte) int {
	for at := 0; at < len(b) && !w.opaque; {
		if w.payload > 0 {
			skipped := min(w.payload, len(b)-at)
			w.payload -= skipped
			at += skipped
			continue
		}
		rest := b[at:]
		if w.opaque = !protocol(w.line, rest); w.opaque {
			break
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			if w.held = rest[len(rest)-1] == '\r'; w.held {
				rest, b = rest[:len(rest)-1], b[:len(b)-1]
			}
			replaceReturns(rest)
			w.line = append(w.line, rest...)
			break
		}
		line := bytes.TrimSuffix(rest[:end], []byte{'\r'})
		replaceReturns(line)
		if len(w.line) > 0 {
			line = append(w.line, line...)
			w.line = line[:0]
		}
		w.payload = payloadOf(line)
		at += end + 1
	}
	return len(b)
}

func replaceReturns(line []byte) {
	for {
		n := bytes.IndexByte(line, '\r')
		if n < 0 {
			return
		}
		line[n] = '?'
		line = line[n+1:]
	}
}

// operations is what a line of the server begins with.
var operations = [][]byte{[]byte("MSG "), []byte("HMSG "), []byte("PING"), []byte("PONG"), []byte("+OK"), []byte("-ERR"), []byte("INFO ")}

// protocol reports whether a line that begins with two parts, or as far as it has
// come, is one of the server's.
func protocol(first, then []byte) bool {
	for _, op := range operations {
		n := min(len(op), len(first))
		rest := op[n:]
		m := min(len(rest), len(then))
		if bytes.Equal(op[:n], first[:n]) && bytes.Equal(rest[:m], then[:m]) {
			return true
		}
	}
	return false
}

// payloadOf is how many bytes follow a line before the next.
func payloadOf(line []byte) int {
	if !bytes.HasPrefix(line, operations[0]) && !bytes.HasPrefix(line, operations[1]) {
		return 0
	}
	size, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
	if err != nil || size < 0 {
		return 0
	}
	return size + len("\r\n")
}
