package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// session is a command's connection to the service, as one owner.
type session struct {
	app    *app
	nc     *nats.Conn
	client *natsapi.Client
	prefix events.Prefix
	owner  string
	ctx    context.Context // ends with the command, or when NATS refuses a subject; the cause says why
}

// with opens a session for as long as do runs. log hears of the connection's
// troubles; nil means nobody does.
func (a *app) with(ctx context.Context, log *slog.Logger, do func(s *session) error) error {
	owner, err := a.owner()
	if err != nil {
		return err
	}
	prefix, err := a.cellPrefix()
	if err != nil {
		return err
	}
	nc, err := a.connect(log)
	if err != nil {
		return err
	}
	defer closeQuietly(nc)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A refused publish has no answer: without this it would look like a time-out.
	logged := nc.ErrorHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			cancel(&fault{code: exitForbidden, message: fmt.Sprintf("NATS does not permit this for owner %s: %v", owner, err)})
			return
		}
		if logged != nil {
			logged(nc, sub, err)
		}
	})
	return do(&session{app: a, nc: nc, client: natsapi.NewClient(nc, prefix, owner), prefix: prefix, owner: owner, ctx: ctx})
}

// closeQuietly closes a connection that nobody should be told the loss of.
func closeQuietly(nc *nats.Conn) {
	nc.SetDisconnectErrHandler(nil)
	nc.Close()
}

// connect reaches the server, or says what to do.
func (a *app) connect(log *slog.Logger) (*nats.Conn, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	creds := cmp.Or(a.creds, environment("NATS_CREDS"))
	if creds != "" {
		if _, err := os.Stat(creds); err != nil {
			return nil, usageError("credentials: %v", err)
		}
	}
	server := a.serverURL()
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: server, Creds: creds, Name: "epum client", Logger: log})
	switch {
	case err == nil:
		return nc, nil
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, &fault{code: exitForbidden, message: fmt.Sprintf("the server at %s refuses these credentials; see --creds", jetstream.Redacted(server))}
	case unavailable(err):
		return nil, &fault{
			code:    exitUnavailable,
			message: fmt.Sprintf("nothing answers at %s; start it with 'epum serve', or name another --server", jetstream.Redacted(server)),
		}
	}
	return nil, usageError("--server: %s", strings.TrimPrefix(err.Error(), "jetstream: "))
}

func (a *app) serverURL() string {
	return cmp.Or(a.server, environment("EPUM_SERVER", "NATS_URL"), nats.DefaultURL)
}

// owner is who the command speaks as.
func (a *app) owner() (string, error) {
	owner := cmp.Or(a.as, environment("EPUM_AS"))
	if owner == "" {
		if u, err := user.Current(); err == nil {
			owner = u.Username
		}
	}
	if err := events.CheckName(owner); err != nil {
		return "", usageError("owner %q: %v; say who you are with --as", owner, err)
	}
	return owner, nil
}

func (a *app) cellPrefix() (events.Prefix, error) {
	prefix := cmp.Or(a.prefix, environment("EPUM_PREFIX"), string(events.DefaultPrefix))
	if events.Token(prefix) != prefix {
		return "", usageError("--prefix %q is no word of A-Z a-z 0-9 _ -", prefix)
	}
	return events.Prefix(prefix), nil
}

// call sends one request and gives the reply's body.
func (s *session) call(op string, request any, opts ...natsapi.Option) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.app.timeout)
	defer cancel()
	reply, err := s.client.Call(ctx, op, request, opts...)
	if err != nil {
		return nil, s.fault(op, err)
	}
	return reply, nil
}

// fault explains why a request failed.
func (s *session) fault(op string, err error) *fault {
	if refused, ok := errors.AsType[*fault](context.Cause(s.ctx)); ok {
		return refused
	}
	switch {
	case s.ctx.Err() != nil:
		return explain(s.ctx, s.ctx.Err())
	case errors.Is(err, nats.ErrNoResponders):
		return &fault{
			code:    exitUnavailable,
			message: fmt.Sprintf("no epum service answers on %s; start one with 'epum serve'", jetstream.Redacted(s.nc.ConnectedUrl())),
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return &fault{code: exitUnavailable, message: fmt.Sprintf("no answer to %s within %s", op, s.app.timeout)}
	}
	return explain(s.ctx, err)
}
