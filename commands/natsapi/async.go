package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

const (
	// duplicateWindow is for how long the inbox may take a command for another one
	// with the same id, also another caller's; a little more, to be sure.
	duplicateWindow = 150 * time.Millisecond
	// resultPoll is how often a waiter looks for an outcome by itself, should the
	// news of it be lost.
	resultPoll = 2 * time.Second
	// resultSoon is the first pause after the news, which may come before the
	// server that is asked has the outcome.
	resultSoon = 5 * time.Millisecond
	// requestPatience bounds one request for an outcome.
	requestPatience = 5 * time.Second
)

// AsyncResult is the outcome of a command that was left with DoAsync.
type AsyncResult struct {
	Seq  uint64          // of the command's event
	Err  *commands.Error // why it was refused; nil: it was not
	Time time.Time       // when the outcome was stored, UTC
}

// DoAsync leaves a command in the service's inbox, which takes it also while no
// process is up, and gives its id (a fresh one, or WithCommandID's) once it is
// durably there. It is carried out once, after what this caller has left there
// before; Result tells its outcome. Where it is not known whether the inbox has it,
// it is sent again with the same id until ctx ends, without a deadline for 30
// seconds. The error is a commands.ErrUnavailable where no inbox is there, since no
// epum ever ran on the server, or none answers: with an id, it may be there all the
// same.
func (c *Client) DoAsync(ctx context.Context, cmd commands.Command, opts ...Option) (commandID string, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	call, err := newCommandCall(opts)
	if err != nil {
		return "", err
	}
	if err := commands.CheckCommandID(call.commandID); err != nil {
		return "", err
	}
	body, err := encode(cmd)
	if err != nil {
		return "", err
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		msg := nats.NewMsg(c.prefix.Inbox(c.caller, cmd.Op()))
		msg.Data = body
		msg.Header.Set(nats.MsgIdHdr, call.commandID)
		taken, err := c.leave(ctx, msg)
		switch {
		case taken:
			return call.commandID, nil
		case err == nil: // the inbox takes it for another one
			pause = max(pause, duplicateWindow)
		case errors.Is(err, nats.ErrNoResponders), !errors.Is(err, commands.ErrUnavailable):
			return "", err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if err == nil {
				err = c.unanswered(ctx.Err())
			}
			return call.commandID, err
		}
	}
}

// leave publishes a message to a stream. It is not taken where the stream has had
// a message with its id, whosever it was.
func (c *Client) leave(ctx context.Context, msg *nats.Msg) (taken bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	reply, err := c.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return false, c.noStream(err)
	}
	var ack struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return false, fmt.Errorf("read the inbox's answer: %w", err)
	}
	if ack.Error != nil {
		return false, commands.ErrUnavailable.With("the inbox did not take it: %s", ack.Error.Description)
	}
	return ack.Seq > 0 && !ack.Duplicate, nil
}

// noStream explains a request that no stream has answered.
func (c *Client) noStream(err error) error {
	if errors.Is(err, nats.ErrNoResponders) {
		told := commands.ErrUnavailable.With(
			"no epum has ever run at %s, so nothing takes commands there; start one with `epum serve`", c.nc.ConnectedUrlRedacted())
		return &unansweredError{told, err}
	}
	return c.unanswered(err)
}

// Result gives the outcome of a command of this caller that was left with DoAsync;
// commands.ErrNotFound where there is none yet, or none any more: it is kept for a
// day.
func (c *Client) Result(ctx context.Context, commandID string) (AsyncResult, error) {
	if err := commands.CheckCommandID(commandID); err != nil {
		return AsyncResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	subject := c.prefix.Result(c.caller, commandID)
	// The subject is part of this request's, so that NATS permissions can keep
	// callers apart.
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+c.prefix.Stream(events.StreamResults)+"."+subject, nil)
	if err != nil {
		return AsyncResult{}, c.noStream(err)
	}
	switch status := msg.Header.Get("Status"); {
	case status == "404":
		return AsyncResult{}, commands.ErrNotFound.With("command %q has no outcome yet, or none any more", commandID)
	case status != "":
		return AsyncResult{}, commands.ErrUnavailable.With("the outcomes cannot be read: %s", msg.Header.Get("Description"))
	case len(msg.Header[events.HeaderCommand]) == 0, len(msg.Header[events.HeaderStream]) > 1: // the server adds one to its answer
		return AsyncResult{}, commands.ErrNotFound.With("command %q has no outcome: what is stored in its place is somebody's answer", commandID)
	}
	return readResult(msg)
}

func readResult(msg *nats.Msg) (AsyncResult, error) {
	var r AsyncResult
	var err error
	if r.Time, err = time.Parse(time.RFC3339Nano, msg.Header.Get("Nats-Time-Stamp")); err != nil {
		return r, fmt.Errorf("time of an outcome: %w", err)
	}
	body, err := replyOf(msg)
	if refused, ok := errors.AsType[*commands.Error](err); ok {
		r.Err = refused
		return r, nil
	}
	if err != nil {
		return r, err
	}
	var reply struct {
		Seq uint64 `json:"seq"`
	}
	err = decodeReply("an outcome", body, &reply)
	r.Seq = reply.Seq
	return r, err
}

// WaitResult is Result, but waits for the outcome until ctx ends; then it fails
// with ctx's error.
func (c *Client) WaitResult(ctx context.Context, commandID string) (AsyncResult, error) {
	// The outcome passes here on its way to the stream. That is news and no more:
	// the stream may yet refuse it.
	news := make(chan *nats.Msg, 8)
	sub, err := c.nc.ChanSubscribe(c.prefix.Result(c.caller, commandID), news)
	if err != nil {
		return AsyncResult{}, fmt.Errorf("wait for an outcome: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection has gone, and the subscription with it
	if err := c.nc.FlushTimeout(requestPatience); err != nil {
		return AsyncResult{}, c.unanswered(err)
	}
	for pause := resultPoll; ; pause = min(2*pause, resultPoll) {
		r, err := c.Result(ctx, commandID)
		if ctx.Err() != nil {
			return AsyncResult{}, fmt.Errorf("wait for the outcome of command %q: %w", commandID, ctx.Err())
		}
		if !errors.Is(err, commands.ErrNotFound) && (!errors.Is(err, commands.ErrUnavailable) || errors.Is(err, nats.ErrNoResponders)) {
			return r, err
		}
		select {
		case <-news:
			pause = resultSoon
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}
