package tests

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

var (
	soakFor  = flag.Duration("soak", 3*time.Second, "how long TestSoak breaks things; give -timeout more")
	soakSeed = flag.Uint64("seed", 0, "seed of what TestSoak does and breaks; 0: a new one")

	natsServers = flag.Int("servers", 1, "how many NATS servers TestSoak has: 1, or 3 with as many copies of everything")
)

// soak is a fleet of three processes that is used and broken at random.
type soak struct {
	*fleet
	*epum
	cloud     *cloud
	follower  *follower
	clients   []*client
	leavers   []*leaver
	attacker  *attacker
	saboteurs []*saboteur
	blackouts int
	findings  []string
}

// TestSoak mixes random commands, reports and heartbeats with random faults,
// makes all whole again, waits until it is quiet, and then judges by the raw log,
// the bucket and the cloud:
//
//	go test ./tests -run Soak -v -soak 10m -timeout 30m [-servers 3] [-seed n]
//
// The seed fixes who does what and what breaks, in which order; not the timing.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	s := newSoak(t, seed)
	stop := make(chan struct{})
	var minding sync.WaitGroup
	minding.Go(func() { s.mind(stop) })
	t.Cleanup(func() { close(stop); minding.Wait() })

	ctx, cancel := context.WithTimeout(context.Background(), *soakFor)
	defer cancel()
	var work sync.WaitGroup
	for _, c := range s.clients {
		work.Go(func() { c.run(ctx) })
	}
	for _, l := range s.leavers {
		work.Go(func() { l.run(ctx) })
	}
	for _, b := range s.saboteurs {
		work.Go(func() { b.run(ctx) })
	}
	work.Go(func() { s.attacker.run(ctx, newAttackScript(seed)) })
	work.Go(func() { s.cloud.weather(ctx, newStormScript(seed)) })
	work.Go(func() { s.blackouts = s.fleet.blackouts(ctx, newFaultScript(seed, 4, 20*time.Second)) })
	work.Wait()

	began := time.Now()
	s.cloud.settle()
	s.settled(s.epum)
	s.quiet()
	t.Logf("all is well %s after the last fault", time.Since(began).Round(time.Millisecond))
	s.judge()
	s.count()
	if len(s.findings) > 0 {
		t.Errorf("-seed %d, findings:\n%s", seed, strings.Join(s.findings, "\n"))
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{fleet: newFleet(t, *natsServers)}
	s.epum = s.connect()
	s.follower = s.follow()
	s.cloud = newCloud(t, s.connect(), seed)
	for n := range 3 {
		node := s.node(path, nil, "--retry_interval", "500ms", "--decider_loop_interval", "1s", "--doctor_interval", "500ms",
			"--reaper_interval", "1s", "--record_reaping_max_age", "5s")
		s.saboteurs = append(s.saboteurs, s.saboteur(node, newFaultScript(seed, n, 5*time.Second)))
	}
	s.saboteurs = append(s.saboteurs, s.saboteur(nil, newFaultScript(seed, 3, 12*time.Second)))
	for n, caller := range []string{"al", "al", "bo", "bo", "cy", "cy"} {
		s.clients = append(s.clients, &client{
			script: newScript(seed, caller, fmt.Sprint(caller, n), n), nc: s.connect().nc, added: map[string]uint64{},
		})
	}
	for n, caller := range []string{"al", "bo", "cy", "di"} {
		s.leavers = append(s.leavers, &leaver{
			script: newScript(seed, caller, fmt.Sprint(caller, "d"), 100+n), fleet: s.fleet, nc: s.connect().nc,
		})
	}
	s.attacker = newAttacker(s)
	c := s.clients[0]
	c.command(context.Background(), step{
		token: "tok-base-1", cmd: commands.AddDefinition{DefinitionID: baseDefinition, Definition: tokened(1, "tok-base-1")},
	})
	return s
}

func (s *soak) saboteur(n *node, script *faultScript) *saboteur {
	return &saboteur{fleet: s.fleet, node: n, script: script, counts: map[string]int{}}
}

