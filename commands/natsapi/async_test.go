package natsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// consume carries out what is left in the inbox until the test ends.
func (c *cell) consume(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.inbox.ConsumeCommands(ctx, c.api.Durable)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestClient_DoAsync(t *testing.T) {
	c := startCell(t, nil)
	client := c.client("alice@example.com")
	id, err := client.DoAsync(t.Context(), commands.AddDefinition{DefinitionID: "f", Definition: events.Config{EngineConf: json.RawMessage(`{"n":1}`)}})
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	if r, err := client.Result(t.Context(), id); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("an outcome too early: %+v, %v", r, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := client.WaitResult(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for nothing: %+v, %v", r, err)
	}
	waited := make(chan natsapi.AsyncResult, 1)
	go func() {
		r, err := client.WaitResult(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		waited <- r
	}()
	began := time.Now()
	c.consume(t)
	select {
	case r := <-waited:
		if r.Err != nil || r.Seq != 1 || r.Time.Before(began.Add(-time.Second)) || time.Since(began) > time.Second {
			t.Errorf("%+v after %s", r, time.Since(began))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no outcome")
	}

	// The same id of two callers at once: both are taken.
	for _, caller := range []string{"a", "b"} {
		if id, err := c.client(caller).DoAsync(t.Context(), commands.RemoveDefinition{DefinitionID: "f"}, natsapi.WithCommandID("x")); err != nil || id != "x" {
			t.Fatal(id, err)
		}
	}
	if r, err := c.client("a").WaitResult(t.Context(), "x"); err != nil || r.Err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.client("b").WaitResult(t.Context(), "x"); err != nil || !errors.Is(r.Err, commands.ErrNotFound) || r.Err.Code != 404 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestClient_DoAsync_Refused(t *testing.T) {
	c := startCell(t, nil)
	remove := commands.RemoveDomain{DomainID: "d"}
	if _, err := c.client("a").DoAsync(t.Context(), remove, natsapi.WithCommandID("\n")); !errors.Is(err, commands.ErrBadRequest) {
		t.Errorf("a bad id: %v", err)
	}
	if _, err := c.client("a").Result(t.Context(), ""); !errors.Is(err, commands.ErrBadRequest) {
		t.Errorf("no id: %v", err)
	}
	nowhere := natsapi.NewClient(c.nc, "elsewhere", "a")
	if _, err := nowhere.DoAsync(t.Context(), remove); !errors.Is(err, nats.ErrNoResponders) || !errors.Is(err, commands.ErrUnavailable) ||
		!strings.Contains(err.Error(), "start one with `epum serve`") {
		t.Errorf("no inbox: %v", err)
	}
	if _, err := nowhere.WaitResult(t.Context(), "x"); !errors.Is(err, commands.ErrUnavailable) {
		t.Errorf("no outcomes: %v", err)
	}
}

// What Durable makes of a message; the rest is as with requests.
func TestAPI_Durable(t *testing.T) {
	c := startCell(t, func(_ *cell, conf *natsapi.Config) { conf.DefaultUser = "" })
	for name, tt := range map[string]struct {
		subject, body string
		ids           []string
		want          string // start of the body
		code          string // header; "": none
		dead          string // part of the reason; "": none
	}{
		"carried out":     {"alice.add_domain_definition", addF, []string{"c1"}, `{"seq":1}`, "", ""},
		"no default user": {"-.add_domain_definition", addF, []string{"c1"}, `{"error":{"type":"UserNotPermittedError","code":403`, "403", ""},
		"a read":          {"alice.list_domains", `{}`, []string{"c1"}, `{"error":{"type":"BadRequestError","code":400,"message":"\"list_domains\" cannot be left in the inbox; these can: add_domain, `, "400", ""},
		"no id":           {"alice.add_domain_definition", addF, nil, "", "", "has no id"},
		"two ids":         {"alice.add_domain_definition", addF, []string{"a", "b"}, "", "", "has several ids"},
		"a bad id":        {"alice.add_domain_definition", addF, []string{"a "}, "", "", "id is none"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &nats.Msg{Subject: "epum.inbox." + tt.subject, Data: []byte(tt.body), Header: nats.Header{}}
			if tt.ids != nil {
				m.Header[nats.MsgIdHdr] = tt.ids
			}
			outcome, err := c.api.Durable(t.Context(), m, time.Now())
			if tt.dead != "" {
				if dead, ok := errors.AsType[*events.DeadLetterError](err); !ok || !strings.Contains(dead.Reason, tt.dead) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || !strings.HasPrefix(string(outcome.Data), tt.want) || outcome.Header.Get("Nats-Service-Error-Code") != tt.code {
				t.Errorf("got %+v, %v", outcome, err)
			}
		})
	}
	t.Run("unavailable is no outcome", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m := &nats.Msg{Subject: "epum.inbox.alice.remove_domain_definition", Data: []byte(`{"definition_id":"f"}`), Header: nats.Header{nats.MsgIdHdr: {"c2"}}}
		if outcome, err := c.api.Durable(ctx, m, time.Now()); err == nil {
			t.Errorf("got %+v", outcome)
		}
	})
}
