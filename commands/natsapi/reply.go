package natsapi

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// replies answers requests. Where to is for the requester to say, but what is sent
// there is sent with the rights of this process: a requester must not write to
// the log, or purge it, by proxy.
type replies struct {
	nc     *nats.Conn
	prefix events.Prefix
	log    *slog.Logger
}

// send answers a request, unless nobody asked for an answer or it may not go where
// it is wanted, which is logged.
func (r replies) send(to string, m *nats.Msg) error {
	switch {
	case to == "":
		return nil
	case !r.allowed(to):
		r.log.Warn("no reply is sent to a subject that is no inbox", "reply", to)
		return nil
	}
	m.Subject = to
	return r.nc.PublishMsg(m)
}

// allowed reports whether a reply may go to a subject: not to the cell's own, not
// to what belongs to the server, such as $JS.API or $KV, and not to one so long that
// the server would close the connection.
func (r replies) allowed(to string) bool {
	return to != "" && to[0] != '$' && events.CheckSubject(to) == nil && !strings.HasPrefix(to, string(r.prefix)+".")
}

// refuse answers a request with an error.
func (r replies) refuse(to string, told *commands.Error) error {
	m, err := errorReply(told)
	if err != nil {
		return err
	}
	return r.send(to, m)
}

// errorBody is the body of an error reply.
type errorBody struct {
	Error *commands.Error `json:"error"`
}

// errorReply is an error in the form of the micro package, with no subject.
func errorReply(told *commands.Error) (*nats.Msg, error) {
	body, err := json.Marshal(errorBody{told})
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Header: nats.Header{
			micro.ErrorCodeHeader: {strconv.Itoa(told.Code)},
			micro.ErrorHeader:     {oneLine(told.Error())},
		},
		Data: body,
	}, nil
}

// oneLine makes text fit for a header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
