package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// outcome is what a caller knows of a command.
type outcome int

const (
	unknown outcome = iota // no answer, or a 503: it may be in the log, once
	acknowledged
	refused // it must not be in the log
)

// attempt is one command of a caller, however often it was sent.
type attempt struct {
	cmd     commands.Command
	caller  string
	id      string // command id; "": none
	token   string // unique, in the event's body; "": this command has no room for one
	outcome outcome
	seq     uint64 // where acknowledged
	why     string // the last error

	open   bool     // it was sent once with an unknown outcome
	landed []uint64 // filled in by the checker
}

func (a *attempt) String() string {
	return fmt.Sprintf("%s %s of %s (id %q, %s)", a.cmd.Op(), a.cmd.Key(a.caller), a.caller, a.id, a.token)
}

func (a *attempt) causation() string {
	if a.id == "" {
		return ""
	}
	return a.caller + "/" + a.id
}

// send sends the command once and notes what came of it. One that was sent before
// with an unknown outcome is refused only now, and may have landed then.
func (a *attempt) send(nc *nats.Conn, patience time.Duration) {
	var reply *nats.Msg
	body, err := json.Marshal(a.cmd)
	if err == nil {
		msg := nats.NewMsg(events.DefaultPrefix.Command(a.caller, a.cmd.Op()))
		if msg.Data = body; a.id != "" {
			msg.Header.Set(nats.MsgIdHdr, a.id)
		}
		reply, err = nc.RequestMsg(msg, patience)
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		a.outcome, a.why = refused, err.Error()
	case err != nil:
		a.outcome, a.why = unknown, err.Error()
	default:
		a.read(reply)
	}
	if a.open = a.open || a.outcome == unknown; a.open && a.outcome == refused {
		a.outcome = unknown
	}
}

func (a *attempt) read(reply *nats.Msg) {
	switch code := reply.Header.Get("Nats-Service-Error-Code"); code {
	case "":
		var ok struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(reply.Data, &ok); err != nil || ok.Seq == 0 {
			a.outcome, a.why = acknowledged, fmt.Sprintf("reply %q: %v", reply.Data, err) // the checker finds no event at 0
			return
		}
		a.outcome, a.seq, a.why = acknowledged, ok.Seq, ""
	case "500", "503":
		a.outcome, a.why = unknown, reply.Header.Get("Nats-Service-Error")
	default:
		a.outcome, a.why = refused, reply.Header.Get("Nats-Service-Error")
	}
}
