package natsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

const (
	addF = `{"definition_id":"f","definition":{"engine_conf":{"n":1}}}`
	addD = `{"domain_id":"d","definition_id":"f","config":{}}`
)

func TestAPI_Forms(t *testing.T) {
	c := startCell(t, nil)
	big := strings.Repeat("x", commands.MaxBytes)
	twice := nats.Header{nats.MsgIdHdr: {"a", "b"}}
	tests := []struct {
		name, subject, body string
		header              nats.Header
		reply               string // start of the reply's body
		code                int    // 0: accepted
		typ, field          string
	}{
		{name: "definition", subject: "alice.add_domain_definition", body: addF, reply: `{"seq":1}`},
		{name: "domain", subject: "alice.add_domain", body: addD, reply: `{"seq":2}`},
		{name: "caller said too", subject: "bob.add_domain", body: addD[:len(addD)-1] + `,"caller":"bob"}`, reply: `{"seq":3}`},
		{name: "escaped caller", subject: "alice=40example=2Ecom.add_domain", body: addD[:len(addD)-1] + `,"caller":"alice@example.com"}`, reply: `{"seq":4}`},
		{name: "default user", subject: "-.add_domain", body: addD, reply: `{"seq":5}`},
		{name: "default user by name", subject: "root.list_domains", reply: `{"domains":["d"]}`},
		{name: "name -", subject: "=2D.list_domains", reply: `{"domains":[]}`},
		{name: "empty body", subject: "alice.list_domain_definitions", reply: `{"definitions":["f"]}`},
		{name: "caller in a read", subject: "alice.list_domains", body: `{"caller":"alice","limit":1,"after":"c"}`, reply: `{"domains":["d"]}`},
		{name: "describe", subject: "alice.describe_domain", body: `{"domain_id":"d"}`, reply: `{"name":"d","owner":"alice","definition_id":"f","config":{"general":{},"health":{},"engine_conf":{"n":1}}`},
		{
			name: "describe definition", subject: "alice.describe_domain_definition", body: `{"definition_id":"f"}`,
			reply: `{"name":"f","definition":{"engine_conf":{"n":1}},"documentation":"# keep\n\n` + "`n` <instances>" + `"}`,
		},
		{name: "status", subject: "alice.status", reply: `{"service_name":"epum","leader":null,"applied_seq":`},

		{name: "describe as of", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":2}`, reply: `{"name":"d","owner":"alice","definition_id":"f","config":{"general":{},"health":{},"engine_conf":{"n":1}}`},
		{name: "history", subject: "alice.history", body: `{"domain_id":"d","types":["epum.domain.added.v1"],"since":1,"limit":1}`, reply: `{"events":[{"specversion":"1.0",`},
		{name: "history of a definition", subject: "carol.history", body: `{"definition_id":"f","until":1}`, reply: `{"events":[{"specversion":"1.0",`},
		{name: "history of nothing", subject: "carol.history", reply: `{"events":[]}`},
		{name: "explain", subject: "alice.explain", body: `{"domain_id":"d"}`, reply: `{"owner":"alice","domain_id":"d","steps":[{"seq":2,`},

		{name: "another caller", subject: "alice.remove_domain", body: `{"domain_id":"d","caller":"bob"}`, code: 403, typ: "UserNotPermittedError"},
		{name: "another caller, before the form", subject: "alice.remove_domain", body: `{"x":1,"caller":"bob"}`, code: 403, typ: "UserNotPermittedError"},
		{name: "another caller, before the size", subject: "alice.remove_domain", body: `{"x":"` + big + `","caller":"bob"}`, code: 403, typ: "UserNotPermittedError"},
		{name: "another caller of a read", subject: "alice.status", body: `{"caller":"bob"}`, code: 403, typ: "UserNotPermittedError"},
		{name: "caller of a wrong type", subject: "alice.status", body: `{"caller":null}`, code: 400, typ: "BadRequestError", field: "caller"},
		{name: "token not canonical", subject: "alice=61.list_domains", code: 400, typ: "BadRequestError", field: "caller"},
		{name: "token lower-case hex", subject: "a=2fb.list_domains", code: 400, typ: "BadRequestError", field: "caller"},
		{name: "token not UTF-8", subject: "=FF.list_domains", code: 400, typ: "BadRequestError", field: "caller"},
		{name: "too large", subject: "alice.add_domain", body: `{"x":"` + big + `"}`, code: 413, typ: "PayloadTooLargeError"},
		{name: "too large, before the form", subject: "alice.add_domain", body: big + "x", code: 413, typ: "PayloadTooLargeError"},
		{name: "too large read", subject: "alice.list_domains", body: `{"x":"` + big + `"}`, code: 413, typ: "PayloadTooLargeError"},
		{name: "unknown field", subject: "alice.add_domain", body: addD[:len(addD)-1] + `,"y\nz":1}`, code: 400, typ: "BadRequestError", field: "y\nz"},
		{name: "unknown field of a read", subject: "alice.list_domains", body: `{"owner":"x"}`, code: 400, typ: "BadRequestError", field: "owner"},
		{name: "deep", subject: "alice.add_domain", body: `{"domain_id":"e","definition_id":"f","config":{"engine_conf":{"m":1}}}`, code: 400, typ: "BadRequestError", field: "config.engine_conf.m"},
		{name: "limit 0", subject: "alice.list_domains", body: `{"limit":0}`, code: 400, typ: "BadRequestError", field: "limit"},
		{name: "limit 10001", subject: "alice.describe_domain", body: `{"domain_id":"d","limit":10001}`, code: 400, typ: "BadRequestError", field: "limit"},
		{name: "limit 1.5", subject: "alice.list_domain_definitions", body: `{"limit":1.5}`, code: 400, typ: "BadRequestError", field: "limit"},
		{name: "limit null", subject: "alice.list_domains", body: `{"limit":null}`, code: 400, typ: "BadRequestError", field: "limit"},
		{name: "after", subject: "alice.list_domains", body: `{"after":""}`, code: 400, typ: "BadRequestError", field: "after"},
		{name: "describe without a name", subject: "alice.describe_domain", code: 400, typ: "BadRequestError", field: "domain_id"},
		{name: "status with a field", subject: "alice.status", body: `{"a":1}`, code: 400, typ: "BadRequestError", field: "a"},
		{name: "pass", subject: "alice.run_pass", body: `{"pass":"dance"}`, code: 400, typ: "BadRequestError", field: "pass"},
		{name: "no pass", subject: "alice.run_pass", code: 400, typ: "BadRequestError", field: "pass"},
		{name: "command id", subject: "alice.remove_domain", body: `{"domain_id":"d"}`, header: nats.Header{nats.MsgIdHdr: {strings.Repeat("x", 257)}}, code: 400, typ: "BadRequestError", field: "Nats-Msg-Id"},
		{name: "empty command id", subject: "alice.remove_domain", body: `{"domain_id":"d"}`, header: nats.Header{nats.MsgIdHdr: {""}}, code: 400, typ: "BadRequestError", field: "Nats-Msg-Id"},
		{name: "two command ids", subject: "alice.remove_domain", body: `{"domain_id":"d"}`, header: twice, code: 400, typ: "BadRequestError"},
		{name: "as_of 0", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":0}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of null", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":null}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of no number", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":1.5}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of no time", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":"2h"}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of beyond the log", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":1000}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of in the future", subject: "alice.explain", body: `{"domain_id":"d","as_of":"2999-01-01T00:00:00Z"}`, code: 400, typ: "BadRequestError", field: "as_of"},
		{name: "as_of before the log", subject: "alice.explain", body: `{"domain_id":"d","as_of":"1999-01-01T00:00:00Z"}`, code: 404, typ: "NotFoundError"},
		{name: "as_of before the domain", subject: "alice.describe_domain", body: `{"domain_id":"d","as_of":1}`, code: 404, typ: "NotFoundError"},
		{name: "explain nothing", subject: "alice.explain", code: 400, typ: "BadRequestError", field: "domain_id"},
		{name: "explain both", subject: "alice.explain", body: `{"domain_id":"d","instance_id":"i"}`, code: 400, typ: "BadRequestError", field: "instance_id"},
		{name: "explain another's", subject: "carol.explain", body: `{"domain_id":"d"}`, code: 404, typ: "NotFoundError"},
		{name: "explain no instance", subject: "alice.explain", body: `{"instance_id":"i"}`, code: 404, typ: "NotFoundError"},
		{name: "history of no type", subject: "alice.history", body: `{"types":["epum.x"]}`, code: 400, typ: "BadRequestError", field: "types.0"},
		{name: "history of no types", subject: "alice.history", body: `{"types":[]}`, code: 400, typ: "BadRequestError", field: "types"},
		{name: "history since", subject: "alice.history", body: `{"since":"yesterday"}`, code: 400, typ: "BadRequestError", field: "since"},
		{name: "history until", subject: "alice.history", body: `{"until":true}`, code: 400, typ: "BadRequestError", field: "until"},
		{name: "history after", subject: "alice.history", body: `{"after":"1"}`, code: 400, typ: "BadRequestError", field: "after"},
		{name: "history limit", subject: "alice.history", body: `{"limit":10001}`, code: 400, typ: "BadRequestError", field: "limit"},
		{name: "history with an owner", subject: "alice.history", body: `{"owner":"bob"}`, code: 400, typ: "BadRequestError", field: "owner"},
		{name: "history of both", subject: "alice.history", body: `{"domain_id":"d","definition_id":"f"}`, code: 400, typ: "BadRequestError", field: "definition_id"},
		{name: "history of another's", subject: "carol.history", body: `{"domain_id":"d"}`, code: 404, typ: "NotFoundError"},
		{name: "history of no instance", subject: "alice.history", body: `{"instance_id":"i"}`, code: 404, typ: "NotFoundError"},
		{name: "history of no definition", subject: "alice.history", body: `{"definition_id":"x"}`, code: 404, typ: "NotFoundError"},
		{name: "exists", subject: "alice.add_domain", body: addD, code: 409, typ: "WriteConflictError"},
		{name: "not found", subject: "carol.describe_domain", body: `{"domain_id":"d"}`, code: 404, typ: "NotFoundError"},
		{name: "no definition", subject: "carol.describe_domain_definition", body: `{"definition_id":"d"}`, code: 404, typ: "NotFoundError"},
		{name: "unknown definition", subject: "carol.add_domain", body: `{"domain_id":"d","definition_id":"x","config":{}}`, code: 400, typ: "BadRequestError", field: "definition_id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := c.ask(t, "epum.cmd."+tt.subject, tt.body, tt.header)
			if tt.code == 0 {
				if msg.Header.Get(micro.ErrorHeader) != "" || !strings.HasPrefix(string(msg.Data), tt.reply) {
					t.Errorf("got %s\n%s\nwant %s…", msg.Header.Get(micro.ErrorHeader), msg.Data, tt.reply)
				}
				return
			}
			var body struct {
				Error struct {
					Type, Message, Field string
					Code                 int
				}
			}
			if err := json.Unmarshal(msg.Data, &body); err != nil {
				t.Fatalf("%s: %v", msg.Data, err)
			}
			e := body.Error
			if e.Type != tt.typ || e.Code != tt.code || e.Field != tt.field || e.Message == "" {
				t.Errorf("got %s", msg.Data)
			}
			if code := msg.Header.Get(micro.ErrorCodeHeader); code != strconv.Itoa(tt.code) {
				t.Errorf("%s: %s", micro.ErrorCodeHeader, code)
			}
			if line := msg.Header.Get(micro.ErrorHeader); line != e.Type+": "+strings.ReplaceAll(e.Message, "\n", " ") {
				t.Errorf("%s: %s", micro.ErrorHeader, line)
			}
		})
	}
}

