package tests

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// faults chooses the cases of the fault tables.
var faults = flag.String("faults", "", `cases of the fault tables: "" for a handful, "all" for the whole tables`)

// point is a moment in a domain's life at which a fault hits the leader.
type point string

// The points. "Before" a command or a report means that it is sent into the
// fault, "after" that the fault waits for its acknowledgement. Before a launch or
// a termination the fault hits when the leader's batch is heard on its way to the
// log, so it may land or not and its answer is lost; after it, when the
// provisioner hears the first request.
const (
	beforeAdd         point = "before add"
	afterAdd          point = "after add"
	beforeLaunch      point = "before launch"
	afterLaunch       point = "after launch"
	beforeReport      point = "before report"
	afterReport       point = "after report" // the inbox has it
	beforeReconfigure point = "before reconfigure"
	afterReconfigure  point = "after reconfigure"
	beforeRemove      point = "before remove"
	afterRemove       point = "after remove"
	beforeTerminate   point = "before terminate"
	afterTerminate    point = "after terminate"
)

var points = []point{
	beforeAdd, afterAdd, beforeLaunch, afterLaunch, beforeReport, afterReport,
	beforeReconfigure, afterReconfigure, beforeRemove, afterRemove, beforeTerminate, afterTerminate,
}

// handful are the cases that always run, of one server and of a cluster.
var (
	handful        = []string{"killed_after_launch", "terminated_before_report", "paused_before_launch", "cut_off_before_terminate", "severed_after_report"}
	clusterHandful = []string{"paused_before_launch"}
)

// TestFailover_OneServer hits the leader of three processes on one server.
func TestFailover_OneServer(t *testing.T) {
	t.Parallel()
	server := newNATS(t, natsOptions{}).start().ready()
	faultTable(t, &backend{servers: []*natsServer{server}, replicas: 1, lease: time.Second}, handful)
}

// TestFailover_Cluster does so on three servers with three copies of everything.
func TestFailover_Cluster(t *testing.T) {
	t.Parallel()
	faultTable(t, newCluster(t).backend(), clusterHandful)
}

func faultTable(t *testing.T, b *backend, handful []string) {
	var cases []testCase
	for _, p := range points {
		for _, k := range kinds {
			cases = append(cases, testCase{k.name + " " + string(p), func(t *testing.T) { newCell(t, b).life(k, p) }})
		}
	}
	runChosen(t, cases, handful)
}

// testCase is one case of a table of faults.
type testCase struct {
	name string
	run  func(*testing.T)
}

// runChosen runs the cases that the flag chooses, at once as far as the machine
// can, and says how many it leaves out.
func runChosen(t *testing.T, cases []testCase, handful []string) {
	t.Helper()
	if *faults != "" && *faults != "all" {
		t.Fatalf("-faults %q: all, or nothing", *faults)
	}
	ran := 0
	for _, c := range cases {
		if *faults == "" && !slices.Contains(handful, strings.ReplaceAll(c.name, " ", "_")) {
			continue
		}
		ran++
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
	if *faults == "" && ran != len(handful) {
		t.Errorf("%d of the %d cases that always run are there", ran, len(handful))
	}
	t.Logf("%d of %d cases; -faults all runs the rest", ran, len(cases))
}

// blow is a fault that is to hit at a point; nil: none is.
type blow struct {
	f     *cell
	fault *leaderFault
	point point
}

// life is the life of a domain, with one fault in it. Its outcome is that of a
// life without.
func (f *cell) life(k kind, hitAt point) {
	f.t.Helper()
	f.still()
	w := f.observe("web", true)
	f.keepWriting("still", true)
	b := &blow{f: f, fault: prepare(k), point: hitAt}
	f.grow(w, b)
	f.shrink(w, b)
	f.asIfNothingHappened(w)
}

// at hits where the point has come.
func (b *blow) at(here point) {
	if b != nil && b.point == here {
		b.f.strike(b.fault)
	}
}

// on has it hit when a message is heard, where that is what the point means.
func (b *blow) on(p point, subject string) {
	if b != nil && b.point == p {
		b.f.strikeOn(b.fault, subject)
	}
}

// over waits until the fault is over where it was at one of the points.
func (b *blow) over(points ...point) {
	if b != nil && slices.Contains(points, b.point) {
		b.f.recovered(b.fault)
	}
}

// grow adds the domain, with two instances that run.
func (f *cell) grow(w *watch, b *blow) {
	f.t.Helper()
	b.at(beforeAdd)
	b.on(beforeLaunch, f.prefix.Event(events.PassKey))
	b.on(afterLaunch, f.prefix.Provisioner("web", events.OpProvision))
	w.expect(maybe)
	w.acknowledged(f.command(commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: sited("web", 2)}))
	b.at(afterAdd)
	ids := f.asked("web", 2)
	b.over(beforeAdd, afterAdd, beforeLaunch, afterLaunch)

	b.at(beforeReport)
	f.reportAll(ids, events.Running)
	b.at(afterReport)
	f.settled("web", 2)
	b.over(beforeReport, afterReport)
}

