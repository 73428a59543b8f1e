package tests

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestMute_LongSubjects sends what would lead to a subject on which the server closes
// the connection: the process is heard as before.
func TestMute_LongSubjects(t *testing.T) {
	t.Parallel()
	e := newEpum(t, eventDriven)
	before := e.leader()
	long := strings.Repeat("x", 5000)
	e.report("orphan1", map[string]any{"state": events.Running, "site": long})
	e.report("orphan2", map[string]any{"state": events.Running, "site": strings.Repeat("ä", 1500)})
	for _, node := range []string{strings.Repeat("x", 4000), strings.Repeat("=", 4000)} {
		if err := e.nc.Publish("epum.node."+node+".instance_info", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, body := range []string{`{"node_id":"a","site":"` + long + `"}`, `{"node_id":"` + long + `","site":"s"}`} {
		if err := e.nc.Publish("epum.leader.orphan", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	e.leaveRaw("al", strings.Repeat("o", 4000), `{}`, "c1")
	e.inboxEmpty()
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	p.provisions(1)
	if now := e.leader(); now != before {
		t.Errorf("%+v led, now %+v", before, now)
	}
}

// TestMute_Closed has the server refuse a process for good: it ends, with an error.
func TestMute_Closed(t *testing.T) {
	t.Parallel()
	users := func(password string) natsOptions {
		return natsOptions{more: `authorization { users: [ { user: epum, password: ` + password + ` } ] }`}
	}
	srv := newNATS(t, users("x")).start().ready()
	e := connect(t, "nats://epum:x@"+srv.addr())
	eventually(t, "JetStream answers", func() bool {
		_, err := e.nc.Request("$JS.API.INFO", nil, time.Second)
		return err == nil
	})
	out, ready := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- service.Run(t.Context(), config(t, e.url), ready) }()
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	srv.kill()
	srv.configure(users("y"))
	srv.start().ready()
	select {
	case err := <-ended:
		if err == nil || !contains(err.Error(), "closed for good") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(2 * patience):
		t.Fatal("it lives on")
	}
}
