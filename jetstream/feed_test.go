package jetstream

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
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

// TestDecodeAll_Bounded: what is decoded ahead is bounded in bytes, too.
func TestDecodeAll_Bounded(t *testing.T) {
	t.Parallel()
	const messages, size = 100, 250 << 10
	f := &feed{messages: make(chan *nats.Msg, messages), next: 1, silence: time.NewTimer(feedSilence)}
	for n := range messages {
		f.messages <- &nats.Msg{
			Subject: "epum.event.domain.o.d", Data: make([]byte, size), Reply: fmt.Sprintf("$JS.ACK.s.c.1.%d.%d.1.0", n+1, n+1),
		}
	}
	batches, used := make(chan []events.Recorded, messages), make(chan []events.Recorded)
	if err := (&Log{prefix: events.DefaultPrefix}).decodeAll(t.Context(), f, messages, batches, used); err != nil {
		t.Fatal(err)
	}
	close(batches)
	got := 0
	for batch := range batches {
		if got += len(batch); len(batch)*size > decodeBytes+size {
			t.Errorf("%d events of %d bytes at once", len(batch), size)
		}
	}
	if got != messages {
		t.Errorf("%d events, not %d", got, messages)
	}
}
