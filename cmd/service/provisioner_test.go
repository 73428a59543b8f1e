package service_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// The provisioners inside the service beat as often as its configuration says.
func TestService_HeartbeatInterval(t *testing.T) {
	for _, provisioner := range []string{service.ProvisionerMock, service.ProvisionerProcess} {
		t.Run(provisioner, func(t *testing.T) {
			cfg, err := service.LoadConfig("", map[string]string{
				"provisioner": provisioner, "agent.heartbeat_interval": "20ms", "mock.delay": "0",
				"embedded.listen": "127.0.0.1:-1", "embedded.store_dir": t.TempDir(), "embedded.sync": "default",
				"initial_definitions": `{"web":{}}`,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Logger = slog.New(slog.DiscardHandler)
			s, err := service.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			nc, err := nats.Connect(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			beats, reports := listen(t, nc, events.OpHeartbeat), listen(t, nc, events.OpInstanceInfo)
			client := natsapi.NewClient(nc, events.DefaultPrefix, "alice")
			domain := events.Config{EngineConf: []byte(`{"preserve_n":1}`)}
			if _, err := client.Do(t.Context(), commands.AddDomain{DomainID: "shop", DefinitionID: "web", Config: domain}); err != nil {
				t.Fatal(err)
			}
			const enough = 10 // at the default of 5 s the second one is late already
			for n := range enough {
				if _, err := beats.NextMsg(4 * time.Second); err != nil {
					t.Fatalf("after %d heartbeats: %v", n, err)
				}
			}
			if _, err := client.Do(t.Context(), commands.RemoveDomain{DomainID: "shop"}); err != nil {
				t.Fatal(err)
			}
			for ended := false; !ended; { // so that no process is left
				msg, err := reports.NextMsg(10 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				ended = strings.Contains(string(msg.Data), string(events.Terminated))
			}
		})
	}
}

func listen(t *testing.T, nc *nats.Conn, op string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync("epum.node.*." + op)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}
