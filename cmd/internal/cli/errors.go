package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/commands"
)

// The exit codes; rootLong documents them.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitForbidden   = 5
	exitUnavailable = 6
	exitInterrupted = 130 // as shells have it: 128 + SIGINT
)

// fault is an error as the user is told it.
type fault struct {
	code    int
	message string // one line, without "epum: "; "": nothing to say
	final   bool   // nobody knows more than the message
}

func (f *fault) Error() string { return f.message }

func usageError(format string, args ...any) error {
	return &fault{code: exitUsage, message: fmt.Sprintf(format, args...)}
}

// asUsage makes of cobra's error about the arguments one that says where to look.
func asUsage(err error, command string) error {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	return usageError("%s; see '%s --help'", strings.TrimSuffix(err.Error(), "."), command)
}

// codes maps the service's codes to exit codes; what is absent is exitOther.
var codes = map[int]int{
	commands.ErrBadRequest.Code:    exitUsage,
	commands.ErrTooLarge.Code:      exitUsage,
	commands.ErrNotPermitted.Code:  exitForbidden,
	commands.ErrNotFound.Code:      exitNotFound,
	commands.ErrWriteConflict.Code: exitConflict,
	commands.ErrUnavailable.Code:   exitUnavailable,
}

// explain gives the user's form of any error.
func explain(ctx context.Context, err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if told, ok := errors.AsType[*commands.Error](err); ok {
		code, known := codes[told.Code]
		if !known {
			code = exitOther
		}
		return &fault{code: code, message: told.Message}
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &fault{code: exitInterrupted, message: "interrupted"}
	case unavailable(err):
		return &fault{code: exitUnavailable, message: err.Error()}
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrPermissionViolation):
		return &fault{code: exitForbidden, message: err.Error()}
	}
	return &fault{code: exitOther, message: err.Error()}
}

// unavailable reports whether nothing, or nothing in time, was there to answer.
func unavailable(err error) bool {
	for _, gone := range []error{
		nats.ErrNoServers, nats.ErrNoResponders, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrDisconnected,
		context.DeadlineExceeded, natsjs.ErrJetStreamNotEnabled, natsjs.ErrNoStreamResponse,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	timed, ok := errors.AsType[net.Error](err) // such as a server that accepts and then says nothing
	return ok && timed.Timeout()
}

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }
