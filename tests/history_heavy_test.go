package tests

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestHistory_Heavy: a history of more bytes than the server lets wait for a connection
// costs nobody else an answer.
func TestHistory_Heavy(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(0)})
	e.do("bo", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(0)})
	js, err := natsjs.New(e.nc, natsjs.WithPublishAsyncMaxPending(32))
	if err != nil {
		t.Fatal(err)
	}
	publish := func(key events.Key, size int) {
		t.Helper()
		m := &nats.Msg{Subject: e.prefix.Event(key), Data: make([]byte, size)}
		if _, err := js.PublishMsgAsync(m, natsjs.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	web := events.DomainID{Owner: "al", Name: "web"}
	for n := range 400 {
		for _, key := range []events.Key{web.Key(), web.DecisionKey(), web.InstanceKey("i")} {
			publish(key, 250<<10)
		}
		for range 30 { // of others, so that not all of the log is read
			publish(events.DomainID{Owner: "carol", Name: fmt.Sprint("c", n%7)}.Key(), 1)
		}
	}
	await(t, "they are there", js.PublishAsyncComplete())
	leader, stop := e.leader(), make(chan struct{})
	read := make(chan int)
	go func() {
		defer close(read)
		for range 3 {
			if reply, err := e.nc.Request("epum.cmd.al.explain", []byte(`{"domain_id":"web"}`), 3*patience); err == nil && reply.Header.Get("Nats-Service-Error-Code") == "" {
				read <- len(reply.Data)
			}
		}
		close(stop)
	}()
	asked, came := 0, 0
	for reading := true; reading; asked++ {
		select {
		case <-read:
			came++
		case <-stop:
			reading = false
		default:
		}
		if a := e.ask("bo", "describe_domain", `{"domain_id":"web"}`); a.code != 200 {
			t.Errorf("request %d: %d %s", asked, a.code, a.message)
		}
	}
	if came == 0 || e.leader() != leader {
		t.Errorf("%d readings came through, the leader is %+v and was %+v", came, e.leader(), leader)
	}
}
