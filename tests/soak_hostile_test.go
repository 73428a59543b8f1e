package tests

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// attack is one thing that somebody sends who means no good, or knows no better.
type attack struct {
	pause time.Duration // before it
	kind  string
	n     int // which one of its kind
}

// attacks are the kinds of attacks, and how each is made.
var attacks = map[string]func(*attacker, int){
	"reply":     (*attacker).badReply,
	"ack":       (*attacker).badAck,
	"discovery": (*attacker).badDiscovery,
	"event":     (*attacker).badEvent,
	"deep":      (*attacker).tooDeep,
	"long":      (*attacker).tooLong,
	"large":     (*attacker).tooLarge,
	"header":    (*attacker).badHeader,
	"heartbeat": (*attacker).badHeartbeat,
	"types":     (*attacker).badTypes,
	"nonsense":  (*attacker).nonsense,
	"unknown":   (*attacker).unknownOp,
	"malformed": (*attacker).malformed,
}

// attackScript makes up attacks, from a seed alone.
type attackScript struct {
	script
	kinds []string
}

func newAttackScript(seed uint64) *attackScript {
	s := &attackScript{script: *newScript(seed, "", "", 3000)}
	for kind := range attacks {
		s.kinds = append(s.kinds, kind)
	}
	slices.Sort(s.kinds)
	return s
}

func (s *attackScript) next() attack {
	return attack{pause: s.between(0, 150*time.Millisecond), kind: s.kinds[s.IntN(len(s.kinds))], n: s.IntN(1 << 30)}
}

// attacker follows its script, and remembers what may come of it.
type attacker struct {
	fleet  *fleet
	nc     *nats.Conn
	cloud  *cloud
	counts map[string]int // by kind
	tokens int            // subjects and ids of its own used

	foreign  map[events.Key]int // as many messages it may have had put on the log at most
	outcomes map[string]int     // as many outcomes, by subject
	letters  letters            // as many dead letters
	findings []string

	mu     sync.Mutex
	recent []events.Key // of the latest events
}

func newAttacker(s *soak) *attacker {
	s.epum.t.Helper()
	a := &attacker{
		fleet: s.fleet, nc: s.connect().nc, cloud: s.cloud, counts: map[string]int{}, foreign: map[events.Key]int{}, outcomes: map[string]int{},
		letters: letters{taken: map[string]int{}, sent: map[string]int{}},
	}
	sub, err := a.nc.Subscribe(events.DefaultPrefix.AllEvents(), a.hear)
	if err != nil {
		s.epum.t.Fatal(err)
	}
	s.epum.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return a
}

// hear remembers the keys of the latest events: there it hurts most.
func (a *attacker) hear(m *nats.Msg) {
	if key := events.DefaultPrefix.EventKey(m.Subject); key != events.LeaderKey {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.recent = append(a.recent[max(0, len(a.recent)-49):], key)
	}
}

func (a *attacker) run(ctx context.Context, script *attackScript) {
	for {
		next := script.next()
		if !pauseFor(ctx, next.pause) {
			return
		}
		a.counts[next.kind]++
		attacks[next.kind](a, next.n)
	}
}

// key is a subject of the log, mostly one that is in use.
func (a *attacker) key(n int) events.Key {
	some := []events.Key{
		events.LeaderKey, events.PassKey, "domain.al.shared0", "decision.bo.shared1", "definition.base", "instance.al.shared0.i",
		events.CheckpointKey, "other", "domain.al", "definition.a=2fb", "instance.a.b.c.d",
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.recent) > 0 && n%4 > 0 {
		return a.recent[n/4%len(a.recent)]
	}
	return some[n/4%len(some)]
}

// api is a request of JetStream that destroys.
func (a *attacker) api(n int) string {
	stream := events.DefaultPrefix.Stream([]string{events.StreamEvents, events.StreamInbox, events.StreamResults, events.StreamDead}[n%4])
	some := []string{
		"STREAM.PURGE." + stream, "STREAM.DELETE." + stream, "STREAM.UPDATE." + stream, "STREAM.MSG.DELETE." + stream,
		"CONSUMER.DELETE.epum_inbox.workers", "CONSUMER.DELETE.epum_inbox.commands", "CONSUMER.PAUSE.epum_inbox.commands", "STREAM.PURGE.KV_epum_state",
	}
	return "$JS.API." + some[n/4%len(some)]
}

