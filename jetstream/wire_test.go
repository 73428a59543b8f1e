package jetstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/jetstream"
)

// trickle is a connection that gives what was sent in pieces of a size.
type trickle struct {
	net.Conn
	rest []byte
	size int
}

func (t *trickle) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.rest[:min(t.size, len(t.rest))])
	t.rest = t.rest[n:]
	return n, nil
}

func TestWire(t *testing.T) {
	t.Parallel()
	tls := "INFO {}\r\n\x16\x03\x01\rMSG a\rb 1 1\r\nx\r\n\r\r"
	for name, tt := range map[string]struct{ sent, want string }{
		"plain": {"INFO {}\r\nPING\r\nMSG a.b 1 4\r\nbody\r\n+OK\r\n", ""},
		"subject": {
			"MSG a\rb 1 r\r\r 4\r\nb\r\n\r\r\nHMSG \r 7 12 14\r\nNATS/1.0\r\n\r\na\r\r\nPONG\r\n",
			"MSG a?b 1 r?? 4\r\nb\r\n\r\r\nHMSG ? 7 12 14\r\nNATS/1.0\r\n\r\na\r\r\nPONG\r\n",
		},
		"another size": {"MSG a\r1\r0 9 5\r\nMSG \r\r\nPING\r\n", "MSG a?1?0 9 5\r\nMSG \r\r\nPING\r\n"},
		"no payload":   {"MSG a 1 0\r\n\r\nMSG b\r 1 0\r\n\r\n", "MSG a 1 0\r\n\r\nMSG b? 1 0\r\n\r\n"},
		"a long line":  {"MSG " + strings.Repeat("x\r", 2000) + " 1 2\r\n\r\n\r\nPING\r\n", "MSG " + strings.Repeat("x?", 2000) + " 1 2\r\n\r\n\r\nPING\r\n"},
		"TLS":          {tls, ""},
		"websocket":    {"HTTP/1.1 101 a\rb\r\nx\r", ""},
		"cut off":      {"MSG a 1 9\r\nbo", ""},
		"nothing":      {"", ""},
	} {
		if tt.want == "" {
			tt.want = tt.sent
		}
		for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			got, err := io.ReadAll(jetstream.Wire(&trickle{rest: []byte(tt.sent), size: size}))
			if err != nil || string(got) != tt.want {
				t.Errorf("%s in pieces of %d: %q, %v, want %q", name, size, got, err, tt.want)
			}
		}
	}
}

// FuzzWire: what comes through is what was sent, but for carriage returns, however it
// is cut into pieces.
func FuzzWire(f *testing.F) {
	f.Add([]byte("MSG a\rb 1 4\r\nbody\r\nPING\r\n"), 3)
	f.Fuzz(func(t *testing.T, sent []byte, size int) {
		whole, err := io.ReadAll(jetstream.Wire(&trickle{rest: bytes.Clone(sent), size: len(sent) + 1}))
		if err != nil || len(whole) > len(sent) {
			t.Fatal(err)
		}
		for n := range whole {
			if whole[n] != sent[n] && (sent[n] != '\r' || whole[n] != '?') {
				t.Fatalf("byte %d: %q of %q", n, whole[n], sent[n])
			}
		}
		parts, err := io.ReadAll(jetstream.Wire(&trickle{rest: bytes.Clone(sent), size: 1 + (size & 0xff)}))
		if err != nil || !bytes.Equal(whole, parts) {
			t.Fatalf("in pieces %q, at once %q: %v", parts, whole, err)
		}
	})
}

// BenchmarkWire is what a message costs.
func BenchmarkWire(b *testing.B) {
	sent := bytes.Repeat(fmt.Appendf(nil, "HMSG epum.event.domain.al.web 1 $JS.ACK.epum_events.c.1.2.3.4.5 200 500\r\n%500s\r\n", ""), 100)
	buffer := make([]byte, 32<<10)
	for n := 0; n < b.N; n += 100 {
		w := jetstream.Wire(&trickle{rest: sent, size: len(sent)})
		for {
			if _, err := w.Read(buffer); err != nil {
				break
			}
		}
	}
}
