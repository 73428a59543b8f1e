package tests

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// slow is how long is waited for a cluster that has lost a node.
const slow = 3 * time.Minute

// TestArchive_Cluster archives and purges a log of three copies. The first time, the node
// that leads its stream is killed in the middle: the purge gets over that. The second time,
// with one node still missing, the archive itself is: the same command goes on where it was. All the while commands are carried out, and in the end nothing is missing.
func TestArchive_Cluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := &archivedCluster{epum: connect(t, c.url()), dir: t.TempDir(), whole: map[uint64]string{}}
	within(t, slow, "the cluster takes streams", func() bool {
		_, err := a.js.CreateStream(a.try(), natsjs.StreamConfig{Name: "first", Subjects: []string{"first"}, Replicas: len(c.nodes)})
		return err == nil
	})
	for _, name := range []string{"a", "b"} {
		a.process(named(name), func(conf *service.Config) { conf.NATS.Replicas = len(c.nodes) })
	}
	p := a.provisioner()
	a.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(4)}, subscribe("s", "op"))
	a.decide()
	for _, id := range p.provisions(4) {
		a.reportState("al", "web", id, events.Running)
	}
	a.happen("first")
	acknowledged := a.keepUpdating("d")

	cmd, said := a.purging()
	lost := a.streamLeader()
	c.nodes[lost].kill()
	const unavailable = 6
	if err := cmd.Wait(); err != nil { // another stream may have been led there, too
		if cmd.ProcessState.ExitCode() != unavailable || contains(said.String(), "epum: purge definition") {
			t.Errorf("as the stream's leader was lost: %v: %s", err, said)
		}
		a.resumes()
	}
	before := acknowledged.Load()
	within(t, slow, "commands go on", func() bool { return acknowledged.Load() > before+3 })

	a.happen("second")
	cmd, _ = a.purging()
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		t.Log("the archive had ended before it was killed")
	}
	a.resumes()
	again(c.nodes[lost])
	a.stopUpdating()
	a.complete()
	a.isWhole()
	a.worksOn(p)
}

// archivedCluster is a service on a cluster whose log is archived.
type archivedCluster struct {
	*epum
	dir          string
	whole        map[uint64]string // the log as it was before anything was purged, by sequence
	stopUpdating func()
}

// happen has much happen that can be purged, and remembers the log.
func (a *archivedCluster) happen(what string) {
	a.t.Helper()
	const keys, at = 320, 16
	var wait sync.WaitGroup
	for n := range at {
		wait.Go(func() {
			for k := n; k < keys; k += at {
				name := fmt.Sprint(what, k)
				for _, cmd := range []commands.Command{
					commands.AddDefinition{DefinitionID: name},
					commands.UpdateDefinition{DefinitionID: name, Definition: preserve(1)},
					commands.UpdateDefinition{DefinitionID: name, Definition: preserve(2)},
				} {
					if _, err := a.as("al").Do(a.ctx(), cmd); err != nil {
						a.t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
	wait.Wait()
	a.remember()
}

// remember takes over what the log has more.
func (a *archivedCluster) remember() {
	a.t.Helper()
	for seq, text := range a.recorded() {
		if known, ok := a.whole[seq]; ok && known != text {
			a.t.Errorf("event %d was %s, and is %s", seq, known, text)
		}
		a.whole[seq] = text
	}
}

// keepUpdating updates a definition again and again, and counts how often that was
// acknowledged.
func (a *archivedCluster) keepUpdating(definition string) (acknowledged *atomic.Uint64) {
	acknowledged = new(atomic.Uint64)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.stopUpdating = func() { cancel(); <-done }
	a.t.Cleanup(a.stopUpdating)
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			<-tick.C
			attempt, end := context.WithTimeout(ctx, slow)
			_, err := a.as("al").Do(attempt, commands.UpdateDefinition{DefinitionID: definition, Definition: preserve(n)})
			end()
			if err == nil {
				acknowledged.Add(1)
			} else if ctx.Err() == nil {
				a.t.Errorf("update %d: %v", n, err)
				return
			}
		}
	}()
	return acknowledged
}

// purging starts an archive of all that is remembered, and waits until it purges.
func (a *archivedCluster) purging() (cmd *exec.Cmd, said *bytes.Buffer) {
	a.t.Helper()
	missing := func() uint64 {
		info, err := a.eventStream().Info(a.ctx())
		if err != nil {
			a.t.Fatal(err)
		}
		return info.State.LastSeq - info.State.Msgs
	}
	before := missing()
	cmd, said = a.program("archive", "--purge", "--to", a.dir, "--before", fmt.Sprint(len(a.whole)+1)), &bytes.Buffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	within(a.t, slow, "events are purged", func() bool { return missing() > before+20 })
	return cmd, said
}

// resumes archives and purges again, until the cluster lets it.
func (a *archivedCluster) resumes() {
	a.t.Helper()
	within(a.t, slow, "the archive goes on", func() bool {
		out, err := a.program("archive", "--purge", "--to", a.dir, "--before", fmt.Sprint(len(a.whole)+1)).CombinedOutput()
		if err != nil {
			a.t.Logf("not yet: %s", out)
		}
		return err == nil
	})
}

// complete waits until all nodes are there and have all: the log is read from any.
func (a *archivedCluster) complete() {
	a.t.Helper()
	for _, stream := range []string{events.StreamEvents, events.BucketState} {
		within(a.t, slow, stream+" is copied", func() bool { return a.isCopied(stream) })
	}
	a.remember()
}

// isWhole reads the archive and the log as one, and verifies them.
func (a *archivedCluster) isWhole() {
	a.t.Helper()
	end := uint64(len(a.whole))
	for seq := range end {
		if a.whole[seq+1] == "" {
			a.t.Fatalf("event %d of %d was never seen", seq+1, end)
		}
	}
	var said bytes.Buffer
	cmd := a.program("history", "--archive", a.dir, "-o", "json", "--until", fmt.Sprint(end))
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatalf("history: %v: %s", err, &said)
	}
	read := map[uint64]string{}
	for line := range strings.Lines(string(out)) {
		read[uint64(len(read)+1)] = strings.TrimSuffix(line, "\n")
	}
	if diff := cmp.Diff(a.whole, read); diff != "" {
		a.t.Errorf("the archive and the log: %s", diff)
	}
	if kept := a.recorded(); len(kept) > len(a.whole)*2/3 {
		a.t.Errorf("%d of %d events are in the log", len(kept), end)
	}
	a.projected()
	if out, err := a.program("verify").CombinedOutput(); err != nil {
		a.t.Errorf("verify: %v: %s", err, out)
	}
}

// worksOn rebuilds the bucket, and goes on.
func (a *archivedCluster) worksOn(p *provisioner) {
	a.t.Helper()
	before := maps.Clone(a.documents())
	if out, err := a.program("rebuild").CombinedOutput(); err != nil {
		a.t.Errorf("rebuild: %v: %s", err, out)
	}
	a.projected()
	within(a.t, slow, "the bucket is copied", func() bool { return a.isCopied(events.BucketState) })
	if diff := cmp.Diff(before, a.documents()); diff != "" {
		a.t.Errorf("rebuilt: %s", diff)
	}
	a.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(5)}, commands.RemoveDefinition{DefinitionID: "first0"}, commands.AddDefinition{DefinitionID: "first0"})
	a.refused("al", commands.AddDefinition{DefinitionID: "second0"}, commands.ErrWriteConflict)
	a.decide()
	p.provisions(5)
	a.remember()
	a.resumes()
}