// publish sends a message that nobody has to answer.
func (a *attacker) publish(subject, reply, body string) {
	_ = a.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte(body)}) // a connection that is lost comes again
}

// badReply asks for what changes nothing, and for the answer where it hurts.
func (a *attacker) badReply(n int) {
	reply := a.api(n)
	switch n % 5 {
	case 0:
		reply = events.DefaultPrefix.Event(a.key(n / 5))
	case 1:
		reply = []string{"$KV.epum_leases.leader", "$KV.epum_state.checkpoint", "epum.inbox.al.status", "epum.none." + strings.Repeat("x", 3500)}[n/5%4]
	}
	op, body := "status", ""
	switch n % 3 {
	case 0:
		op, body = commands.OpAddDomain, `{"domain_id":"shared0"}`
	case 1:
		op, body = "run_pass", `{"pass":"decide"}`
	}
	a.publish(events.DefaultPrefix.Command("al", op), reply, body)
	a.publish(events.DefaultPrefix.LeaderCall("run_pass"), reply, `nonsense`)
}

// badAck has the server's ack of a report that changes nothing go where it hurts.
func (a *attacker) badAck(n int) {
	reply := a.api(n)
	if n%3 > 0 {
		key := a.key(n / 3)
		a.foreign[key]++
		reply = events.DefaultPrefix.Event(key)
	}
	a.publish(events.DefaultPrefix.Node("nobody", events.OpInstanceInfo), reply, `{"node_id":"nobody","state":"900-FAILED"}`)
}

// badDiscovery has the answers that the micro package gives go where it hurts.
func (a *attacker) badDiscovery(n int) {
	reply := a.api(n)
	if n%3 > 0 {
		key := a.key(n / 3)
		a.foreign[key] += len(a.fleet.nodes)
		reply = events.DefaultPrefix.Event(key)
	}
	a.publish("$SRV."+[]string{"PING", "INFO", "STATS"}[n%3]+".epum", reply, "")
}

// badEvent writes to the log itself, what is no event: it has no type.
func (a *attacker) badEvent(n int) {
	key := a.key(n / 4)
	a.foreign[key]++
	a.publish(events.DefaultPrefix.Event(key), "", []string{"", "nonsense", `{"caller":"al","preserve_n":1000}`, strings.Repeat("[", 20_000)}[n%4])
}

// name is one that it has not used yet.
func (a *attacker) name() string {
	a.tokens++
	return fmt.Sprint("hostile-", a.tokens)
}

// leave publishes to the inbox, also what the client would not send.
func (a *attacker) leave(subject, body string, header nats.Header) (taken bool) {
	seq, duplicate := publish(a.nc, &nats.Msg{Subject: subject, Header: header, Data: []byte(body)})
	return seq > 0 && !duplicate
}

// bury leaves in the inbox what must come to the dead letters.
func (a *attacker) bury(subject, body string, header nats.Header) {
	a.letters.sent[subject]++
	if a.leave(subject, body, header) {
		a.letters.taken[subject]++
	}
}

// refuse leaves a command in the inbox that must have an error as its outcome.
func (a *attacker) refuse(op, body string) {
	id := a.name()
	a.outcomes[events.DefaultPrefix.Result("al", id)]++
	a.leave(events.DefaultPrefix.Inbox("al", op), body, nats.Header{nats.MsgIdHdr: {id}})
}

// vm is the id of one that there is, or was.
func (a *attacker) vm(n int) string {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if len(a.cloud.born) == 0 {
		return "nobody"
	}
	return a.cloud.born[n%len(a.cloud.born)]
}

