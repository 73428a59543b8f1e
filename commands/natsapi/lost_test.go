package natsapi_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// forgetful is a cell that takes the first request of an operation and says
// nothing; then it does what next says.
func forgetful(t *testing.T, op string, next func(*nats.Msg)) *natsapi.Client {
	t.Helper()
	c := startCell(t, nil)
	var taken atomic.Int64
	_, err := c.own.Subscribe("forgetful.cmd.*."+op, func(msg *nats.Msg) {
		if taken.Add(1) > 1 {
			next(msg)
		}
	})
	if err == nil {
		err = c.own.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return natsapi.NewClient(c.nc, "forgetful", "alice")
}

func respond(t *testing.T, body string) func(*nats.Msg) {
	return func(msg *nats.Msg) {
		if err := msg.Respond([]byte(body)); err != nil {
			t.Error(err)
		}
	}
}

// TestClient_LostRequest loses a request with the process that took it: it costs
// the caller seconds, not all the time that it has.
func TestClient_LostRequest(t *testing.T) {
	for name, c := range map[string]struct {
		op, reply string
		call      func(*natsapi.Client) error
		most      time.Duration
	}{
		"read": {natsapi.OpDescribeDomain, `{"name":"d"}`, func(c *natsapi.Client) error {
			doc, err := c.DescribeDomain(t.Context(), "d", "", 0)
			if err == nil && doc.Name != "d" {
				t.Errorf("%+v", doc)
			}
			return err
		}, 4 * time.Second},
		"pass": {natsapi.OpRunPass, `{"pass":"reap"}`, func(c *natsapi.Client) error {
			_, err := c.RunPass(t.Context(), "reap")
			return err
		}, 8 * time.Second},
		"command": {commands.OpRemoveDomain, `{"seq":1}`, func(c *natsapi.Client) error {
			_, err := c.Do(t.Context(), commands.RemoveDomain{DomainID: "d"})
			return err
		}, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := forgetful(t, c.op, respond(t, c.reply))
			began := time.Now()
			if err := c.call(client); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > c.most {
				t.Errorf("answered after %s", took)
			}
		})
	}
}

// TestClient_Call_Once has a command without an id, which must not be sent twice.
func TestClient_Call_Once(t *testing.T) {
	t.Parallel()
	client := forgetful(t, commands.OpRemoveDomain, func(*nats.Msg) { t.Error("sent twice") })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := client.Call(ctx, commands.OpRemoveDomain, commands.RemoveDomain{DomainID: "d"}); !errors.Is(err, commands.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestClient_Do_UnknownThenNobody loses a command with the last process: that
// nobody is there now does not mean that nothing has happened.
func TestClient_Do_UnknownThenNobody(t *testing.T) {
	t.Parallel()
	c := startCell(t, nil)
	_, err := c.own.Subscribe("other.cmd.*."+commands.OpRemoveDomain, func(msg *nats.Msg) {
		if err := msg.Sub.Unsubscribe(); err != nil {
			t.Error(err)
		}
		reply := nats.NewMsg(msg.Reply)
		reply.Header.Set("Nats-Service-Error-Code", "503")
		reply.Data = []byte(`{"error":{"type":"UnavailableError","code":503,"message":"unknown"}}`)
		if err := msg.RespondMsg(reply); err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = c.own.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = natsapi.NewClient(c.nc, "other", "alice").Do(ctx, commands.RemoveDomain{DomainID: "d"})
	if !errors.Is(err, commands.ErrUnavailable) || errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("got %v", err)
	}
}

// TestLeader_RunPass_Killed has a leader that takes a pass and dies: the next one
// is asked, long before a pass has to be through.
func TestLeader_RunPass_Killed(t *testing.T) {
	t.Parallel()
	c := startCell(t, nil)
	_, err := c.own.Subscribe(events.DefaultPrefix.LeaderCall(natsapi.OpRunPass), func(msg *nats.Msg) {
		stop, err := natsapi.ServeLeader(c.own, events.DefaultPrefix, natsapi.LeaderCalls{Run: func(context.Context, string) (natsapi.PassResult, error) {
			return natsapi.PassResult{Domains: 7}, nil
		}})
		if err := errors.Join(err, msg.Sub.Unsubscribe()); err != nil {
			t.Error(err)
		}
		t.Cleanup(stop)
	})
	if err == nil {
		err = c.own.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if r, err := c.client("alice").RunPass(ctx, "decide"); err != nil || r.Domains != 7 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestLeader_RunPass_Long has a pass that takes longer than a leader may be
// silent: it is waited for, and not asked for again.
func TestLeader_RunPass_Long(t *testing.T) {
	t.Parallel()
	c := startCell(t, nil)
	var runs atomic.Int64
	stop, err := natsapi.ServeLeader(c.own, events.DefaultPrefix, natsapi.LeaderCalls{Run: func(ctx context.Context, _ string) (natsapi.PassResult, error) {
		runs.Add(1)
		select {
		case <-time.After(3500 * time.Millisecond): // how long the pass takes
		case <-ctx.Done():
		}
		return natsapi.PassResult{Domains: 3}, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if r, err := c.client("alice").RunPass(t.Context(), "decide"); err != nil || r.Domains != 3 || runs.Load() != 1 {
		t.Errorf("%+v, %v after %d runs", r, err, runs.Load())
	}
}

// stuckLog takes nothing: each write ends with the caller's patience.
type stuckLog struct{ commands.Log }

func (stuckLog) Append(ctx context.Context, _ events.Draft) (uint64, error) {
	<-ctx.Done()
	time.Sleep(500 * time.Millisecond) // the last look into the log
	return 0, events.ErrUnavailable
}

// TestCommand_NoQuorum has a 503 within 5 s where the log takes nothing.
func TestCommand_NoQuorum(t *testing.T) {
	t.Parallel()
	c := startCell(t, func(_ *cell, conf *natsapi.Config) { conf.Handler.Log = stuckLog{conf.Handler.Log} })
	began := time.Now()
	_, err := c.client("alice").Call(t.Context(), commands.OpAddDefinition, commands.AddDefinition{DefinitionID: "f"})
	if took := time.Since(began); !errors.Is(err, commands.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}