// shrink gives the domain a third instance, and removes it.
func (f *cell) shrink(w *watch, b *blow) {
	f.t.Helper()
	b.at(beforeReconfigure)
	w.acknowledged(f.command(commands.ReconfigureDomain{DomainID: "web", Config: preserve(3)}))
	b.at(afterReconfigure)
	ids := f.asked("web", 3)
	f.reportAll(ids, events.Running)
	f.settled("web", 3)
	b.over(beforeReconfigure, afterReconfigure)

	b.at(beforeRemove)
	b.on(beforeTerminate, f.prefix.Event(events.PassKey))
	b.on(afterTerminate, f.prefix.Provisioner("web", events.OpTerminateNodes))
	w.acknowledged(f.command(commands.RemoveDomain{DomainID: "web"}))
	b.at(afterRemove)
	if gone := f.ended(3); !slices.Equal(gone, ids) {
		f.t.Errorf("of %q %q are to be terminated", ids, gone)
	}
	w.expect(maybe)
	f.reportAll(ids, events.Terminated)
	f.slowly("the domain is gone", func() bool {
		_, err := f.as("al").DescribeDomain(f.ctx(), "web", "", 0)
		return isNotFound(err)
	})
	w.expect(absent)
	b.over(beforeRemove, afterRemove, beforeTerminate, afterTerminate)
}

// still adds the domain that nothing happens to, and waits until it runs.
func (f *cell) still() {
	f.t.Helper()
	f.command(commands.AddDefinition{DefinitionID: "d"})
	f.command(commands.AddDomain{DomainID: "still", DefinitionID: "d", Config: sited("still", 1)})
	f.reportAll(f.asked("still", 1), events.Running)
	f.settled("still", 1)
}

// asIfNothingHappened checks the outcome of a life.
func (f *cell) asIfNothingHappened(w *watch) {
	f.t.Helper()
	f.answering(f.nc, 3)
	f.stopBackground()
	w.check()
	f.asked("web", 3)
	f.asked("still", 1)
	f.ended(3)
	f.settled("still", 1)
	f.checkLog()
	for typ, want := range map[string]int{
		events.TypeLaunchRequested: 4, events.TypeTerminateRequested: 3, events.TypeReaped: 3, events.TypeDomainRemoved: 1,
	} {
		if got := len(f.logOf(typ)); got != want {
			f.t.Errorf("%d %s, want %d", got, typ, want)
		}
	}
	f.projected()
	if f.backend.replicas > 1 {
		f.copied(events.StreamEvents)
		f.copied(events.BucketState)
	}
	f.bucketIsFold()
}

// reportAll reports a state of instances, durably.
func (f *cell) reportAll(ids []string, state events.InstanceState) {
	f.t.Helper()
	for _, id := range ids {
		f.report(id, map[string]any{"state": state})
	}
}

// sited is a config of n instances at a site.
func sited(site string, n int) events.Config {
	c := preserve(n)
	c.EngineConf = append(c.EngineConf[:len(c.EngineConf)-1], `,"force_site":"`+site+`"}`...)
	return c
}
