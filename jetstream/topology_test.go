package jetstream_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/jetstream"
)

func TestOpen(t *testing.T) {
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	names := []string{"epum_events", "epum_inbox", "epum_dead", "epum_sensor", "epum_shadow", "KV_epum_state", "KV_epum_leases", "KV_epum_samples"}

	t.Run("by many processes at once", func(t *testing.T) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				cell, err := jetstream.Open(ctx, nc, jetstream.Config{Process: "p", Logger: quiet})
				if err != nil {
					t.Error(err)
					return
				}
				cell.Close()
			})
		}
		group.Wait()
	})
	t.Run("settings", func(t *testing.T) {
		log := rawStream(t, nc, "epum_events").CachedInfo().Config
		if !log.AllowAtomicPublish || !log.AllowDirect || !log.DenyDelete || log.AllowRollup || log.AllowMsgSchedules || log.AllowMsgTTL ||
			log.MaxAge != 0 || log.MaxMsgs != -1 || log.MaxBytes != -1 || log.Storage != natsjs.FileStorage || log.Duplicates != 100*time.Millisecond {
			t.Errorf("%+v", log)
		}
		if inbox := rawStream(t, nc, "epum_inbox").CachedInfo().Config; inbox.Retention != natsjs.WorkQueuePolicy || inbox.Subjects[0] != "epum.node.*.instance_info" {
			t.Errorf("%+v", inbox)
		}
		if state := rawStream(t, nc, "KV_epum_state").CachedInfo().Config; !state.AllowAtomicPublish || !state.AllowMsgTTL || !state.AllowRollup || state.MaxMsgsPerSubject != 1 {
			t.Errorf("%+v", state)
		}
		if leases := rawStream(t, nc, "KV_epum_leases").CachedInfo().Config; leases.MaxAge != jetstream.DefaultLeaseTTL || leases.SubjectDeleteMarkerTTL == 0 {
			t.Errorf("%+v", leases)
		}
		if sensor := rawStream(t, nc, "epum_sensor").CachedInfo().Config; sensor.Subjects[0] != "epum.sensor.*.*.*.*" || sensor.MaxAge != 24*time.Hour || sensor.MaxMsgsPerSubject != 200 {
			t.Errorf("%+v", sensor)
		}
		if shadow := rawStream(t, nc, "epum_shadow").CachedInfo().Config; shadow.MaxAge != 0 || shadow.MaxMsgsPerSubject != 10_000 || shadow.Discard != natsjs.DiscardOld {
			t.Errorf("%+v", shadow)
		}
		if samples := rawStream(t, nc, "KV_epum_samples").CachedInfo().Config; samples.MaxAge != 24*time.Hour || samples.MaxMsgsPerSubject != 1 || !samples.AllowMsgTTL {
			t.Errorf("%+v", samples)
		}
	})
	t.Run("again changes nothing", func(t *testing.T) {
		before := map[string]time.Time{}
		for _, name := range names {
			before[name] = rawStream(t, nc, name).CachedInfo().Created
		}
		openCell(t, nc, jetstream.Config{})
		for _, name := range names {
			if created := rawStream(t, nc, name).CachedInfo().Created; !created.Equal(before[name]) {
				t.Errorf("%s was made anew", name)
			}
		}
	})
	t.Run("puts back what can be put back", func(t *testing.T) {
		cfg := rawStream(t, nc, "KV_epum_state").CachedInfo().Config
		cfg.AllowAtomicPublish = false
		cfg.Metadata = map[string]string{"owner": "ops"}
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		openCell(t, nc, jetstream.Config{LeaseTTL: 7 * time.Second})
		cfg = rawStream(t, nc, "KV_epum_state").CachedInfo().Config
		if !cfg.AllowAtomicPublish || cfg.Metadata["owner"] != "ops" {
			t.Errorf("%+v", cfg)
		}
		if leases := rawStream(t, nc, "KV_epum_leases").CachedInfo().Config; leases.MaxAge != 7*time.Second {
			t.Errorf("lease ttl is %s", leases.MaxAge)
		}
	})
	t.Run("another prefix is another cell", func(t *testing.T) {
		openCell(t, nc, jetstream.Config{Prefix: "two"})
		if cfg := rawStream(t, nc, "two_events").CachedInfo().Config; cfg.Subjects[0] != "two.event.>" {
			t.Errorf("%+v", cfg)
		}
	})
}

func TestOpen_incompatible(t *testing.T) {
	for name, c := range map[string]struct {
		have natsjs.StreamConfig
		want []string
	}{
		"storage":   {natsjs.StreamConfig{Name: "epum_events", Subjects: []string{"epum.event.>"}, Storage: natsjs.MemoryStorage, MaxAge: time.Hour}, []string{"epum_events", "storage is Memory, must be File", "max_age is 1h"}},
		"retention": {natsjs.StreamConfig{Name: "epum_inbox", Subjects: []string{"epum.node.*.instance_info"}}, []string{"epum_inbox", "retention is Limits, must be WorkQueue"}},
		"purge":     {natsjs.StreamConfig{Name: "epum_events", Subjects: []string{"epum.event.>"}, DenyPurge: true}, []string{"deny_purge is true, must be false"}},
		"overlap":   {natsjs.StreamConfig{Name: "other", Subjects: []string{"epum.>"}}, []string{"create stream epum_events", "overlap"}},
		"replicas":  {natsjs.StreamConfig{Name: "unrelated", Subjects: []string{"x"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
			js, err := natsjs.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.CreateStream(t.Context(), c.have); err != nil {
				t.Fatal(err)
			}
			_, err = jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: quiet})
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("opened")
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
			if name != "overlap" && !errors.Is(err, jetstream.ErrIncompatible) {
				t.Error(err)
			}
			if after := rawStream(t, nc, c.have.Name).CachedInfo().Config; after.Storage != c.have.Storage || after.Retention != c.have.Retention {
				t.Errorf("it was changed: %+v", after)
			}
		})
	}
}

func TestOpen_badConfig(t *testing.T) {
	nc := connect(t, startServer(t, jetstream.EmbeddedConfig{}).ClientURL())
	for name, cfg := range map[string]jetstream.Config{
		"no process": {}, "short lease": {Process: "p", LeaseTTL: 500 * time.Millisecond}, "broken lease": {Process: "p", LeaseTTL: 1500 * time.Millisecond},
		"replicas without a cluster": {Process: "p", Replicas: 3},
	} {
		if _, err := jetstream.Open(t.Context(), nc, cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
