package tests

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// shapeless are bodies that no command has.
var shapeless = []string{
	"nonsense", "\x00\xff", `[]`, `7`, `"shared0"`, `{`, `{}`, `{"domain_id":7,"definition_id":7}`, `{"domain_id":"` + "\xff" + `"}`,
	`{"domain_id":"shared0","domain_id":"shared0"}`, `{"domain_id":"shared0","definition_id":"base","dance":1}`, `{"domain_id":".."}`,
}

// nonsense asks for a command in words that mean nothing: whoever takes it says so, and
// no event comes of it.
func (a *attacker) nonsense(n int) {
	ops := slices.Sorted(maps.Keys(typeOf))
	body := shapeless[n/len(ops)%len(shapeless)]
	msg := nats.NewMsg(events.DefaultPrefix.Command("al", ops[n%len(ops)]))
	msg.Data = []byte(body)
	if n/len(ops)/len(shapeless)%2 == 0 {
		msg.Header.Set(nats.MsgIdHdr, a.name())
	}
	reply, err := a.nc.RequestMsg(msg, hasty)
	if err != nil { // nobody is there to say anything
		return
	}
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "400" {
		a.findings = append(a.findings, fmt.Sprintf("%s: %q to %s is answered with %q %s", findOutcome, body, msg.Subject, code, reply.Data))
	}
}
