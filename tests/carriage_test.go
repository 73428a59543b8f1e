package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// TestForeign_CarriageReturn has a client that is none of nats.go send subjects with a
// carriage return, on which that ends the connection: what is in a stream comes again
// and again. They are only subjects that nobody knows.
func TestForeign_CarriageReturn(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("one"), eventDriven)
	p := e.provisioner()
	c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	report := `{"node_id":"x","state":"600-RUNNING"}`
	_, err = fmt.Fprint(c, "CONNECT {\"verbose\":false}\r\n",
		pub("epum.node.a\rb.instance_info", "", report), pub("epum.node.x.instance_info", "epum.event.a\rb", report),
		pub("epum.node.x.instance_info", "epum.event.instance.al.web.a\rb", report), pub("epum.inbox.al\r.add_domain", "", "{}"),
		pub("epum.cmd.al.status", "in\rbox", ""), pub("epum.node.a\rb.ou_heartbeat", "", "{}"), "PING\r\n")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log has what is no event", func() bool {
		info, err := e.eventStream().Info(e.ctx())
		return err == nil && info.State.NumSubjects >= 3
	})
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	id := p.provisions(1)[0]
	e.reportState("al", "web", id, events.Running)
	e.inboxEmpty()
	e.process(named("two"), eventDriven)
	e.processes[0].Stop()
	eventually(t, "the second one leads", func() bool { return e.leader().Process == "two" })
	e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(2)})
	eventually(t, "it is decided on", func() bool { return len(e.describe("al", "web").Instances) == 2 })
}

// pub is a message as it goes over the wire.
func pub(subject, reply, body string) string {
	if reply != "" {
		subject += " " + reply
	}
	return fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(body), body)
}
