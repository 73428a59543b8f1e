package natsapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// incoming is a message as it came.
type incoming struct {
	subject   string
	header    nats.Header
	body      []byte
	published time.Time // by the clock of the stream that it was left in; zero: in none
}

// request is one request whose caller and size are checked.
type request struct {
	op        string
	caller    string // a plain name
	commandID string // "": none
	published time.Time
	form      *commands.Form
}

// readRequest checks in the order of design §3: the caller (403), the size
// (413), the form (400).
func readRequest(prefix events.Prefix, op, defaultUser string, in incoming) (*request, error) {
	if err := checkSent(prefix, op, in); err != nil {
		return nil, err
	}
	caller, err := callerOf(in.subject, op, defaultUser)
	if err != nil {
		return nil, err
	}
	form, formErr := commands.ReadForm(in.body)
	if formErr == nil {
		if said, given := form.Caller(); given && said != caller {
			return nil, commands.ErrNotPermitted.With("the request's caller %q is not who sends it, %q", said, caller)
		}
	}
	if len(in.body) > commands.MaxBytes {
		return nil, commands.ErrTooLarge.With("the request has %d bytes, at most %d are allowed", len(in.body), commands.MaxBytes)
	}
	if formErr != nil {
		return nil, formErr
	}
	r := &request{op: op, caller: caller, published: in.published, form: form}
	switch ids := in.header[nats.MsgIdHdr]; len(ids) {
	case 0:
	case 1:
		r.commandID = ids[0]
		err = commands.CheckCommandID(r.commandID)
	default:
		err = commands.ErrBadRequest.With("the header %s is given twice; give it once", nats.MsgIdHdr)
	}
	return r, err
}

// checkSent refuses what nobody sent who may send to the request's subject: a copy
// that the server made, and what a consumer delivered here, which keeps the subject
// that it has in its stream.
func checkSent(prefix events.Prefix, op string, in incoming) error {
	rest, ours := strings.CutPrefix(in.subject, string(prefix)+".")
	tokens := strings.Split(rest, ".")
	if !ours || len(tokens) != 3 || tokens[0] != "cmd" && tokens[0] != "inbox" || tokens[2] != op || events.Copied(in.header) {
		return commands.ErrNotPermitted.With("nobody sent this message as a request: it was delivered from a stream")
	}
	return nil
}

// callerOf gives the plain name of who sends: the subject's last token but one.
func callerOf(subject, op, defaultUser string) (string, error) {
	rest := strings.TrimSuffix(subject, "."+op)
	token := rest[strings.LastIndexByte(rest, '.')+1:]
	if token == "-" {
		if defaultUser == "" {
			return "", commands.ErrNotPermitted.With("the caller \"-\" means the default user, and none is configured; name a caller")
		}
		return defaultUser, nil
	}
	caller, err := events.ParseToken(token)
	if err != nil {
		bad := commands.ErrBadRequest.With("the caller token %q is not the canonical form of a name", token)
		bad.Field = "caller"
		return "", bad
	}
	return caller, nil
}

// command carries out a command.
func (a *API) command(ctx context.Context, r *request) ([]byte, error) {
	cmd, err := commands.DecodeForm(r.op, r.form)
	if err != nil {
		return nil, err
	}
	seq, err := a.conf.Handler.DoPublished(ctx, r.caller, r.commandID, r.published, cmd)
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendUint([]byte(`{"seq":`), seq, 10), '}'), nil
}
