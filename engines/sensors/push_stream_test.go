package sensors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// TestPush_stream: what is pushed to the stream is read in every term, also by one
// that begins after it.
func TestPush_stream(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	srv, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: srv.ClientURL(), Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	publish := func(instance, metric, body string) {
		if err := nc.Publish(cell.Prefix().Sensor(web, instance, metric), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	publish("i1", "load", `{"value":1}`)
	publish("", "queue", `{"value":40}`)
	s := engines.Sensing{Instances: []string{"load"}, Domain: []string{"queue"}, Statistic: engines.StatisticSum, Period: time.Hour}
	for term, want := range []string{`{"Series":[1],"Sum":1}`, `{"Series":[1,5],"Sum":6}`} {
		told := make(chan events.DomainID, 100)
		p := sensors.NewPush(nil, func(d events.DomainID) { told <- d })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- cell.Sensor().Follow(ctx, time.Now().Add(-time.Hour), p.Add) }()
		for deadline := time.After(15 * time.Second); ; {
			got, err := sensors.Collect(ctx, p, web, running("i1"), s, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			have := fmt.Sprint(encoded(t, got.Instances["i1"]["load"]), encoded(t, got.Domain["queue"]))
			if have == fmt.Sprint(want, `{"Series":[40],"Sum":40}`) {
				break
			}
			select {
			case d := <-told:
				if d != web {
					t.Errorf("told of %v", d)
				}
			case <-deadline:
				t.Fatalf("term %d has %s", term, have)
			}
		}
		publish("i1", "load", `{"value":5}`)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
