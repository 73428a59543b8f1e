package natsapi_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// cell is an embedded server and one process that answers on it.
type cell struct {
	nc      *nats.Conn // of the tests, as any caller's
	own     *nats.Conn // of the process
	api     *natsapi.API
	log     *jetstream.Log
	inbox   *jetstream.Inbox
	purged  projections.Bucket
	replica *projections.Replica
	reader  *projections.Reader
}

func (c *cell) client(caller string) *natsapi.Client {
	return natsapi.NewClient(c.nc, events.DefaultPrefix, caller)
}

// known is a registry with one engine, keep, that needs the key n.
func known() *engines.Registry {
	return engines.NewRegistry("keep", engines.Kind{
		Name: "keep", Doc: "# keep\n\n`n` <instances>",
		Validate: func(conf json.RawMessage, complete bool) error {
			var c struct {
				N    *int            `json:"n"`
				Vars json.RawMessage `json:"vars"`
			}
			if err := engines.DecodeEngineConf(conf, &c); err != nil {
				return err
			}
			if complete && c.N == nil {
				return &engines.FieldError{Field: "engine_conf.n", Message: "is missing; give an integer"}
			}
			return nil
		},
	})
}

// startCell starts a cell; change may alter the endpoints' config.
func startCell(t testing.TB, change func(*cell, *natsapi.Config)) *cell {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	srv, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	c := &cell{nc: connect(t, srv.ClientURL()), own: connect(t, srv.ClientURL())}
	js, err := jetstream.Open(t.Context(), c.own, jetstream.Config{Process: uuid.NewString(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(js.Close)
	c.log, c.inbox, c.purged = js.Log(), js.Inbox(), js.Purged()
	c.replica = projections.NewReplica(c.log, js.State(), c.purged, quiet)
	c.reader = projections.NewReader(c.replica, js.State(), nil)
	c.run(t)
	conf := natsapi.Config{
		DefaultUser: "root", Reads: c.reader, Past: projections.NewChronicle(c.log, c.purged), Engines: known(), Logger: quiet,
		Handler: &commands.Handler{Log: c.log, Replica: c.replica, Engines: known(), NewID: uuid.NewString},
		Status: func(ctx context.Context) (natsapi.Status, error) {
			counts := c.reader.Counts(time.Hour)
			return natsapi.Status{ServiceName: "epum", AppliedSeq: c.replica.Applied(), Domains: counts.Domains, Instances: counts.Instances}, nil
		},
	}
	if change != nil {
		change(c, &conf)
	}
	if c.api, err = natsapi.Serve(c.own, conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.api.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

func connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (c *cell) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.replica.Run(ctx, func() { close(started) })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-started:
	case <-time.After(10 * time.Second):
		t.Fatal("the replica does not start")
	}
}

// ask sends a request as it is.
func (c *cell) ask(t testing.TB, subject, body string, header nats.Header) *nats.Msg {
	t.Helper()
	msg, err := c.nc.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body), Header: header}, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return msg
}
