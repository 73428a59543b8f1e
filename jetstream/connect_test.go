package jetstream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/jetstream"
)

// TestConnect_closed has the server close a connection for good.
func TestConnect_closed(t *testing.T) {
	t.Parallel()
	srv := startServer(t, jetstream.EmbeddedConfig{})
	closed := make(chan error, 2)
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: srv.ClientURL(), Logger: quiet, Closed: func(reason error) { closed <- reason }})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish(strings.Repeat("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case reason := <-closed:
		if reason == nil || !strings.Contains(strings.ToLower(reason.Error()), "control line") {
			t.Errorf("closed: %v", reason)
		}
	case <-time.After(patience):
		t.Fatal("nobody is told")
	}
}