func TestAPI_NoDefaultUser(t *testing.T) {
	c := startCell(t, func(_ *cell, conf *natsapi.Config) { conf.DefaultUser = "" })
	_, err := c.client("").Status(t.Context())
	if !errors.Is(err, commands.ErrNotPermitted) {
		t.Errorf("got %v, want a 403", err)
	}
}

func TestAPI_CommandID(t *testing.T) {
	c := startCell(t, nil)
	header := nats.Header{nats.MsgIdHdr: {"id 1"}}
	for range 3 {
		if msg := c.ask(t, "epum.cmd.alice.add_domain_definition", addF, header); string(msg.Data) != `{"seq":1}` {
			t.Errorf("got %s", msg.Data)
		}
	}
	last, err := c.log.Last(t.Context(), events.DefinitionKey("f"))
	if err != nil || last.Seq != 1 {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestAPI_Discovery(t *testing.T) {
	c := startCell(t, nil)
	var info micro.Info
	if err := json.Unmarshal(c.ask(t, "$SRV.INFO.epum", "", nil).Data, &info); err != nil {
		t.Fatal(err)
	}
	subjects := map[string]string{}
	for _, e := range info.Endpoints {
		subjects[e.Name] = e.Subject + " " + e.QueueGroup
	}
	want := map[string]string{}
	for _, op := range []string{
		"history", "explain", "add_domain", "remove_domain", "reconfigure_domain", "list_domains", "describe_domain", "subscribe_domain",
		"unsubscribe_domain", "add_domain_definition", "update_domain_definition", "remove_domain_definition",
		"list_domain_definitions", "describe_domain_definition", "status", "run_pass",
	} {
		want[op] = "epum.cmd.*." + op + " epum"
	}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Error(diff)
	}
}

func TestAPI_FaultsStayInside(t *testing.T) {
	c := startCell(t, func(_ *cell, conf *natsapi.Config) {
		status := conf.Status
		var calls atomic.Int64
		conf.Status = func(ctx context.Context) (natsapi.Status, error) {
			switch calls.Add(1) {
			case 1:
				panic("secret")
			case 2:
				return natsapi.Status{}, errors.New("secret")
			}
			return status(ctx)
		}
	})
	for range 2 {
		_, err := c.client("alice").Status(t.Context())
		if !errors.Is(err, commands.ErrInternal) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want a 500 that tells nothing", err)
		}
	}
	if _, err := c.client("alice").Status(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := c.answers(t, "status"), (map[string]int{"500": 2, "200": 1}); !maps.Equal(got, want) {
		t.Errorf("the stats say %v, want %v", got, want)
	}
}

// answers is what $SRV.STATS says of an operation: code → answers. A request is
// counted after its answer was sent, so this waits for as many as micro counts.
func (c *cell) answers(t *testing.T, op string) map[string]int {
	t.Helper()
	var stats struct {
		Endpoints []struct {
			Name     string `json:"name"`
			Requests int    `json:"num_requests"`
			Data     struct {
				Answers map[string]int `json:"answers"`
			} `json:"data"`
		} `json:"endpoints"`
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		reply, err := c.nc.Request("$SRV.STATS.epum", nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reply.Data, &stats); err != nil {
			t.Fatal(err)
		}
		for _, e := range stats.Endpoints {
			all := 0
			for _, n := range e.Data.Answers {
				all += n
			}
			if e.Name == op && all == e.Requests {
				return e.Data.Answers
			}
		}
	}
	t.Fatalf("no stats of all answers of %s", op)
	return nil
}

// A slow request of one operation keeps no other one waiting, and Stop answers
// what has arrived.
func TestAPI_Stop(t *testing.T) {
	hold, holding := make(chan struct{}), make(chan struct{}, 10)
	c := startCell(t, func(_ *cell, conf *natsapi.Config) {
		conf.Status = func(context.Context) (natsapi.Status, error) {
			holding <- struct{}{}
			<-hold
			return natsapi.Status{}, nil
		}
	})
	answers := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := c.client("alice").Status(t.Context())
			answers <- err
		}()
	}
	for range 10 {
		select {
		case <-holding:
		case err := <-answers:
			t.Fatalf("answered too early: %v", err)
		}
	}
	if _, _, err := c.client("alice").ListDomains(t.Context(), "", 0); err != nil {
		t.Error(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.api.Stop(t.Context()) }()
	close(hold)
	for range 10 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := c.client("alice").Status(t.Context()); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop: %v", err)
	}
}

func BenchmarkAPI_AddDomain(b *testing.B) {
	c := startCell(b, nil)
	c.ask(b, "epum.cmd.alice.add_domain_definition", addF, nil)
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := fmt.Sprintf(`{"domain_id":"d%d","definition_id":"f","config":{}}`, n.Add(1))
			if msg := c.ask(b, "epum.cmd.alice.add_domain", body, nil); msg.Header.Get(micro.ErrorHeader) != "" {
				b.Error(msg.Header.Get(micro.ErrorHeader))
			}
		}
	})
}
