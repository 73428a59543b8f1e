package tests

import (
	"encoding/json"
	"strconv"

	"github.com/nats-io/nats.go"
)

// answer is the reply to a raw request.
type answer struct {
	code    int    // 200 where it is no error
	typ     string // of the error
	message string
	field   string
	seq     uint64 // of a command
	body    []byte
}

// ask sends a raw request: token is the caller's, as it stands in the subject.
func (e *epum) ask(token, op, body string) answer {
	e.t.Helper()
	return e.askID(token, op, body, "")
}

// askID is ask with a command id; "": none.
func (e *epum) askID(token, op, body, id string) answer {
	e.t.Helper()
	msg := nats.NewMsg(string(e.prefix) + ".cmd." + token + "." + op)
	msg.Data = []byte(body)
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	reply, err := e.nc.RequestMsg(msg, patience)
	if err != nil {
		e.t.Fatalf("%s of %s: %v", op, token, err)
	}
	return e.readAnswer(reply)
}

// readAnswer checks that an error has the form of design §3.
func (e *epum) readAnswer(reply *nats.Msg) answer {
	e.t.Helper()
	a := answer{code: 200, body: reply.Data}
	code := reply.Header.Get("Nats-Service-Error-Code")
	if code == "" {
		var ok struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(reply.Data, &ok); err != nil {
			e.t.Fatalf("reply %s: %v", reply.Data, err)
		}
		a.seq = ok.Seq
		return a
	}
	var body struct {
		Error *struct {
			Type    string `json:"type"`
			Code    int    `json:"code"`
			Message string `json:"message"`
			Field   string `json:"field"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &body); err != nil || body.Error == nil {
		e.t.Fatalf("error reply %s: %v", reply.Data, err)
	}
	a.code, a.typ, a.message, a.field = body.Error.Code, body.Error.Type, body.Error.Message, body.Error.Field
	if got := strconv.Itoa(a.code); got != code {
		e.t.Errorf("the header says %s, the body %s", code, got)
	}
	if want, got := a.typ+": "+a.message, reply.Header.Get("Nats-Service-Error"); want != got {
		e.t.Errorf("the header says %q, the body %q", got, want)
	}
	return a
}

// errorTypes are the types of the codes (design §3).
var errorTypes = map[int]string{
	400: "BadRequestError", 403: "UserNotPermittedError", 404: "NotFoundError", 409: "WriteConflictError",
	413: "PayloadTooLargeError", 500: "InternalError", 503: "UnavailableError",
}

// wants asks and checks the code, its type, and the field that is to blame ("":
// any or none).
func (e *epum) wants(code int, field, token, op, body string) answer {
	e.t.Helper()
	a := e.ask(token, op, body)
	short := body
	if len(short) > 200 {
		short = short[:200] + "…"
	}
	switch {
	case a.code != code || a.typ != errorTypes[code]:
		e.t.Errorf("%s %s %s: %d %s %s, want %d", token, op, short, a.code, a.typ, a.message, code)
	case field != "" && a.field != field:
		e.t.Errorf("%s %s %s: field %q, want %q (%s)", token, op, short, a.field, field, a.message)
	case code != 200 && a.message == "":
		e.t.Errorf("%s %s %s: no message", token, op, short)
	}
	return a
}

// ok is wants for a command that has to work; it gives its sequence.
func (e *epum) ok(token, op, body string) uint64 {
	e.t.Helper()
	return e.wants(200, "", token, op, body).seq
}