func (a *attacker) tooDeep(n int) {
	deep := strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998)
	id := a.vm(n / 4)
	switch n % 4 {
	case 0:
		a.bury(events.DefaultPrefix.Node(id, events.OpInstanceInfo), fmt.Sprintf(`{"node_id":%q,"state":"600-RUNNING","x":%s}`, id, deep), nil)
	case 1:
		a.refuse(commands.OpAddDomain, `{"domain_id":"shared0","definition_id":"base","config":{"general":{"x":`+deep+`}}}`)
	case 2:
		a.publish(events.DefaultPrefix.Command("al", commands.OpAddDomain), "", `{"domain_id":"shared0","definition_id":"base","config":{"general":{"x":`+deep+`}}}`)
	default:
		a.publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), "", fmt.Sprintf(`{"node_id":%q,"state":"PROCESS_ERROR","error":%s}`, id, deep))
	}
}

func (a *attacker) tooLong(n int) {
	long := strings.Repeat([]string{"x", "ä", "=4"}[n/6%3], 1000) // as token or not
	plain := strings.Repeat("x", 5000)
	id := a.name()
	switch n % 6 {
	case 0:
		a.leave(events.DefaultPrefix.Node(id, events.OpInstanceInfo), fmt.Sprintf(`{"node_id":%q,"state":"600-RUNNING","site":%q}`, id, plain), nil)
	case 1:
		a.bury("epum.node."+long+".instance_info", `{"node_id":"x","state":"600-RUNNING"}`, nil)
	case 2:
		a.bury("epum.inbox."+long+".add_domain", `{"domain_id":"shared0"}`, nats.Header{nats.MsgIdHdr: {id}})
	case 3:
		a.publish("epum.cmd."+long+".status", "", ``)
	case 4:
		a.publish("epum.node."+long+".ou_heartbeat", "", `{"state":"OK"}`)
	default:
		a.publish("epum.leader.orphan", "", fmt.Sprintf(`{"node_id":%q,"site":%q}`, id, plain))
	}
}

func (a *attacker) tooLarge(n int) {
	body := `{"domain_id":"shared0","x":"` + strings.Repeat("x", commands.MaxBytes) + `"}`
	id := a.name()
	switch n % 4 {
	case 0:
		a.publish(events.DefaultPrefix.Command("al", commands.OpReconfigureDomain), "", body)
	case 1:
		a.refuse(commands.OpReconfigureDomain, body)
	case 2:
		a.leave(events.DefaultPrefix.Node(id, events.OpInstanceInfo), fmt.Sprintf(`{"node_id":%q,"state":"600-RUNNING","x":%q}`, id, body), nil)
	default:
		id = a.vm(n / 4)
		a.publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), "", fmt.Sprintf(`{"node_id":%q,"state":"OK","error":%q}`, id, body))
	}
}

// badHeader sends headers that cannot be parsed, which no client does.
func (a *attacker) badHeader(n int) {
	header := []string{
		"NATS/1.0\r\nno colon\r\n\r\n", "NATS/1.0\r\n: no name\r\n\r\n", "HTTP/1.1\r\nA: b\r\n\r\n", "NATS/1.0\r\n\x00\xff: \x00\r\n\r\n",
	}[n/4%4]
	switch id := a.name(); n % 4 {
	case 0:
		a.raw("epum.cmd.al.status", header, "")
	case 1:
		a.raw("epum.node."+id+".ou_heartbeat", header, fmt.Sprintf(`{"node_id":%q,"state":"OK"}`, id))
	case 2:
		a.raw("epum.node."+id+".instance_info", header, fmt.Sprintf(`{"node_id":%q,"state":"600-RUNNING"}`, id))
	default:
		subject := events.DefaultPrefix.Inbox("al", commands.OpRemoveDefinition)
		a.letters.sent[subject]++
		if a.raw(subject, header, `{"definition_id":"base"}`) {
			a.letters.taken[subject]++
		}
	}
}

