package tests

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// sabotage runs a scenario with the ordinary program, in whose log the checker
// must find nothing, and with one that leaves something out, in whose log it must
// find what that leads to.
func sabotage(t *testing.T, what string, scenario func(*crew), want string) {
	t.Parallel()
	run := func(t *testing.T, program func() (string, error), env ...string) []string {
		t.Parallel()
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		c := &crew{fleet: newFleet(t, 1), path: path, env: env}
		c.epum = c.connect()
		scenario(c)
		return checkLog(c.log(), expectations{attempts: c.attempts})
	}
	t.Run("ordinary", func(t *testing.T) {
		if findings := run(t, binary, "EPUM_SABOTAGE="+what); len(findings) > 0 {
			t.Errorf("findings:\n%s", strings.Join(findings, "\n"))
		}
	})
	t.Run("sabotaged", func(t *testing.T) {
		findings := run(t, sabotaged, "EPUM_SABOTAGE="+what)
		t.Logf("findings:\n%s", strings.Join(findings, "\n"))
		if !slices.ContainsFunc(findings, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("no finding %q", want)
		}
	})
	t.Run("the switch off", func(t *testing.T) {
		if findings := run(t, sabotaged); len(findings) > 0 {
			t.Errorf("findings:\n%s", strings.Join(findings, "\n"))
		}
	})
}

// crew is a fleet of one build, and what was attempted with it.
type crew struct {
	*fleet
	*epum
	path     string
	env      []string
	attempts []*attempt
}

// join starts the service on one more node.
func (c *crew) join(flags ...string) *node {
	c.epum.t.Helper()
	return c.node(c.path, c.env, flags...)
}

// note makes an attempt and remembers it.
func (c *crew) note(id, token string, cmd commands.Command) *attempt {
	a := &attempt{cmd: cmd, caller: "al", id: id, token: token}
	c.attempts = append(c.attempts, a)
	return a
}

// must carries out a command that has to work.
func (c *crew) must(id, token string, cmd commands.Command) {
	c.epum.t.Helper()
	a := c.note(id, token, cmd)
	eventually(c.epum.t, a.String(), func() bool { // also where a cluster does not know of the service yet
		a.send(c.nc, patience)
		return a.outcome == acknowledged || a.why != nats.ErrNoResponders.Error()
	})
	if a.outcome != acknowledged {
		c.epum.t.Fatalf("%s: %s", a, a.why)
	}
}

// define adds the definition d.
func (c *crew) define() {
	c.epum.t.Helper()
	c.must("", "tok-al-1", commands.AddDefinition{DefinitionID: "d", Definition: tokened(0, "tok-al-1")})
}

// TestSabotage_NoFence holds a leader's batch until another leads and has
// appended. Nothing but the fence stands in the way of that batch then.
func TestSabotage_NoFence(t *testing.T) {
	sabotage(t, "no-fence", func(c *crew) {
		first := c.join("--external_decide", "--record_reaping_max_age", "0s")
		c.define()
		c.must("", "tok-al-2", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: tokened(1, "tok-al-2")})
		epoch := c.leader().Epoch
		c.decide()
		c.reportState("al", "web", c.describe("al", "web").Instances[0].InstanceID, events.Failed)

		held := first.wire.hold("HPUB epum.event.", "Nats-Batch-Commit")
		ctx := c.ctx()
		go func() { // more than once: the leader's clock may be behind the log's, so that nothing is old yet
			for ctx.Err() == nil && !held.isSprung() {
				_, _ = c.as("al").RunPass(ctx, "reap")
			}
		}()
		await(c.epum.t, "the batch is on its way", held.sprung)
		c.join() // it decides by itself, and reaps nothing
		eventually(c.epum.t, "the next leader has appended", func() bool {
			return last(c.log()).epoch() > epoch
		})
		held.release()
		c.soon(func() bool { return last(c.log()).epoch() == epoch })
	}, "the last election was at")
}

// TestSabotage_NoGuard holds a domain's adding until another process has added it.
func TestSabotage_NoGuard(t *testing.T) {
	sabotage(t, "no-guard", func(c *crew) {
		first := c.join()
		c.define()
		held := first.wire.hold("HPUB epum.event.domain.al.web ")
		a := c.note("", "tok-al-2", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: tokened(1, "tok-al-2")})
		done := make(chan struct{})
		go func() { defer close(done); a.send(c.nc, patience) }()
		await(c.epum.t, "the first one is on its way", held.sprung)
		c.join()
		b := c.note("again", "tok-al-3", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: tokened(1, "tok-al-3")})
		eventually(c.epum.t, "the second process takes the command", func() bool {
			b.send(c.nc, 200*time.Millisecond)
			return b.outcome != unknown
		})
		held.release()
		await(c.epum.t, "the first one is answered", done)
	}, "the domain is there")
}

// TestSabotage_Redecide loses the answer to a command's event.
func TestSabotage_Redecide(t *testing.T) {
	sabotage(t, "redecide", func(c *crew) {
		first := c.join()
		c.define()
		lost := first.wire.lose("HPUB epum.event.domain.al.web ")
		c.must("once", "tok-al-2", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: tokened(1, "tok-al-2")})
		await(c.epum.t, "an answer is lost", lost.sprung)
	}, "(id \"once\", tok-al-2) is at [")
}

func last(log []logged) logged { return log[len(log)-1] }

// soon waits a while for something that a build that works never does.
func (e *epum) soon(happens func() bool) {
	for deadline := time.Now().Add(time.Second); !happens() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}
