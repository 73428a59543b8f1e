package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Error is what a caller is told (design §3). errors.Is compares the type
// alone, so errors.Is(err, commands.ErrNotFound) holds whatever the message.
type Error struct {
	Type    string `json:"type"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"` // dotted path in the request; "": no field is to blame
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Is reports whether target is an Error of the same type.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Type == e.Type
}

// The table of types and codes (design §3).
var (
	// ErrBadRequest is returned when the input is malformed or refused.
	ErrBadRequest = &Error{Type: "BadRequestError", Code: 400, Message: "bad request"}
	// ErrNotPermitted is returned when the caller is not allowed.
	ErrNotPermitted = &Error{Type: "UserNotPermittedError", Code: 403, Message: "not permitted"}
	// ErrNotFound is returned when the caller has no such domain, or there is no such definition.
	ErrNotFound = &Error{Type: "NotFoundError", Code: 404, Message: "not found"}
	// ErrWriteConflict is returned when the name exists already, or a conflict outlasted the retries.
	ErrWriteConflict = &Error{Type: "WriteConflictError", Code: 409, Message: "write conflict"}
	// ErrTooLarge is returned when a request or a merged config is over MaxBytes.
	ErrTooLarge = &Error{Type: "PayloadTooLargeError", Code: 413, Message: "payload too large"}
	// ErrInternal is returned when the fault is on the service's side; its log says more.
	ErrInternal = &Error{Type: "InternalError", Code: 500, Message: "an internal fault; the service's log says more"}
	// ErrUnavailable is returned when the outcome is unknown: no leader, no quorum, a full disk, out of time.
	ErrUnavailable = &Error{Type: "UnavailableError", Code: 503, Message: "unavailable"}
)

// With is a copy of e with a message of its own.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Type: e.Type, Code: e.Code, Message: clip(fmt.Sprintf(format, args...), 1000)}
}

// clip cuts what a caller gave and is told again to at most so many bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// badField refuses a request for one of its fields. The message goes on from
// the field's name.
func badField(field, format string, args ...any) *Error {
	field = clip(field, 300)
	e := ErrBadRequest.With("%s "+format, append([]any{field}, args...)...)
	e.Field = field
	return e
}

// badConfig refuses a config, given as field in the request.
func badConfig(field string, err error) error {
	if refused, ok := errors.AsType[*engines.FieldError](err); ok {
		return badField(field+"."+refused.Field, "%s", refused.Message)
	}
	return fmt.Errorf("check %s: %w", field, err)
}

// RefusedConfig is the error with which a command whose config is refused for err, a
// *engines.FieldError, is answered.
func RefusedConfig(err error) error { return badConfig("config", err) }

// AsError maps any error to what the caller is told. A fault that it does not
// know becomes an ErrInternal, which says nothing of it: log the error itself.
func AsError(err error) *Error {
	if told, ok := errors.AsType[*Error](err); ok {
		return told
	}
	const repeat = "; the outcome is unknown, repeat it with the same command id"
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, projections.ErrNoQuorum):
		return ErrUnavailable.With("the log cannot be reached or has no quorum" + repeat)
	case errors.Is(err, events.ErrUnavailable):
		return ErrUnavailable.With("the log could not be reached" + repeat)
	case errors.Is(err, events.ErrDeposed):
		return ErrUnavailable.With("the leader has changed meanwhile" + repeat)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ErrUnavailable.With("there was no time left" + repeat)
	}
	if _, ok := errors.AsType[*events.ConflictError](err); ok {
		return ErrWriteConflict.With("others kept writing to the same name; try again")
	}
	return ErrInternal
}