// raw publishes over a connection of its own and reports whether a stream has the
// message.
func (a *attacker) raw(subject, header, body string) (taken bool) {
	inbox := nats.NewInbox()
	acks, err := a.nc.SubscribeSync(inbox)
	if err != nil {
		return false
	}
	defer func() { _ = acks.Unsubscribe() }()
	if a.nc.FlushTimeout(hasty) != nil {
		return false
	}
	server := a.fleet.servers[a.tokens%len(a.fleet.servers)]
	conn, err := net.DialTimeout("tcp", server.addr(), hasty)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hasty))
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nHPUB %s %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, inbox, len(header), len(header)+len(body), header, body)
	var heard []byte
	for buffer := make([]byte, 4<<10); !bytes.Contains(heard, []byte("PONG")); {
		n, err := conn.Read(buffer)
		if heard = append(heard, buffer[:n]...); err != nil {
			return false
		}
	}
	reply, err := acks.NextMsg(hasty / 4)
	if err != nil {
		return false
	}
	seq, _ := readAck(reply)
	return seq > 0
}

func (a *attacker) badHeartbeat(n int) {
	id := a.vm(n / 8)
	body := []string{
		`{"node_id":%q,"state":"OK","state":"OK","x":"` + "\xff" + `"}`,
		`{"node_id":%q,"state":"PROCESS_ERROR","error":{"a":1,"a":2,"b":"` + "\xff\xfe" + `"}}`,
		`{"node_id":%q,"state":"MONITOR_ERROR","failed_processes":[{"a":"` + "\xc3" + `"},{"a":1,"a":1}]}`,
		`{"node_id":%q,"state":"OK","caller":"` + "\xff" + `","caller":"a.b.>"}`,
		`{"node_id":%q,"state":"OK"`, `[%q]`, `{"node_id":"other","x":%q,"state":"OK"}`, `{"node_id":%q,"state":"MISSING"}`,
	}[n%8]
	a.publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), "", fmt.Sprintf(body, id))
}

// badTypes says odd things where they are optional; that is a report all the same.
func (a *attacker) badTypes(n int) {
	id := a.vm(n / 8)
	if n%2 == 0 {
		a.publish(events.DefaultPrefix.Node(id, events.OpHeartbeat), "", fmt.Sprintf(
			`{"node_id":%q,"state":"OK","caller":[7],"error":7,"error_time":{},"failed_processes":"no","timestamp":[]}`, id))
		return
	}
	a.cloud.mu.Lock()
	token := a.cloud.token()
	a.cloud.mu.Unlock()
	a.leave(events.DefaultPrefix.Node(id, events.OpInstanceInfo), fmt.Sprintf(
		`{"node_id":%q,"state":"100-REQUESTING","token":%q,"site":[7],"update_counter":{},"public_ip":{"a":null},"launch_id":7,"health":{},"errors":"no"}`, id, token), nil)
}

func (a *attacker) unknownOp(n int) {
	switch n % 3 {
	case 0:
		a.publish("epum.cmd.al.dance", nats.NewInbox(), `{}`)
	case 1:
		a.refuse("dance", `{}`)
	default:
		a.publish("epum.node."+a.vm(n/3)+".dance", "", `{}`)
	}
}

// malformed leaves commands that can have no outcome, and one that has no form.
func (a *attacker) malformed(n int) {
	remove := events.DefaultPrefix.Inbox("al", commands.OpRemoveDefinition)
	const body = `{"definition_id":"base"}`
	switch id := a.name(); n % 6 {
	case 0:
		a.bury(remove, body, nil)
	case 1:
		a.bury(remove, body, nats.Header{nats.MsgIdHdr: {id + "\x01"}})
	case 2:
		a.bury(remove, body, nats.Header{nats.MsgIdHdr: {id + strings.Repeat("x", 300)}})
	case 3:
		a.bury("epum.inbox.a=6C.remove_domain_definition", body, nats.Header{nats.MsgIdHdr: {id}})
	case 4:
		a.bury(remove, body, nats.Header{nats.MsgIdHdr: {id, "b" + id}})
	default:
		a.refuse(commands.OpRemoveDefinition, `{"definition_id":`)
	}
}
