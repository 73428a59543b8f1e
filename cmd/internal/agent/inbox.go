package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	inboxSize    = 8192            // requests; what comes on top is dropped, and sent again by the leader
	flushTimeout = 2 * time.Second // how long Open waits for the server to know of the subscriptions
	pruneEvery   = time.Hour       // a small part of TombstoneAge
)

// provisioner is what the requests to a site ask for. The methods are called
// one at a time, must not block, and get plain names.
type provisioner interface {
	provision(ctx context.Context, site, id string, req events.ProvisionRequest)
	terminate(ctx context.Context, site, id string)
	dump(ctx context.Context, site, id string)
	prune(before time.Time)

	// answer sends a heartbeat of every live instance of the sites, at once.
	answer(ctx context.Context, sites map[string]bool)
}

// inbox receives the requests to the provisioner of a site, and what the OU
// agent of its instances is asked for. The requests share one channel, so those
// of different operations stay in the order they were sent, and no NATS callback
// ever waits.
type inbox struct {
	prefix   events.Prefix
	messages chan *nats.Msg
	asks     *asks
	subs     []*nats.Subscription
	fence    *fence
	log      *slog.Logger
}

// openInbox subscribes for one site, or for all sites where site is "".
func openInbox(nc *nats.Conn, prefix events.Prefix, site string, f *fence, log *slog.Logger) (*inbox, error) {
	in := &inbox{prefix: prefix, messages: make(chan *nats.Msg, inboxSize), asks: newAsks(prefix), fence: f, log: log}
	siteToken, asked := "*", string(prefix)+".ouagent.*."+events.OpDumpState
	if site != "" {
		siteToken, asked = events.Token(site), prefix.OUAgent(addressPrefix+site)
	}
	for _, op := range []string{events.OpProvision, events.OpTerminateNodes, events.OpDumpState} {
		subject := string(prefix) + ".provisioner." + siteToken + "." + op
		sub, err := nc.ChanSubscribe(subject, in.messages)
		if err != nil {
			in.close()
			return nil, fmt.Errorf("agent: subscribe %s: %w", subject, err)
		}
		in.subs = append(in.subs, sub)
	}
	sub, err := nc.Subscribe(asked, in.asks.heard)
	if err != nil {
		in.close()
		return nil, fmt.Errorf("agent: subscribe %s: %w", asked, err)
	}
	in.subs = append(in.subs, sub)
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		log.Warn("server not reached yet", "error", err)
	}
	return in, nil
}

func (in *inbox) close() {
	for _, sub := range in.subs {
		_ = sub.Unsubscribe() // fails only where the connection has gone, and the subscription with it
	}
}

// serve hands the requests to p until ctx is done, then unsubscribes.
func (in *inbox) serve(ctx context.Context, p provisioner) {
	defer in.close()
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	p.prune(time.Now().Add(-TombstoneAge))
	asked, pause := in.asks.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-prune.C:
			p.prune(time.Now().Add(-TombstoneAge))
		case <-asked:
			p.answer(ctx, in.asks.take())
			asked, pause = nil, time.After(asksPause)
		case <-pause:
			asked, pause = in.asks.wake, nil
		case msg := <-in.messages:
			if err := in.take(ctx, msg, p); err != nil {
				in.log.Warn("request refused", "subject", msg.Subject, "error", err)
			}
		}
	}
}

func (in *inbox) take(ctx context.Context, msg *nats.Msg, p provisioner) error {
	token, op, _ := strings.Cut(strings.TrimPrefix(msg.Subject, string(in.prefix)+".provisioner."), ".")
	site, err := events.ParseToken(token)
	if err != nil {
		return err
	}
	if err := in.fence.admit(msg.Header); err != nil {
		return err
	}
	switch op {
	case events.OpProvision:
		var req events.ProvisionRequest
		return each(msg.Data, &req, &req.InstanceIDs, func(id string) { p.provision(ctx, site, id, req) })
	case events.OpTerminateNodes:
		var req events.TerminateRequest
		return each(msg.Data, &req, &req.Nodes, func(id string) { p.terminate(ctx, site, id) })
	default:
		var req events.DumpStateRequest
		return each(msg.Data, &req, &req.Nodes, func(id string) { p.dump(ctx, site, id) })
	}
}

// each decodes a request and calls do for each id in it, if all are names.
func each(body []byte, req any, ids *[]string, do func(id string)) error {
	if err := json.Unmarshal(body, req); err != nil {
		return err
	}
	for _, id := range *ids {
		if err := events.CheckName(id); err != nil {
			return err
		}
	}
	for _, id := range *ids {
		do(id)
	}
	return nil
}
