package tests

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// client follows a script and notes what it is told.
type client struct {
	*script
	nc *nats.Conn

	attempts []*attempt
	readings []reading
	findings []string
	acked    uint64            // the highest sequence acknowledged
	added    map[string]uint64 // its domains → where their adding was acknowledged
	failed   int               // reads
}

// How long a client waits for one answer, and how often it repeats a command
// with an id: the log remembers ids for two minutes.
const (
	hasty   = 800 * time.Millisecond // sooner than a process gives up
	calmly  = 3 * time.Second
	repeats = 10
)

func (c *client) run(ctx context.Context) {
	for {
		st := c.next()
		switch {
		case !pauseFor(ctx, st.pause):
			return
		case st.cmd != nil:
			c.command(ctx, st)
		case st.domain != "":
			c.describe(st.domain)
		default:
			c.list()
		}
	}
}

func (c *client) command(ctx context.Context, st step) {
	a := &attempt{cmd: st.cmd, caller: c.caller, id: st.id, token: st.token}
	c.attempts = append(c.attempts, a)
	if a.id == "" {
		a.send(c.nc, calmly)
	} else {
		for n := 0; n < repeats && a.outcome == unknown; n++ {
			a.send(c.nc, hasty)
			if a.outcome == unknown && !pauseFor(ctx, 200*time.Millisecond) {
				break
			}
		}
	}
	if a.outcome != acknowledged {
		return
	}
	c.acked = max(c.acked, a.seq)
	if add, ok := a.cmd.(commands.AddDomain); ok {
		c.added[add.DomainID] = a.seq
	}
	if again := *a; st.twice && a.id != "" {
		again.open = false
		again.send(c.nc, hasty)
		if again.outcome == refused && again.why != nats.ErrNoResponders.Error() || again.outcome == acknowledged && again.seq != a.seq {
			c.findings = append(c.findings, fmt.Sprintf("%s: %s: acknowledged at %d, its repeat: %d %s", findDoubled, a, a.seq, again.seq, again.why))
		}
	}
}

func (c *client) api() *natsapi.Client {
	return natsapi.NewClient(c.nc, events.DefaultPrefix, c.caller)
}

func (c *client) describe(domain string) {
	ctx, cancel := context.WithTimeout(context.Background(), hasty)
	defer cancel()
	r := reading{caller: c.caller, domain: domain, acked: c.acked}
	doc, err := c.api().DescribeDomain(ctx, domain, "", 0)
	switch {
	case err == nil:
		r.asOf, r.doc = doc.AsOf.Seq, doc
	case isNotFound(err):
		r.added = maps.Clone(c.added)
	default:
		c.failed++
		return
	}
	c.readings = append(c.readings, r)
}

func (c *client) list() {
	ctx, cancel := context.WithTimeout(context.Background(), hasty)
	defer cancel()
	r := reading{caller: c.caller, added: maps.Clone(c.added)}
	var err error
	if r.names, _, err = c.api().ListDomains(ctx, "", 0); err != nil {
		c.failed++
		return
	}
	c.readings = append(c.readings, r)
}
