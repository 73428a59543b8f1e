package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// tryTimeout is how long a request waits for its answer before it is sent
	// again, since the process that took it may have died: an answer takes
	// milliseconds. Further copies wait twice as long.
	tryTimeout = 2 * time.Second
	// passTryTimeout is that of run_pass, which may have to wait for a leader.
	passTryTimeout = leaderWait + time.Second
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 30 * time.Second
)

// Client asks a running epum. It is safe for concurrent use. Its errors are
// *commands.Error where the service has answered, so errors.Is(err,
// commands.ErrNotFound) tells a 404; nobody there to answer is a
// commands.ErrUnavailable too.
type Client struct {
	nc     *nats.Conn
	prefix events.Prefix
	caller string
}

// NewClient makes a client over a connection, which stays the caller's. An
// empty prefix means events.DefaultPrefix, an empty caller the service's
// default user.
func NewClient(nc *nats.Conn, prefix events.Prefix, caller string) *Client {
	if prefix == "" {
		prefix = events.DefaultPrefix
	}
	return &Client{nc: nc, prefix: prefix, caller: caller}
}

// Option changes one call.
type Option func(*call)

type call struct {
	commandID string
	patient   bool
}

// WithCommandID gives a command an id of the caller's own: repeated within two
// minutes it is carried out once.
func WithCommandID(id string) Option { return func(c *call) { c.commandID = id } }

// Patiently has a second copy of a read sent only when the service must have given the
// first one up: for what may take seconds, where a copy would take as long again.
func Patiently(c *call) { c.patient = true }

// Do carries out a command and gives its event's sequence. It sends the command
// with an id (a fresh one, or WithCommandID's) and, where the outcome is
// unknown (no answer within two seconds, or a 503), again with the same id until
// ctx ends, so it is carried out at most once. Without a deadline in ctx it
// gives up after 30 seconds.
func (c *Client) Do(ctx context.Context, cmd commands.Command, opts ...Option) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	call, err := newCommandCall(opts)
	if err != nil {
		return 0, err
	}
	var unknown error // of an earlier copy that may have been carried out
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		data, err := c.request(ctx, cmd.Op(), cmd, call)
		if err == nil {
			var reply struct {
				Seq uint64 `json:"seq"`
			}
			return reply.Seq, decodeReply(cmd.Op(), data, &reply)
		}
		switch nobody := errors.Is(err, nats.ErrNoResponders); {
		case !errors.Is(err, commands.ErrUnavailable), nobody && unknown == nil:
			return 0, err
		case !nobody:
			unknown = err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, unknown
		}
	}
}

// Call sends one request of any operation and gives the reply's JSON. request
// is encoded as JSON; nil means {}. Where no answer comes it is sent again, but
// for a command without an id. Without a deadline in ctx it waits 30 seconds.
func (c *Client) Call(ctx context.Context, op string, request any, opts ...Option) (json.RawMessage, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	return c.request(ctx, op, request, newCall(opts))
}

type pageRequest struct {
	DomainID string `json:"domain_id,omitempty"`
	After    string `json:"after,omitempty"`
	Limit    int    `json:"limit,omitempty"`
	AsOf     any    `json:"as_of,omitempty"`
}

// ListDomains gives the names of the caller's domains that come after a name,
// sorted, at most limit (0: 1,000) and as many as fit a message.
func (c *Client) ListDomains(ctx context.Context, after string, limit int) (names []string, next string, err error) {
	var reply struct {
		Domains []string `json:"domains"`
		Next    string   `json:"next"`
	}
	err = c.ask(ctx, OpListDomains, pageRequest{After: after, Limit: limit}, &reply)
	return reply.Domains, reply.Next, err
}

// ListDefinitions gives the names of the definitions, as ListDomains.
func (c *Client) ListDefinitions(ctx context.Context, after string, limit int) (names []string, next string, err error) {
	var reply struct {
		Definitions []string `json:"definitions"`
		Next        string   `json:"next"`
	}
	err = c.ask(ctx, OpListDefinitions, pageRequest{After: after, Limit: limit}, &reply)
	return reply.Definitions, reply.Next, err
}

// AllDomains gives the names of all the caller's domains, page by page. It ends
// after the first error.
func (c *Client) AllDomains(ctx context.Context) iter.Seq2[string, error] {
	return all(ctx, c.ListDomains)
}

// AllDefinitions gives the names of all definitions, as AllDomains.
func (c *Client) AllDefinitions(ctx context.Context) iter.Seq2[string, error] {
	return all(ctx, c.ListDefinitions)
}

func all(ctx context.Context, list func(context.Context, string, int) ([]string, string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after := ""; ; {
			names, next, err := list(ctx, after, mostLimit)
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			after = next
		}
	}
}

// DescribeDomain gives one of the caller's domains, with those of its instances
// that come after an id, at most limit (0: 1,000) and as many as fit a message.
func (c *Client) DescribeDomain(ctx context.Context, name, after string, limit int) (*DomainDocument, error) {
	doc := &DomainDocument{}
	return doc, c.ask(ctx, OpDescribeDomain, pageRequest{DomainID: name, After: after, Limit: limit}, doc)
}

