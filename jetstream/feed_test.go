package jetstream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestFeed_Stalled: a heartbeat that says that flow control has stalled the
// consumer is not the end of what there is.
func TestFeed_Stalled(t *testing.T) {
	t.Parallel()
	server, err := StartServer(EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	f := &feed{nc: nc, messages: make(chan *nats.Msg, 3), next: 1, silence: time.NewTimer(feedSilence)}
	heartbeat := func(stalled string) *nats.Msg {
		h := nats.Header{"Status": {"100"}, "Nats-Last-Consumer": {"0"}}
		if stalled != "" {
			h[headerStalled] = []string{stalled}
		}
		return &nats.Msg{Header: h}
	}
	f.messages <- heartbeat("flow.control")
	f.messages <- &nats.Msg{Subject: "x", Reply: "$JS.ACK.s.c.1.7.1.1.0", Data: []byte("x")}
	m, info, err := f.readUntilIdle(t.Context())
	if err != nil || m == nil || info.seq != 7 {
		t.Fatalf("%v %+v %v, want message 7", m, info, err)
	}
	last := heartbeat("")
	last.Header["Nats-Last-Consumer"] = []string{"1"}
	f.messages <- last
	if m, _, err = f.readUntilIdle(t.Context()); err != nil || m != nil {
		t.Errorf("%v %v, want the end", m, err)
	}
}