// soakPatience is how long all may take to be well again: launches that failed
// are tried again after up to a minute.
const soakPatience = 100 * time.Second

// quiet waits until what the log wants is what there is.
func (s *soak) quiet() {
	deadline := time.Now().Add(soakPatience)
	wrong := s.unwell()
	for ; wrong != "" && time.Now().Before(deadline); wrong = s.unwell() {
		time.Sleep(200 * time.Millisecond)
	}
	if wrong != "" {
		s.findings = append(s.findings, fmt.Sprintf("%s: after %s: %s", findOutcome, soakPatience, wrong))
	}
}

// unwell says what there still is to wait for; "": nothing.
func (s *soak) unwell() string {
	for _, n := range s.nodes {
		if !n.waitReady(0) {
			return n.name + " is not ready"
		}
	}
	var wrong []string
	if what := s.waits(); what != "" {
		wrong = append(wrong, what)
	}
	state, wanted := s.follower.read(), []string{}
	for d := range state.Domains() {
		if d.Removed {
			wrong = append(wrong, fmt.Sprintf("%v is not gone", d.ID))
			continue
		}
		var conf struct {
			PreserveN int `json:"preserve_n"`
		}
		if err := json.Unmarshal(d.Config.EngineConf, &conf); err != nil {
			return err.Error()
		}
		run := 0
		for _, i := range state.Instances(d.ID) {
			if i.Valid() && i.State == events.Running {
				run++
				wanted = append(wanted, i.ID)
			} else if !i.State.Terminal() {
				wrong = append(wrong, fmt.Sprintf("%v: %s is %s", d.ID, i.ID, i.State))
			}
		}
		if run != conf.PreserveN {
			wrong = append(wrong, fmt.Sprintf("%v: %d run, %d are wanted", d.ID, run, conf.PreserveN))
		}
	}
	slices.Sort(wanted)
	if live, _ := s.cloud.living(); !slices.Equal(live, wanted) {
		wrong = append(wrong, fmt.Sprintf("%d vms live, %d are wanted", len(live), len(wanted)))
	}
	return strings.Join(wrong, "; ")
}

// judge collects the findings.
func (s *soak) judge() {
	expect := expectations{reports: s.cloud.tokens, foreign: s.attacker.foreign}
	for _, c := range s.clients {
		s.findings = append(s.findings, c.findings...)
		expect.attempts = append(expect.attempts, c.attempts...)
		expect.readings = append(expect.readings, c.readings...)
	}
	s.findings = append(s.findings, s.attacker.findings...)
	commands := s.judgeInbox()
	for _, c := range commands {
		expect.attempts = append(expect.attempts, c.attempt)
	}
	if diff := s.quietBucketDiff(); diff != "" {
		s.findings = append(s.findings, findFold+": the bucket is another (-fold +bucket):\n"+diff)
	}
	log := s.log()
	s.findings = append(s.findings, s.otherwise(log)...)
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	s.findings = append(s.findings, checkLog(log, expect)...)
	asked := map[string]bool{}
	for _, l := range log {
		_, name, _ := l.key.Parts()
		asked[name] = asked[name] || l.typ() == events.TypeLaunchRequested
	}
	for id, v := range s.cloud.vms {
		if v.launches > 0 && !asked[id] {
			s.findings = append(s.findings, findOutcome+": the log never asked for vm "+id)
		}
	}
}

// judgeInbox collects the findings in what was left in the inbox, and gives the
// commands with what came of them.
func (s *soak) judgeInbox() (all []*left) {
	for _, l := range s.leavers {
		all = append(all, l.left...)
	}
	outcomes, ever := s.outcomes()
	s.findings = append(s.findings, resolve(all, outcomes)...)
	s.findings = append(s.findings, checkDurable(all, s.attacker.outcomes, outcomes, ever)...)
	s.findings = append(s.findings, checkDead(s.attacker.letters, s.deadLetters())...)
	return all
}

// quietBucketDiff is bucketDiff of a log that has not moved meanwhile: the reaper
// goes on.
func (s *soak) quietBucketDiff() (diff string) {
	eventually(s.epum.t, "the log is quiet", func() bool {
		s.projected()
		before := s.fold().Seq
		diff = s.bucketDiff()
		return s.fold().Seq == before
	})
	return diff
}