// DescribeDomainAsOf is DescribeDomain as of a point of the log, without what was read
// of the metrics. It is a 400 where the point is yet to come.
func (c *Client) DescribeDomainAsOf(ctx context.Context, name string, p projections.Point, after string, limit int) (*DomainDocument, error) {
	doc := &DomainDocument{}
	request := pageRequest{DomainID: name, After: after, Limit: limit, AsOf: PointJSON(p)}
	return doc, c.ask(ctx, OpDescribeDomain, request, doc, Patiently)
}

// DescribeDefinition gives a definition and its engine's documentation.
func (c *Client) DescribeDefinition(ctx context.Context, name string) (*DefinitionDocument, error) {
	doc := &DefinitionDocument{}
	return doc, c.ask(ctx, OpDescribeDefinition, map[string]string{"definition_id": name}, doc)
}

// Status says how the service is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := &Status{}
	return s, c.ask(ctx, OpStatus, nil, s)
}

// RunPass has the leader run a pass (decide, doctor or reap) and waits for it.
// Without a deadline in ctx it waits as long as the service does.
func (c *Client) RunPass(ctx context.Context, pass string) (*PassResult, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, passTimeout+leaderWait+time.Second)
		defer cancel()
	}
	r := &PassResult{}
	return r, c.ask(ctx, OpRunPass, passRequest{pass}, r)
}

func (c *Client) ask(ctx context.Context, op string, request, into any, opts ...Option) error {
	data, err := c.Call(ctx, op, request, opts...)
	if err != nil {
		return err
	}
	return decodeReply(op, data, into)
}

// request sends one request.
func (c *Client) request(ctx context.Context, op string, request any, call call) (json.RawMessage, error) {
	body := []byte("{}")
	if request != nil {
		var err error
		if body, err = encode(request); err != nil {
			return nil, err
		}
	}
	msg := nats.NewMsg(c.prefix.Command(c.caller, op))
	msg.Data = body
	if call.commandID != "" {
		msg.Header.Set(nats.MsgIdHdr, call.commandID)
	}
	reply, err := c.insist(ctx, msg, firstTry(op, call))
	if err != nil {
		return nil, c.unanswered(err)
	}
	return replyOf(reply)
}

// firstTry is how long the first copy of a request is waited for; 0: there must
// be no second one.
func firstTry(op string, call call) time.Duration {
	switch {
	case op == OpRunPass:
		return passTryTimeout
	case call.patient || op == OpHistory || op == OpExplain:
		return requestTimeout + time.Second
	case call.commandID == "" && slices.Contains(commands.Ops, op):
		return 0
	}
	return tryTimeout
}

// answered is what came of one copy of a request.
type answered struct {
	reply *nats.Msg
	err   error
}

// insist sends copies of a request, which may be carried out twice, until one is
// answered or ctx ends. The first answer counts, whichever copy it is to: it is as
// new as the call. That nobody is there counts only where no copy is still open.
func (c *Client) insist(ctx context.Context, msg *nats.Msg, first time.Duration) (*nats.Msg, error) {
	if first == 0 {
		return c.nc.RequestMsgWithContext(ctx, msg)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answered)
	open := 0
	next := time.NewTimer(0)
	defer next.Stop()
	for wait := first; ; {
		select {
		case <-next.C:
			open++
			go func() {
				reply, err := c.nc.RequestMsgWithContext(ctx, msg)
				select {
				case answers <- answered{reply, err}:
				case <-ctx.Done():
				}
			}()
			next.Reset(wait)
			wait = 2 * first
		case a := <-answers:
			if open--; a.err == nil || open == 0 {
				return a.reply, a.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// unansweredError is a request without an answer: to the caller the service's
// own 503, with what happened underneath.
type unansweredError struct {
	told  *commands.Error
	cause error
}

func (e *unansweredError) Error() string   { return e.told.Error() }
func (e *unansweredError) Unwrap() []error { return []error{e.told, e.cause} }

func (c *Client) unanswered(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		told := commands.ErrUnavailable.With("no epum is running at %s; start one with `epum serve`", c.nc.ConnectedUrlRedacted())
		return &unansweredError{told, err}
	case errors.Is(err, nats.ErrMaxPayload):
		return &unansweredError{commands.ErrTooLarge.With("the request is larger than the server takes"), err}
	case errors.Is(err, context.Canceled):
		return err
	}
	told := commands.ErrUnavailable.With("no answer (%v): the outcome is unknown, repeat it with the same command id", err)
	return &unansweredError{told, err}
}

func decodeReply(op string, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the reply of %s: %w", op, err)
	}
	return nil
}

func newCall(opts []Option) call {
	var c call
	for _, o := range opts {
		o(&c)
	}
	return c
}

// newCommandCall is newCall for a command, which has an id in any case.
func newCommandCall(opts []Option) (call, error) {
	c := newCall(opts)
	if c.commandID != "" {
		return c, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return c, fmt.Errorf("make a command id: %w", err)
	}
	c.commandID = id.String()
	return c, nil
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}
