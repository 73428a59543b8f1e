package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/events"
)

const (
	// leaderWait is how long run_pass waits for a leader (design §3).
	leaderWait = 5 * time.Second
	// passTimeout bounds one pass that was asked for.
	passTimeout = 60 * time.Second
	// leaderPoll is how often run_pass looks for a leader.
	leaderPoll = 100 * time.Millisecond
	// leaderPulse is how often a leader says that a pass is under way.
	leaderPulse = 500 * time.Millisecond
	// leaderSilence is when a leader that has taken a pass counts as lost.
	leaderSilence = 4 * leaderPulse
	// headerPulse marks a message that says no more than that.
	headerPulse = "Epum-Pulse"

	opOrphan  = "orphan"
	opFailure = "failure"
)

// Passes are the names that run_pass takes.
var Passes = []string{"decide", "doctor", "reap"}

type passRequest struct {
	Pass string `json:"pass"`
}

type orphanReport struct {
	NodeID string `json:"node_id"`
	Site   string `json:"site,omitempty"`
}

// runPass asks the leader, whichever process that is.
func (a *API) runPass(ctx context.Context, r *request) ([]byte, error) {
	pass := r.form.Choice("pass", Passes...)
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	body, err := encode(passRequest{pass})
	if err != nil {
		return nil, err
	}
	for leaderless := time.Duration(0); ; leaderless += leaderPoll { // without the time in which a leader was at it
		reply, heard, err := a.askLeader(ctx, body)
		leaderless += time.Since(heard)
		switch {
		case err == nil:
			return reply, nil
		case errors.Is(err, commands.ErrUnavailable) && leaderless < leaderWait:
			// The lead changes hands. A pass that had begun may well run again.
		case !errors.Is(err, nats.ErrNoResponders):
			return nil, err
		case leaderless >= leaderWait:
			return nil, commands.ErrUnavailable.With("there is no leader to run the pass; try again")
		}
		select {
		case <-time.After(leaderPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// askLeader asks whoever leads now, and waits for as long as the leader says that
// it is at it; heard is when it last did, or else when it was asked.
func (a *API) askLeader(ctx context.Context, body []byte) (reply []byte, heard time.Time, err error) {
	heard = time.Now()
	inbox := a.nc.NewInbox()
	sub, err := a.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, heard, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails where the connection is closed, and the subscription with it
	if err := a.nc.PublishRequest(a.conf.Prefix.LeaderCall(OpRunPass), inbox, body); err != nil {
		return nil, heard, err
	}
	for {
		wait, cancel := context.WithTimeout(ctx, leaderSilence)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, heard, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return nil, heard, commands.ErrUnavailable.With("the leader went silent; try again")
		case err != nil:
			return nil, heard, err
		case len(msg.Data) == 0 && msg.Header.Get("Status") == "503":
			return nil, heard, nats.ErrNoResponders
		case msg.Header.Get(headerPulse) != "":
			heard = time.Now()
			continue
		}
		reply, err = replyOf(msg)
		return reply, heard, err
	}
}

// replyOf gives a reply's body, or the *commands.Error that it carries.
func replyOf(msg *nats.Msg) ([]byte, error) {
	if msg.Header.Get(micro.ErrorCodeHeader) == "" {
		return msg.Data, nil
	}
	var body errorBody
	if err := json.Unmarshal(msg.Data, &body); err != nil || body.Error == nil {
		return nil, fmt.Errorf("error reply without a readable body: %s", msg.Header.Get(micro.ErrorHeader))
	}
	return nil, body.Error
}

// LeaderCalls are what only the leader can answer. Run is called from goroutines
// of its own; the others from one each, and must not block.
type LeaderCalls struct {
	Run       func(ctx context.Context, pass string) (PassResult, error)
	Orphan    func(nodeID, site string)        // hears of each orphan reported by any process
	Heartbeat func(nodeID string, body []byte) // hears of each heartbeat of an instance
	// Failure says how a domain's engine failed last, where it has not decided since;
	// nil: it has not failed. Without it no engine ever has.
	Failure func(events.DomainID) *explain.Failure
	Logger  *slog.Logger // nil: slog.Default()
}

// ServeLeader answers the calls that only the leader can: a leader starts it
// with its term and stops it with the term's end, which ends the context of
// passes under way.
func ServeLeader(nc *nats.Conn, prefix events.Prefix, calls LeaderCalls) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	answers := replies{nc, prefix, calls.Logger}
	if answers.log == nil {
		answers.log = slog.Default()
	}
	runs := newSharedRuns(ctx, calls.Run)
	var subs []*nats.Subscription
	stop = func() {
		cancel()
		// What has come already is answered: the term is over. It fails only where
		// the connection is closed, and the subscriptions with it.
		for _, sub := range subs {
			_ = sub.Drain()
		}
	}
	for subject, handle := range map[string]nats.MsgHandler{
		prefix.LeaderCall(OpRunPass): func(msg *nats.Msg) {
			go func() {
				if err := answers.pass(ctx, msg, runs.Run); err != nil {
					_ = answers.refuse(msg.Reply, commands.AsError(err)) // the asker's time-out covers a lost reply
				}
			}()
		},
		prefix.LeaderCall(opOrphan):  calls.orphan,
		prefix.LeaderCall(opFailure): func(msg *nats.Msg) { answers.failure(msg, calls.Failure) },
		prefix.AllHeartbeats(): func(msg *nats.Msg) {
			if nodeID, ok := prefix.HeartbeatNode(msg.Subject); ok && ctx.Err() == nil {
				calls.Heartbeat(nodeID, msg.Data)
			}
		},
	} {
		sub, err := nc.Subscribe(subject, func(msg *nats.Msg) {
			if !events.Copied(msg.Header) {
				handle(msg)
			}
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		subs = append(subs, sub)
		if err := sub.SetPendingLimits(pendingMsgs, pendingBytes); err != nil {
			stop()
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		stop()
		return nil, fmt.Errorf("start to answer as the leader: %w", err)
	}
	return stop, nil
}

// orphan hears of an orphan.
func (c *LeaderCalls) orphan(msg *nats.Msg) {
	var o orphanReport
	if json.Unmarshal(msg.Data, &o) == nil && events.CheckName(o.NodeID) == nil && (o.Site == "" || events.CheckName(o.Site) == nil) {
		c.Orphan(o.NodeID, o.Site)
	}
}

// pass runs a pass and answers with its result.
func (r replies) pass(ctx context.Context, msg *nats.Msg, run func(context.Context, string) (PassResult, error)) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	var request passRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		return commands.ErrBadRequest.With("the request is not valid JSON")
	}
	stopPulse := r.pulse(msg.Reply)
	result, err := run(ctx, request.Pass)
	stopPulse()
	if errors.Is(err, context.Canceled) {
		return events.ErrDeposed // the term has ended
	}
	if err != nil {
		return err
	}
	body, err := encode(result)
	if err != nil {
		return err
	}
	return r.send(msg.Reply, &nats.Msg{Data: body})
}

// pulse says at once, and until stop, that a pass is under way.
func (r replies) pulse(to string) (stop func()) {
	ended := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(leaderPulse)
		defer tick.Stop()
		for r.allowed(to) {
			if err := r.send(to, &nats.Msg{Header: nats.Header{headerPulse: {"1"}}}); err != nil {
				return // the connection is closed
			}
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	return func() { close(ended); beating.Wait() }
}

// ReportOrphan gives the hook that tells the leader of orphans, for
// commands.Reporter. Where there is no leader the report is lost; the orphan's
// next one comes through.
func ReportOrphan(nc *nats.Conn, prefix events.Prefix) func(nodeID, site string) {
	return func(nodeID, site string) {
		body, err := encode(orphanReport{NodeID: nodeID, Site: site})
		if err == nil {
			_ = nc.Publish(prefix.LeaderCall(opOrphan), body) // lost like one without a leader
		}
	}
}
