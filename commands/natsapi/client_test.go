package natsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

func TestClient_Walk(t *testing.T) {
	c := startCell(t, nil)
	client := c.client("alice@example.com")
	must := func(cmd commands.Command) uint64 {
		t.Helper()
		seq, err := client.Do(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	must(commands.AddDefinition{DefinitionID: "f", Definition: events.Config{EngineConf: json.RawMessage(`{"n":1}`)}})
	must(commands.AddDomain{DomainID: "<d>", DefinitionID: "f", SubscriberName: "s", SubscriberOp: "o"})
	id := events.DomainID{Owner: "alice@example.com", Name: "<d>"}
	for n, i := range []string{"i1", "i2"} {
		c.write(t, id.InstanceKey(i), 0, events.LaunchRequested{LaunchID: fmt.Sprint("l", n), Site: "here"})
	}
	c.write(t, id.InstanceKey("i1"), 3, events.StateChanged{
		State: events.Running, Fields: events.Fields{{Name: "public_ip", Value: json.RawMessage(`"1"`)}},
	})

	doc, err := client.DescribeDomain(t.Context(), "<d>", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Name != "<d>" || doc.Owner != id.Owner || doc.Next != "i1" || len(doc.Instances) != 1 || doc.AsOf.Seq != 5 || doc.Seq != 2 {
		t.Errorf("%+v", doc)
	}
	if got := doc.Instances[0]; got.InstanceID != "i1" || got.State != events.Running || got.LaunchID != "l0" || got.Seq != 5 ||
		!cmp.Equal(got.Fields, map[string]json.RawMessage{"public_ip": json.RawMessage(`"1"`)}) {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]events.Subscriber{{Name: "s", Op: "o"}}, doc.Subscribers); diff != "" {
		t.Error(diff)
	}
	again, err := json.Marshal(doc.Instances[0])
	if err != nil || !strings.Contains(string(again), `"public_ip":"1"`) || strings.Contains(string(again), "Fields") {
		t.Errorf("an instance is encoded as %s, %v", again, err)
	}
	if rest, err := client.DescribeDomain(t.Context(), "<d>", doc.Next, 0); err != nil || len(rest.Instances) != 1 || rest.Next != "" {
		t.Errorf("%+v, %v", rest, err)
	}

	def, err := client.DescribeDefinition(t.Context(), "f")
	if err != nil || def.Name != "f" || string(def.Definition.EngineConf) != `{"n":1}` || def.Documentation != "# keep\n\n`n` <instances>" {
		t.Errorf("%+v, %v", def, err)
	}
	status, err := client.Status(t.Context())
	if err != nil || status.Domains != 1 || status.Instances[events.Running] != 1 || status.Leader != nil {
		t.Errorf("%+v, %v", status, err)
	}
	raw, err := client.Call(t.Context(), "describe_domain", map[string]any{"domain_id": "<d>"})
	if err != nil || !strings.HasPrefix(string(raw), `{"name":"`) {
		t.Errorf("%s, %v", raw, err)
	}
	if _, err := c.client("bob").DescribeDomain(t.Context(), "<d>", "", 0); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("another's domain: %v", err)
	}
}

// write appends an event as it is.
func (c *cell) write(t testing.TB, key events.Key, guard uint64, ev events.Event) {
	t.Helper()
	_, err := c.log.Append(t.Context(), events.Draft{ID: uuid.NewString(), Key: key, Event: ev, Guard: events.Guard{Key: key, Seq: guard}})
	if err != nil {
		t.Fatal(err)
	}
}

// pagedReader lists names that it makes up.
type pagedReader struct {
	natsapi.Reader
	names []string // sorted
}

func (r pagedReader) ListDomains(_ context.Context, _, after string, limit int) ([]string, string, error) {
	from, found := slices.BinarySearch(r.names, after)
	if found {
		from++
	}
	names := r.names[from:]
	if len(names) <= limit {
		return names, "", nil
	}
	return names[:limit], names[limit-1], nil
}

func TestClient_AllDomains(t *testing.T) {
	names := make([]string, 25_000)
	for n := range names {
		// Long, and of what JSON writes with two bytes each: 10,000 fit no message.
		names[n] = fmt.Sprintf("%06d%s", n, strings.Repeat(`"`, 100))
	}
	c := startCell(t, func(_ *cell, conf *natsapi.Config) { conf.Reads = pagedReader{conf.Reads, names} })
	var got []string
	for name, err := range c.client("alice").AllDomains(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name)
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Error("the pages are not the list")
	}
	page, next, err := c.client("alice").ListDomains(t.Context(), names[10], 2)
	if err != nil || !slices.Equal(page, names[11:13]) || next != names[12] {
		t.Errorf("%v, %q, %v", page, next, err)
	}
}

// flakyLog loses the first answer though the event is in the log.
type flakyLog struct {
	commands.Log
	calls atomic.Int64
}

func (l *flakyLog) Append(ctx context.Context, d events.Draft) (uint64, error) {
	seq, err := l.Log.Append(ctx, d)
	if l.calls.Add(1) == 1 {
		return 0, events.ErrUnavailable
	}
	return seq, err
}

