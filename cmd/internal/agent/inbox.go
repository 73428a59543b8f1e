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
}

// inbox receives the requests to the provisioner of a site. They share one
// channel, so requests of different operations stay in the order they were
// sent, and no NATS callback ever waits.
type inbox struct {
	prefix   events.Prefix
	messages chan *nats.Msg
	subs     []*nats.Subscription
	fence    *fence
	log      *slog.Logger
}

// openInbox subscribes. siteToken is a site's token, or "*" for all sites.
func openInbox(nc *nats.Conn, prefix events.Prefix, siteToken string, f *fence, log *slog.Logger) (*inbox, error) {
	in := &inbox{prefix: prefix, messages: make(chan *nats.Msg, inboxSize), fence: f, log: log}
	for _, op := range []string{events.OpProvision, events.OpTerminateNodes, events.OpDumpState} {
		subject := string(prefix) + ".provisioner." + siteToken + "." + op
		sub, err := nc.ChanSubscribe(subject, in.messages)
		if err != nil {
			in.close()
			return nil, fmt.Errorf("agent: subscribe %s: %w", subject, err)
		}
		in.subs = append(in.subs, sub)
	}
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-prune.C:
			p.prune(time.Now().Add(-TombstoneAge))
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
