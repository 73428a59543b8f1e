package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/events"
)

// leaderAnswer is how long an explanation waits for the leader, or for the samples.
const leaderAnswer = time.Second

// failureQuestion asks the leader how a domain's engine failed last.
type failureQuestion struct {
	Owner    string `json:"owner"`
	DomainID string `json:"domain_id"`
}

// failureAnswer is what it says.
type failureAnswer struct {
	Failure *explain.Failure `json:"failure"` // nil: it has not failed since it last decided
}

// askFailure asks the leader, whichever process that is: failures are in no log.
func (a *API) askFailure(ctx context.Context, id events.DomainID) (explain.Leading, *explain.Failure) {
	body, err := encode(failureQuestion{Owner: id.Owner, DomainID: id.Name})
	if err != nil {
		return explain.LeaderSilent, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderAnswer)
	defer cancel()
	msg, err := a.nc.RequestWithContext(ctx, a.conf.Prefix.LeaderCall(opFailure), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return explain.LeaderNone, nil
	}
	var answer failureAnswer
	if err == nil {
		body, err = replyOf(msg)
	}
	if err != nil || json.Unmarshal(body, &answer) != nil {
		return explain.LeaderSilent, nil
	}
	return explain.LeaderThere, answer.Failure
}

// failure answers that as the leader. It does not block; the asker's time-out covers a
// lost reply.
func (r replies) failure(msg *nats.Msg, of func(events.DomainID) *explain.Failure) {
	var q failureQuestion
	if json.Unmarshal(msg.Data, &q) != nil {
		_ = r.refuse(msg.Reply, commands.ErrBadRequest.With("the request is not valid JSON"))
		return
	}
	var answer failureAnswer
	if of != nil {
		answer.Failure = of(events.DomainID{Owner: q.Owner, Name: q.DomainID})
	}
	if body, err := encode(answer); err == nil {
		_ = r.send(msg.Reply, &nats.Msg{Data: body})
	}
}
