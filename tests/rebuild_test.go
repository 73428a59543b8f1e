package tests

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// forge writes a document as a projector would, which no other process takes for a stray.
func (e *epum) forge(key events.Key, from, to string) {
	e.t.Helper()
	bucket := attach(e.t, e.nc).State()
	entries, err := bucket.Read(e.ctx(), key, events.CheckpointKey)
	if err != nil || len(entries) != 2 {
		e.t.Fatalf("%d entries, %v", len(entries), err)
	}
	if entries[0].Key != key {
		entries[0], entries[1] = entries[1], entries[0]
	}
	wrong := strings.Replace(string(entries[0].Value), from, to, 1)
	if wrong == string(entries[0].Value) {
		e.t.Fatalf("%s has no %s", wrong, from)
	}
	entries[0].Value = []byte(wrong)
	if _, err := bucket.Write(e.ctx(), entries[:1], entries[1].Value, entries[1].Revision); err != nil {
		e.t.Fatal(err)
	}
}

// rebuild asks for a rebuild and waits for it.
func (e *epum) rebuild() {
	e.t.Helper()
	bucket, id := attach(e.t, e.nc).State(), uuid.NewString()
	if err := projections.AskRebuild(e.ctx(), bucket, id); err != nil {
		e.t.Fatal(err)
	}
	eventually(e.t, "the bucket is made anew", func() bool {
		_, done, err := projections.RebuildProgress(e.ctx(), bucket, id)
		if err != nil {
			e.t.Fatal(err)
		}
		return done
	})
}

// isFold fails unless the bucket is the fold of the log.
func (e *epum) isFold() {
	e.t.Helper()
	e.projected()
	want := map[events.Key]string{}
	for k, d := range e.fold().Documents() {
		want[k] = string(d.AppendJSON(nil))
	}
	if diff := cmp.Diff(want, e.documents()); diff != "" {
		e.t.Errorf("the bucket (-the log +the bucket): %s", diff)
	}
	e.isSound()
}

// TestRebuild has a bucket that is wrong, and processes that have started from it: verify
// finds it, and after a rebuild the bucket and all processes are right.
func TestRebuild(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("a"))
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(2)})
	e.decide()
	e.isFold()
	e.stopAll()
	key := events.DomainID{Owner: "al", Name: "web"}.Key()
	e.forge(key, `"preserve_n":2`, `"preserve_n":9`)
	found, _ := e.verify()
	if len(found) != 1 || found[0].Subject != string(key) || !strings.Contains(found[0].What, `"preserve_n":9`) || !strings.Contains(found[0].Do, "rebuild") {
		t.Errorf("found %+v", found)
	}
	e.process(named("b"))
	e.process(named("c"))
	if conf := string(e.describe("al", "web").Config.EngineConf); conf != `{"preserve_n":9}` {
		t.Fatalf("nobody has taken the wrong bucket: %s", conf)
	}
	e.rebuild()
	right := func() bool { return string(e.describe("al", "web").Config.EngineConf) == `{"preserve_n":2}` }
	for range 10 { // of whichever process
		if !right() {
			t.Errorf("after the rebuild: %s", e.describe("al", "web").Config.EngineConf)
		}
	}
	e.leader()
	e.isFold()
	// So is the process that did not lead then.
	leads := slices.Index([]string{"b", "c"}, e.leader().Process)
	e.processes[leads].Stop()
	e.leader()
	e.do("al", commands.SubscribeDomain{DomainID: "web", SubscriberName: "s", SubscriberOp: "o"})
	if !right() {
		t.Errorf("the other process: %s", e.describe("al", "web").Config.EngineConf)
	}
	e.isFold()
}

// writesAndReads counts what a client is told while it writes.
type writesAndReads struct {
	writes, reads, wrong atomic.Int64
}

// readOwnWrites reconfigures a domain and reads what it wrote, until stop is closed.
func (w *writesAndReads) readOwnWrites(e *epum, domain string, stop <-chan struct{}) {
	c := e.as("al")
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := c.Do(e.ctx(), commands.ReconfigureDomain{DomainID: domain, Config: preserve(n % 1000)}); err != nil {
			continue // a process is being killed
		}
		w.writes.Add(1)
		doc, err := c.DescribeDomain(e.ctx(), domain, "", 10)
		if err != nil {
			continue
		}
		w.reads.Add(1)
		if got := string(doc.Config.EngineConf); got != fmt.Sprintf(`{"preserve_n":%d}`, n%1000) {
			w.wrong.Add(1)
			e.t.Errorf("%s: %s, not %d", domain, got, n%1000)
		}
	}
}

// TestRebuild_Load rebuilds a bucket of several batches while clients write and read, and
// kills the leader in the midst of it: no read is wrong, and the next leader goes on.
func TestRebuild_Load(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, 1)
	for range 3 {
		f.node(path, nil, "--external_decide", "--provisioner", "nats")
	}
	e := f.connect()
	const instances = 2500
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "big", DefinitionID: "d", Config: preserve(instances)})
	for _, domain := range []string{"one", "two"} {
		e.do("al", commands.AddDomain{DomainID: domain, DefinitionID: "d", Config: preserve(0)})
	}
	eventually(t, "all are launched", func() bool { e.decide(); return e.describe("al", "big").InstanceCounts[events.Requesting] == instances })
	e.projected()

	var w writesAndReads
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for _, domain := range []string{"one", "two"} {
		clients.Go(func() { w.readOwnWrites(e, domain, stop) })
	}
	out := make(chan string, 1)
	go func() {
		text, err := exec.Command(path, "--server", f.url(), "--as", "al", "rebuild").CombinedOutput()
		out <- fmt.Sprintf("%s %v", text, err)
	}()
	eventually(t, "the rebuild is asked for", func() bool { return e.checkpoint()["rebuild"] != nil })
	leader := e.leader().Process
	for _, n := range f.nodes {
		if strings.HasPrefix(leader, n.name+"-") {
			n.end(syscall.SIGKILL)
		}
	}
	if text := <-out; !strings.HasPrefix(text, "the state bucket is made anew from the log (seq ") || !strings.HasSuffix(text, " <nil>") {
		t.Errorf("epum rebuild: %s", text)
	}
	if n := e.describe("al", "big").InstanceCounts[events.Requesting]; n != instances {
		t.Errorf("%d instances", n)
	}
	close(stop)
	clients.Wait()
	t.Logf("%d writes, %d reads, %d of them wrong", w.writes.Load(), w.reads.Load(), w.wrong.Load())
	if w.reads.Load() == 0 {
		t.Error("nobody has read anything")
	}
	if e.leader().Process == leader {
		t.Error("the leader that was killed leads")
	}
	e.isFold()
	text, err := exec.Command(path, "--server", f.url(), "verify", "--sealed-from", "1", "-o", "json").Output()
	var s struct {
		Summary struct{ Events, Findings int }
	}
	if jsonErr := json.Unmarshal(text, &s); err != nil || jsonErr != nil || s.Summary.Events != len(e.log()) {
		t.Errorf("epum verify: %s, %v", text, err)
	}
}