func TestClient_Do_Repeats(t *testing.T) {
	c := startCell(t, func(_ *cell, conf *natsapi.Config) { conf.Handler.Log = &flakyLog{Log: conf.Handler.Log} })
	seq, err := c.client("alice").Do(t.Context(), commands.AddDefinition{DefinitionID: "f"})
	if err != nil || seq != 1 {
		t.Errorf("%d, %v: a repeat with the same command id is carried out once", seq, err)
	}
	first, err1 := c.client("alice").Do(t.Context(), commands.AddDefinition{DefinitionID: "g"}, natsapi.WithCommandID("x"))
	again, err2 := c.client("alice").Do(t.Context(), commands.AddDefinition{DefinitionID: "g"}, natsapi.WithCommandID("x"))
	if first != again || err1 != nil || err2 != nil {
		t.Errorf("%d, %v and %d, %v", first, err1, again, err2)
	}
}

func TestClient_NobodyThere(t *testing.T) {
	c := startCell(t, nil)
	client := natsapi.NewClient(c.nc, "elsewhere", "alice")
	_, err := client.Do(t.Context(), commands.RemoveDomain{DomainID: "d"})
	if !errors.Is(err, commands.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "start one with `epum serve`") {
		t.Errorf("got %v", err)
	}
	told, ok := errors.AsType[*commands.Error](err)
	if !ok || told.Code != 503 {
		t.Errorf("got %#v", told)
	}
}

func TestLeader_RunPass(t *testing.T) {
	t.Parallel()
	c := startCell(t, nil)
	c2 := connect(t, c.nc.ConnectedUrl())
	lead := func(run func(context.Context, string) (natsapi.PassResult, error)) func() {
		t.Helper()
		stop, err := natsapi.ServeLeader(c2, events.DefaultPrefix, natsapi.LeaderCalls{Run: run})
		if err != nil {
			t.Fatal(err)
		}
		return stop
	}

	t.Run("waits for a leader", func(t *testing.T) {
		result := make(chan *natsapi.PassResult, 1)
		go func() {
			r, err := c.client("alice").RunPass(t.Context(), "reap")
			if err != nil {
				t.Error(err)
			}
			result <- r
		}()
		time.Sleep(30 * time.Millisecond) // most likely nobody leads yet when it asks; both orders have to do
		stop := lead(func(_ context.Context, pass string) (natsapi.PassResult, error) {
			return natsapi.PassResult{Pass: pass, Domains: 2, Changed: 1, Seq: 9, DurationMS: 3}, nil
		})
		defer stop()
		want := &natsapi.PassResult{Pass: "reap", Domains: 2, Changed: 1, Seq: 9, DurationMS: 3}
		if diff := cmp.Diff(want, <-result); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("deposed", func(t *testing.T) {
		stop := lead(func(context.Context, string) (natsapi.PassResult, error) {
			return natsapi.PassResult{}, fmt.Errorf("decide: %w", events.ErrDeposed)
		})
		defer stop()
		if _, err := c.client("alice").RunPass(t.Context(), "decide"); !errors.Is(err, commands.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stops", func(t *testing.T) {
		running := make(chan struct{})
		stop := lead(func(ctx context.Context, _ string) (natsapi.PassResult, error) {
			close(running)
			<-ctx.Done()
			return natsapi.PassResult{}, ctx.Err()
		})
		go func() { <-running; stop() }()
		if _, err := c.client("alice").RunPass(t.Context(), "decide"); !errors.Is(err, commands.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no leader", func(t *testing.T) {
		start := time.Now()
		_, err := c.client("alice").RunPass(t.Context(), "decide")
		if !errors.Is(err, commands.ErrUnavailable) || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < 4*time.Second || took > 8*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestLeader_Orphans(t *testing.T) {
	c := startCell(t, nil)
	orphans := make(chan string, 2)
	stop, err := natsapi.ServeLeader(c.own, events.DefaultPrefix, natsapi.LeaderCalls{
		Orphan: func(nodeID, site string) { orphans <- nodeID + "@" + site },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	report := natsapi.ReportOrphan(c.nc, events.DefaultPrefix)
	report("i<1>", "here")
	report("i2", "")
	for _, want := range []string{"i<1>@here", "i2@"} {
		select {
		case got := <-orphans:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no orphan")
		}
	}
}

func TestLeader_Heartbeats(t *testing.T) {
	c := startCell(t, nil)
	heard := make(chan string, 3)
	stop, err := natsapi.ServeLeader(c.own, events.DefaultPrefix, natsapi.LeaderCalls{
		Heartbeat: func(nodeID string, body []byte) { heard <- nodeID + " " + string(body) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, subject := range []string{"epum.node.i=3C1=3E.ou_heartbeat", "epum.node.i<2>.ou_heartbeat", "epum.node.i3.ou_heartbeat"} {
		if err := c.nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"i<1> {}", "i3 {}"} { // a token that is not canonical names nobody
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no heartbeat")
		}
	}
}
