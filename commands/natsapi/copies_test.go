package natsapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// ownStream makes a stream that a caller has for itself, with one message.
func (c *cell) ownStream(t *testing.T, subject, body string) natsjs.Stream {
	t.Helper()
	js, err := natsjs.New(c.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "own", Subjects: []string{"own.>"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte(body)); err != nil {
		t.Fatal(err)
	}
	return s
}

// copyTo has the server send a copy of a stored message to a subject.
func (c *cell) copyTo(t *testing.T, stream, last, to string) {
	t.Helper()
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, to, fmt.Appendf(nil, `{"last_by_subj":%q}`, last)); err != nil {
		t.Fatal(err)
	}
}

// TestAPI_Delivered has a server deliver messages of a stream as requests, which whoever
// reads it need not be allowed to send: nothing is carried out.
func TestAPI_Delivered(t *testing.T) {
	deliver := map[string]func(*testing.T, *cell){
		"as a copy": func(t *testing.T, c *cell) {
			c.ownStream(t, "own.x", addF)
			c.copyTo(t, "own", "own.x", "epum.cmd.alice.add_domain_definition")
		},
		// A consumer's deliveries keep their subject, whose tokens are anybody's.
		"by a consumer": func(t *testing.T, c *cell) {
			// The server delivers where somebody listens to just this subject.
			if _, err := c.nc.SubscribeSync("epum.cmd.mallory.add_domain_definition"); err != nil {
				t.Fatal(err)
			}
			s := c.ownStream(t, "own.alice.add_domain_definition", addF)
			request, err := json.Marshal(map[string]any{"stream_name": "own", "config": map[string]any{
				"deliver_subject": "epum.cmd.mallory.add_domain_definition", "ack_policy": "none", "deliver_policy": "all",
			}})
			if err != nil {
				t.Fatal(err)
			}
			answer, err := c.nc.Request("$JS.API.CONSUMER.CREATE."+s.CachedInfo().Config.Name, request, 5*time.Second)
			if err != nil || strings.Contains(string(answer.Data), `"error"`) {
				t.Fatalf("%v, %v", answer, err)
			}
		},
	}
	for name, send := range deliver {
		t.Run(name, func(t *testing.T) {
			c := startCell(t, nil)
			send(t, c)
			c.answered(t, "add_domain_definition", "403")
			if end, err := c.log.End(t.Context()); err != nil || end.Seq != 0 {
				t.Errorf("it was carried out: %+v, %v", end, err)
			}
		})
	}
}

// answered waits until a request of an operation was answered, which has to be with a
// code.
func (c *cell) answered(t *testing.T, op, code string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		msg, err := c.nc.Request("$SRV.STATS.epum", nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var stats struct {
			Endpoints []struct {
				Name string `json:"name"`
				Data struct {
					Answers map[string]int `json:"answers"`
				} `json:"data"`
			} `json:"endpoints"`
		}
		if err := json.Unmarshal(msg.Data, &stats); err != nil {
			t.Fatal(err)
		}
		for _, e := range stats.Endpoints {
			if e.Name == op && len(e.Data.Answers) > 0 {
				if e.Data.Answers[code] != 1 {
					t.Errorf("answered %v, want %s", e.Data.Answers, code)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was never answered", op)
		}
	}
}

// TestClient_Result_Strays: what is stored in an outcome's place and is none is not
// taken for one.
func TestClient_Result_Strays(t *testing.T) {
	c := startCell(t, nil)
	alice, bob := c.client("alice"), c.client("bob")
	c.consume(t)
	add := commands.AddDefinition{DefinitionID: "f", Definition: events.Config{EngineConf: json.RawMessage(`{"n":1}`)}}
	id, err := bob.DoAsync(t.Context(), add)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.WaitResult(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	bobs := events.DefaultPrefix.Result("bob", id)
	for name, put := range map[string]func(subject string){
		"copy": func(subject string) { c.copyTo(t, "epum_results", bobs, subject) },
		"ack": func(subject string) {
			if err := c.nc.PublishRequest("epum.sensor.a.b.c.d", subject, []byte("1")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		put(events.DefaultPrefix.Result("alice", name))
		c.stored(t, events.DefaultPrefix.Result("alice", name))
		if r, err := alice.Result(t.Context(), name); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("%s is an outcome: %+v, %v", name, r, err)
		}
	}
}

// stored waits until the outcomes have a message of a subject.
func (c *cell) stored(t *testing.T, subject string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		msg, err := c.nc.Request("$JS.API.DIRECT.GET.epum_results."+subject, nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get("Status") == "" {
			return
		}
	}
	t.Fatalf("nothing is stored at %s", subject)
}
