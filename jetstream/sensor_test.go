package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// heardSamples collects what Follow gives, as metric=value.
type heardSamples struct {
	mu  sync.Mutex
	all []string
}

func (h *heardSamples) apply(s events.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf("%s/%s/%s=%v", s.Domain.Name, s.Instance, s.Metric, s.Value))
}

func (h *heardSamples) waitFor(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if diff := cmp.Diff(want, h.all); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// follow runs a reader until the test ends.
func follow(t *testing.T, s *jetstream.Sensor, since time.Time) *heardSamples {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h, done := &heardSamples{}, make(chan error, 1)
	go func() { done <- s.Follow(ctx, since, h.apply) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return h
}

// push publishes a sample until the stream has it.
func push(t *testing.T, nc *nats.Conn, subject, body string) {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, subject, []byte(body))
		return err
	})
}

func TestSensor_Follow(t *testing.T) {
	t.Parallel()
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	var logged bytes.Buffer
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{
		Process: "p", Prefix: "two", Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	load, queue := cell.Prefix().Sensor(domain(1), "i1", "load"), cell.Prefix().Sensor(domain(1), "", "queue")
	if load != "two.sensor.alice.d1.i1.load" {
		t.Error(load)
	}
	push(t, nc, load, `{"value":1}`)
	h := follow(t, cell.Sensor(), time.Now().Add(-time.Hour))
	h.waitFor(t, "d1/i1/load=1")
	push(t, nc, queue, `{"value":2}`)
	for _, bad := range []string{``, `no`, `{"value":"2"}`, `{}`} {
		push(t, nc, load, bad)
	}
	push(t, nc, "two.sensor.alice.d1.=41.load", `{"value":1}`) // no canonical token
	push(t, nc, load, `{"value":3}`)
	h.waitFor(t, "d1/i1/load=1", "d1//queue=2", "d1/i1/load=3")
	if n := strings.Count(logged.String(), "dropped"); n < 1 || strings.Count(logged.String(), "\n") != 1 {
		t.Errorf("of five bad samples it says:\n%s", logged.String())
	}

	since := rawStream(t, nc, "two_sensor").CachedInfo().State.LastTime
	h = follow(t, cell.Sensor(), since)
	h.waitFor(t, "d1/i1/load=3")
	h = follow(t, cell.Sensor(), time.Time{})
	h.waitFor(t, "d1/i1/load=1", "d1//queue=2", "d1/i1/load=3")
}

// TestSensor_bounds: the stream keeps the newest of a series, whatever is pushed.
func TestSensor_bounds(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	subject := cell.Prefix().Sensor(domain(1), "i1", "load")
	for n := range 250 {
		if err := nc.Publish(subject, fmt.Appendf(nil, `{"value":%d}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish(subject, bytes.Repeat([]byte(" "), 5<<10)); err != nil {
		t.Fatal(err)
	}
	push(t, nc, cell.Prefix().Sensor(domain(1), "", "end"), `{"value":0}`)
	h := follow(t, cell.Sensor(), time.Now().Add(-time.Hour))
	var want []string
	for n := 50; n < 250; n++ {
		want = append(want, fmt.Sprintf("d1/i1/load=%d", n))
	}
	h.waitFor(t, append(want, "d1//end=0")...)
}

func TestSensor_Follow_restart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := startServer(t, jetstream.EmbeddedConfig{StoreDir: dir})
	nc := connect(t, srv.ClientURL())
	cell := openCell(t, nc, jetstream.Config{})
	subject := cell.Prefix().Sensor(domain(1), "i1", "load")
	h := follow(t, cell.Sensor(), time.Now().Add(-time.Hour))
	push(t, nc, subject, `{"value":1}`)
	h.waitFor(t, "d1/i1/load=1")
	listen := strings.TrimPrefix(srv.ClientURL(), "nats://")
	srv.Shutdown()
	startServer(t, jetstream.EmbeddedConfig{StoreDir: dir, Listen: listen})
	push(t, nc, subject, `{"value":2}`)
	h.waitFor(t, "d1/i1/load=1", "d1/i1/load=2")
}

func TestSensor_Follow_streamDeleted(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	subject := cell.Prefix().Sensor(domain(1), "i1", "load")
	h := follow(t, cell.Sensor(), time.Now().Add(-time.Hour))
	push(t, nc, subject, `{"value":1}`)
	push(t, nc, subject, `{"value":2}`)
	h.waitFor(t, "d1/i1/load=1", "d1/i1/load=2")
	js, _ := natsjs.New(nc)
	if err := js.DeleteStream(t.Context(), "epum_sensor"); err != nil {
		t.Fatal(err)
	}
	push(t, nc, subject, `{"value":3}`) // as soon as there is a stream again
	h.waitFor(t, "d1/i1/load=1", "d1/i1/load=2", "d1/i1/load=3")
}
