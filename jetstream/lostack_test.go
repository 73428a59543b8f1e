package jetstream_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-524e47bf/epum/jetstream"
)

// mutableProxy passes connections on to a server. While it is muted nothing comes
// back, as when acks are lost; unmute cuts the muted connections off.
type mutableProxy struct {
	net.Listener
	muted atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t *testing.T, server string) *mutableProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &mutableProxy{Listener: l}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, upstream)
			p.mu.Unlock()
			go p.copy(upstream, client, false)
			go p.copy(client, upstream, true)
		}
	}()
	return p
}

func (p *mutableProxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if answers && p.muted.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *mutableProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *mutableProxy) unmute() {
	p.cut()
	p.muted.Store(false)
}

// TestLostAck loses the answer of every kind of write: each finds out that it
// landed, and is in its stream once.
func TestLostAck(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	proxy := startProxy(t, strings.TrimPrefix(srv.ClientURL(), "nats://"))
	cell := openCell(t, connect(t, "nats://"+proxy.Addr().String()), jetstream.Config{})
	direct := openCell(t, connect(t, srv.ClientURL()), jetstream.Config{Process: "direct"})
	log := cell.Log()
	epoch := elect(t, log, "p1")

	// lose runs a write whose answer is lost, and gives the sequence that the
	// write finds and the one that the stream has then.
	lose := func(t *testing.T, landed func() bool, do func() (uint64, error)) uint64 {
		t.Helper()
		proxy.muted.Store(true)
		type result struct {
			seq uint64
			err error
		}
		got := make(chan result, 1)
		go func() {
			seq, err := do()
			got <- result{seq, err}
		}()
		eventually(t, func() error {
			if !landed() {
				return net.ErrClosed
			}
			return nil
		})
		proxy.unmute()
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.seq
	}
	reaches := func(seq uint64) func() bool {
		return func() bool {
			end, err := direct.Log().End(t.Context())
			return err == nil && end.Seq >= seq
		}
	}
	once := func(t *testing.T, seq, want uint64) {
		t.Helper()
		if end, err := direct.Log().End(t.Context()); err != nil || seq != want || end.Seq != want {
			t.Errorf("it is %d, the end %+v, %v; want %d", seq, end, err, want)
		}
	}
	t.Run("append", func(t *testing.T) {
		once(t, lose(t, reaches(epoch+1), func() (uint64, error) { return log.Append(t.Context(), added(1)) }), epoch+1)
	})
	t.Run("unguarded append", func(t *testing.T) {
		d := added(2)
		d.Guard.Key = ""
		once(t, lose(t, reaches(epoch+2), func() (uint64, error) { return log.Append(t.Context(), d) }), epoch+2)
	})
	t.Run("fenced append", func(t *testing.T) {
		once(t, lose(t, reaches(epoch+12), func() (uint64, error) {
			return log.AppendFenced(t.Context(), epoch, passDraft(epoch), launches(epoch, domain(1), 9))
		}), epoch+12)
	})
	t.Run("the pass alone", func(t *testing.T) {
		once(t, lose(t, reaches(epoch+13), func() (uint64, error) { return log.AppendFenced(t.Context(), epoch, passDraft(epoch), nil) }), epoch+13)
	})
	t.Run("bucket", func(t *testing.T) {
		landed := func() bool {
			got, err := direct.State().Read(t.Context(), "checkpoint")
			return err == nil && len(got) == 1
		}
		rev := lose(t, landed, func() (uint64, error) {
			return cell.State().Write(t.Context(), instances(domain(1), 4), []byte("c"), 0)
		})
		if got, err := direct.State().Read(t.Context(), "checkpoint"); err != nil || got[0].Revision != rev || rev != 5 {
			t.Errorf("revision %d, is %v, %v", rev, got, err)
		}
	})
	t.Run("shadow", func(t *testing.T) {
		landed := func() bool {
			_, _, err := direct.Shadows().Last(t.Context(), domain(1))
			return err == nil
		}
		seq := lose(t, landed, func() (uint64, error) { return cell.Shadows().Append(t.Context(), domain(1), "id1", []byte("{}"), 0) })
		if last, _, err := direct.Shadows().Last(t.Context(), domain(1)); err != nil || last != seq || seq != 1 {
			t.Errorf("it is %d, the last one %d, %v", seq, last, err)
		}
	})
}
