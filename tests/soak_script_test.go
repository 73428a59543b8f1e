package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// baseDefinition is a definition that is always there.
const baseDefinition = "base"

// script makes up what one client does, one step after the other, from a seed
// alone: it never looks at what came of a step.
type script struct {
	*rand.Rand
	caller string
	client string // no other's
	steps  int
	there  map[string]bool // domains that are there if all went well
}

func newScript(seed uint64, caller, client string, n int) *script {
	return &script{Rand: rand.New(rand.NewPCG(seed, uint64(n))), caller: caller, client: client, there: map[string]bool{}}
}

// step is a command, or a read where cmd is nil.
type step struct {
	pause  time.Duration // before it
	cmd    commands.Command
	id     string // command id; "": none
	token  string // in the command; "": it has no room for one
	twice  bool   // send it again although it was answered
	domain string // to be described; "": list
}

func (s *script) next() step {
	s.steps++
	st := step{pause: s.between(0, 100*time.Millisecond), twice: s.IntN(10) == 0}
	token := fmt.Sprintf("tok-%s-%d", s.client, s.steps)
	domain, definition := s.domain(), fmt.Sprint(s.caller, s.IntN(2))
	if s.IntN(2) == 0 {
		st.id = fmt.Sprintf("%s-%d", s.client, s.steps)
	}
	st.token = token
	switch n := s.IntN(100); {
	case n < 40 && (!s.there[domain] || s.IntN(6) == 0): // it may have failed
		if s.IntN(10) > 0 {
			definition = baseDefinition
		}
		s.there[domain] = true
		st.cmd = commands.AddDomain{DomainID: domain, DefinitionID: definition, Config: s.config(token)}
	case n < 40:
		st.cmd = commands.ReconfigureDomain{DomainID: domain, Config: s.config(token)}
	case n < 48:
		st.cmd = commands.SubscribeDomain{DomainID: domain, SubscriberName: fmt.Sprint("s", s.IntN(3)), SubscriberOp: token}
	case n < 53:
		st.token = ""
		st.cmd = commands.UnsubscribeDomain{DomainID: domain, SubscriberName: fmt.Sprint("s", s.IntN(3))}
	case n < 61:
		st.token = ""
		delete(s.there, domain)
		st.cmd = commands.RemoveDomain{DomainID: domain}
	case n < 66:
		st.cmd = commands.UpdateDefinition{DefinitionID: baseDefinition, Definition: tokened(s.IntN(3), token)}
	case n < 71:
		st.cmd = commands.AddDefinition{DefinitionID: definition, Definition: tokened(s.IntN(3), token)}
	case n < 74:
		st.token = ""
		st.cmd = commands.RemoveDefinition{DefinitionID: definition}
	case n < 92:
		st.domain = domain
	default: // list
	}
	return st
}

// domain is one of this client's own, or of those that it shares with others of
// its caller; mostly one that should be there.
func (s *script) domain() string {
	names := []string{"shared0", "shared1", s.client + "0", s.client + "1", s.client + "2"}
	if there := slices.Sorted(maps.Keys(s.there)); len(there) > 0 && s.IntN(3) > 0 {
		names = there
	}
	return names[s.IntN(len(names))]
}

// config wants up to four instances, seldom up to ten; in half of the configs their
// health is looked after.
func (s *script) config(token string) events.Config {
	n := s.IntN(5)
	if s.IntN(6) == 0 {
		n += 6
	}
	c := events.Config{EngineConf: fmt.Appendf(nil, `{"preserve_n":%d,"force_site":%q,"provisioner_vars":{"token":%q}}`,
		n, soakSites[s.IntN(len(soakSites))], token)}
	if s.IntN(2) == 0 {
		c.General = fmt.Appendf(nil, `{"max_unhealthy_fraction":%g}`, []float64{0, 0.25, 0.7, 1}[s.IntN(4)])
	}
	c.Health = json.RawMessage(fmt.Sprintf(
		`{"monitor_health":%t,"boot_timeout":5,"missing_timeout":3,"really_missing_timeout":1.5,"zombie_seconds":1}`, s.IntN(2) == 0))
	return c
}

func (s *script) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.Int64N(int64(most-least)))
}

// fault is one thing that goes wrong for a while.
type fault struct {
	pause time.Duration // before it
	kind  string
	lasts time.Duration
}

// The faults of a node; each is followed by its being whole again.
var nodeFaults = []struct {
	kind        string
	least, most time.Duration // how long it lasts
}{
	{"kill", 0, 2 * time.Second},
	{"kill", 0, 200 * time.Millisecond},
	{"term", 0, time.Second},
	{"freeze", 100 * time.Millisecond, 700 * time.Millisecond},
	{"freeze long", 1500 * time.Millisecond, 5 * time.Second},
	{"cut", 0, 100 * time.Millisecond},
	{"cut", 500 * time.Millisecond, 3 * time.Second},
	{"black hole", 500 * time.Millisecond, 6 * time.Second},
	{"deaf", 500 * time.Millisecond, 4 * time.Second},
	{"mute", 500 * time.Millisecond, 4 * time.Second},
	{"slow", 500 * time.Millisecond, 2 * time.Second},
	{"hold batch", 500 * time.Millisecond, 4 * time.Second},
	{"hold event", 500 * time.Millisecond, 4 * time.Second},
	{"lose batch answer", time.Second, 3 * time.Second},
	{"lose event answer", time.Second, 3 * time.Second},
}

// serverFaults are those of the NATS server.
var serverFaults = []struct {
	kind        string
	least, most time.Duration
}{
	{"server kill", 0, 1500 * time.Millisecond},
	{"server freeze", 300 * time.Millisecond, 4 * time.Second},
}

// faultScript makes up what goes wrong at one place, from a seed alone.
type faultScript struct {
	script
	calm time.Duration // between faults, at most
}

func newFaultScript(seed uint64, n int, calm time.Duration) *faultScript {
	return &faultScript{script: *newScript(seed, "", "", 1000+n), calm: calm}
}

func (s *faultScript) next(server bool) fault {
	kinds := nodeFaults
	if server {
		kinds = serverFaults
	}
	k := kinds[s.IntN(len(kinds))]
	return fault{pause: s.between(s.calm/8, s.calm), kind: k.kind, lasts: s.between(k.least, k.most)}
}