// count prints one line of what there was.
func (s *soak) count() {
	outcomes, reasons, reads, failed := map[outcome]int{}, map[string]int{}, 0, 0
	for _, c := range s.clients {
		for _, a := range c.attempts {
			outcomes[a.outcome]++
			if why, _, _ := strings.Cut(a.why, ":"); why != "" {
				reasons[why]++
			}
		}
		reads += len(c.readings)
		failed += c.failed
	}
	faults, list := map[string]int{}, []string{}
	total := 0
	for _, b := range s.saboteurs {
		for kind, n := range b.counts {
			faults[kind] += n
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(faults)) {
		if kind != "sprung" {
			total += faults[kind]
		}
		list = append(list, fmt.Sprintf("%s %d", kind, faults[kind]))
	}
	_, odd := s.cloud.living()
	for _, o := range odd {
		s.findings = append(s.findings, findDoubled+": "+o)
	}
	log := s.log()
	s.epum.t.Log(s.countInbox(log))
	s.epum.t.Logf("soak %s: commands: %d acknowledged, %d refused, %d unknown %v; reads: %d answered, %d failed; reports %d; heartbeats %d; "+
		"faults %d (%s); exits %d; elections %d; events %d; findings %d: lost %d, doubled %d",
		*soakFor, outcomes[acknowledged], outcomes[refused], outcomes[unknown], reasons, reads, failed, s.cloud.reports.Load(), s.cloud.beats.Load(),
		total, strings.Join(list, ", "), s.exits.Load(), countTypes(log, events.TypeLeaderElected), len(log), len(s.findings),
		countFindings(s.findings, findLost), countFindings(s.findings, findDoubled))
}

// countInbox says what was left in the inbox, what was hostile, and what the weather
// was like.
func (s *soak) countInbox(log []logged) string {
	left, taken, dark, outcomes := 0, 0, 0, map[outcome]int{}
	for _, l := range s.leavers {
		dark += l.dark
		for _, c := range l.left {
			left++
			taken += len(c.taken)
			outcomes[c.outcome]++
		}
	}
	hostile, kinds, foreign, replaced, dead := 0, []string{}, 0, 0, 0
	for _, kind := range slices.Sorted(maps.Keys(s.attacker.counts)) {
		hostile += s.attacker.counts[kind]
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, s.attacker.counts[kind]))
	}
	for _, l := range log {
		if launch, ok := l.decode().(events.LaunchRequested); ok && launch.Replaces != "" {
			replaced++
		} else if isForeign(l) {
			foreign++
		}
	}
	for _, n := range s.deadLetters() {
		dead += n
	}
	return fmt.Sprintf("durable: %d published (%d taken, %d while no process was up), %d carried out, %d refused, %d unknown; "+
		"hostile: %d sent (%s), %d foreign messages, %d dead letters; storms %d, %d launches in the place of the ill; blackouts %d",
		left, taken, dark, outcomes[acknowledged], outcomes[refused], outcomes[unknown],
		hostile, strings.Join(kinds, ", "), foreign, dead, s.cloud.stormy, replaced, s.blackouts)
}

func countTypes(log []logged, typ string) (n int) {
	for _, l := range log {
		if l.typ() == typ {
			n++
		}
	}
	return n
}

// TestSoak_Seed has the seed fix what is done and what breaks.
func TestSoak_Seed(t *testing.T) {
	t.Parallel()
	plan := func(seed uint64) (plan string) {
		commands, faults := newScript(seed, "al", "al0", 0), newFaultScript(seed, 0, time.Second)
		attacks, storms := newAttackScript(seed), newStormScript(seed)
		for range 200 {
			plan += fmt.Sprintf("%+v %+v %+v %+v\n", commands.next(), faults.next(false), attacks.next(), storms.next())
		}
		return plan
	}
	if first, again := plan(1), plan(1); first != again || first == plan(2) {
		t.Error("the plan does not follow the seed")
	}
}
