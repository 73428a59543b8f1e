package archive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// world is a cell with a log that is known event by event.
type world struct {
	t    testing.TB
	rand *rand.Rand
	cell *jetstream.Cell
	log  *jetstream.Log
	js   natsjs.JetStream

	all       []events.Recorded // as the log had them before anything was purged
	epoch     uint64
	domains   []events.DomainID
	instances []events.Key
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Helper()
	server, err := jetstream.StartServer(jetstream.EmbeddedConfig{Listen: "127.0.0.1:-1", StoreDir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := jetstream.Connect(jetstream.ConnectConfig{URL: server.ClientURL(), Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, rand: rand.New(rand.NewPCG(seed, 0)), cell: cell, log: cell.Log(), js: js}
}

// happen appends so many random events.
func (w *world) happen(n int) {
	w.t.Helper()
	before := len(w.all)
	for range n {
		w.append(w.event())
	}
	w.read()
	if len(w.all) != before+n {
		w.t.Fatalf("the log has %d events, want %d", len(w.all), before+n)
	}
	w.told()
}

// read takes over what the log has more.
func (w *world) read() {
	w.t.Helper()
	before := len(w.all)
	q := projections.Query{From: projections.Point{Seq: uint64(before + 1)}}
	if err := w.log.History(w.t.Context(), q, func(r *events.Recorded) error {
		w.all = append(w.all, *r)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// told says that all subscribers were told of all.
func (w *world) told() {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		batch, err := w.cell.Notices().Fetch(w.t.Context(), 0)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, n := range batch {
			if err := n.Done(); err != nil {
				w.t.Fatal(err)
			}
		}
		untold, err := w.cell.Notices().Untold(w.t.Context()) // the queue may give late what the log has
		switch {
		case err != nil:
			w.t.Fatal(err)
		case untold == 0:
			return
		case time.Now().After(deadline):
			w.t.Fatalf("subscribers were not told of what happened from %d on", untold)
		}
	}
}

func (w *world) append(key events.Key, ev events.Event, epoch uint64) uint64 {
	w.t.Helper()
	d := events.Draft{ID: fmt.Sprintf("%016x", w.rand.Uint64()), Key: key, Event: ev, Actor: "al", Epoch: epoch}
	if epoch == 0 {
		d.CausationID = "al/" + d.ID
	}
	seq, err := w.log.Append(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	return seq
}

// event is a random one. Not all of them change something.
func (w *world) event() (events.Key, events.Event, uint64) {
	raw := func(format string, args ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, args...)) }
	if len(w.domains) == 0 || w.rand.IntN(12) == 0 {
		id := events.DomainID{Owner: []string{"al", "b o"}[w.rand.IntN(2)], Name: fmt.Sprint("web", w.rand.IntN(4))}
		w.domains = append(w.domains, id)
		return id.Key(), events.DomainAdded{DefinitionID: "d", Config: events.Config{EngineConf: raw(`{"preserve_n":%d}`, w.rand.IntN(9))}}, 0
	}
	id := w.domains[w.rand.IntN(len(w.domains))]
	w.epoch = max(w.epoch, 1)
	switch n := w.rand.IntN(14); {
	case n == 0:
		return events.LeaderKey, events.LeaderElected{Process: "p"}, 0
	case n == 1:
		return events.PassKey, events.PassCommitted{Pass: "decide"}, w.epoch
	case n == 2:
		return id.DecisionKey(), events.DecisionMade{Reason: fmt.Sprint("because ", n), Memory: raw(`{"n":%d}`, w.rand.IntN(100))}, w.epoch
	case n == 3:
		return id.Key(), events.DomainReconfigured{Config: events.Config{EngineConf: raw(`{"preserve_n":%d}`, w.rand.IntN(9))}}, 0
	case n == 4:
		return id.Key(), events.DomainSubscribed{SubscriberName: fmt.Sprint("s", w.rand.IntN(3)), SubscriberOp: "op"}, 0
	case n == 5:
		return events.DefinitionKey(fmt.Sprint("d", w.rand.IntN(3))), events.DefinitionAdded{}, 0
	case n == 6 && w.rand.IntN(4) == 0:
		return id.Key(), events.DomainRemoved{}, w.epoch
	case n < 9 || len(w.instances) == 0:
		key := id.InstanceKey(fmt.Sprintf("i-%06d", w.rand.IntN(1_000_000)))
		w.instances = append(w.instances, key)
		return key, events.LaunchRequested{LaunchID: "l", Site: "s", DeployableType: "t", Allocation: "small"}, w.epoch
	case n == 9 && w.rand.IntN(3) == 0:
		return w.instances[w.rand.IntN(len(w.instances))], events.Reaped{}, w.epoch
	case n == 10:
		return w.instances[w.rand.IntN(len(w.instances))], events.HealthChanged{Health: events.HealthOK}, w.epoch
	default:
		states := events.InstanceStates
		return w.instances[w.rand.IntN(len(w.instances))], events.StateChanged{
			State: states[w.rand.IntN(len(states))], Fields: events.Fields{{Name: "public_ip", Value: raw(`"10.0.0.%d"`, w.rand.IntN(255))}},
		}, 0
	}
}

// job archives into a directory, a few events a file.
func (w *world) job(dir string) *archive.Job {
	return &archive.Job{Cell: w.cell, Dir: dir, FileEvents: 7}
}

// run runs a job that has to work.
func (w *world) run(dir string, upTo uint64, purge bool) archive.Result {
	w.t.Helper()
	r, err := w.job(dir).Run(w.t.Context(), projections.Point{Seq: upTo + 1}, purge)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// fold is the fold of the first n events.
func (w *world) fold(n int) *events.State {
	s := events.NewState()
	for _, r := range w.all[:n] {
		events.Apply(s, r.Envelope, r.Event)
	}
	return s
}

func documents(s *events.State) map[events.Key]string {
	docs := map[events.Key]string{}
	for k, d := range s.Documents() {
		docs[k] = string(d.AppendJSON(nil))
	}
	return docs
}

// left gives the events that are in the log, by sequence.
func (w *world) left() map[uint64]events.Recorded {
	w.t.Helper()
	left := map[uint64]events.Recorded{}
	if err := w.log.History(w.t.Context(), projections.Query{}, func(r *events.Recorded) error {
		left[r.Seq] = *r
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return left
}

func (w *world) end() projections.Position {
	w.t.Helper()
	end, err := w.log.End(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return end
}

func (w *world) point() projections.PurgePoint {
	w.t.Helper()
	p, err := projections.NewOrigin(w.cell.Purged()).Point(w.t.Context(), w.end().Created)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// check checks all that has to hold of the log whatever was archived and purged, into
// the directories, and whatever interrupted that.
func (w *world) check(dirs ...string) {
	w.t.Helper()
	left, point := w.left(), w.point()
	kept := map[uint64]bool{}
	for dir := range dirs {
		r, err := archive.Open(dirs[dir])
		if err != nil {
			continue // it was never begun
		}
		if err := r.Read(w.t.Context(), 1, r.Last(), func(rec *events.Recorded) error {
			w.sameAs(rec)
			kept[rec.Seq] = true
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	lasts := map[events.Key]uint64{}
	for _, r := range w.all {
		if r.Seq <= point.Seq {
			lasts[r.Key] = r.Seq
		}
	}
	for _, r := range w.all {
		rec, there := left[r.Seq]
		if there {
			w.sameAs(&rec)
		}
		switch {
		case !there && r.Seq > point.Seq:
			w.t.Fatalf("event %d is gone, the purge point is %d", r.Seq, point.Seq)
		case !there && !kept[r.Seq]:
			w.t.Fatalf("event %d is lost", r.Seq)
		case !there && lasts[r.Key] == r.Seq:
			w.t.Fatalf("event %d was the last one of %s at the purge point %d", r.Seq, r.Key, point.Seq)
		}
	}
	w.checkFold(point)
}

func (w *world) sameAs(r *events.Recorded) {
	w.t.Helper()
	want := w.all[r.Seq-1]
	if diff := cmp.Diff(string(want.AppendCloudEvent(nil)), string(r.AppendCloudEvent(nil))); diff != "" {
		w.t.Fatalf("event %d: %s", r.Seq, diff)
	}
}

// checkFold folds what is left behind the snapshot.
func (w *world) checkFold(point projections.PurgePoint) {
	w.t.Helper()
	state, err := projections.NewOrigin(w.cell.Purged()).State(w.t.Context(), point)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(documents(w.fold(int(point.Seq))), documents(state)); diff != "" {
		w.t.Fatalf("the snapshot at %d: %s", point.Seq, diff)
	}
	q := projections.Query{From: projections.Point{Seq: point.Seq + 1}}
	if err := w.log.History(w.t.Context(), q, func(r *events.Recorded) error {
		events.Apply(state, r.Envelope, r.Event)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(documents(w.fold(len(w.all))), documents(state)); diff != "" {
		w.t.Fatal(diff)
	}
}

// checkReplica starts a replica that has no state bucket.
func (w *world) checkReplica() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	r, end := w.replica(ctx, w.log)
	defer end()
	got := map[events.Key]string{}
	r.View(func(s *events.State) { got = documents(s) })
	if diff := cmp.Diff(documents(w.fold(len(w.all))), got); diff != "" {
		w.t.Fatal(diff)
	}
	for _, e := range w.all { // all of them happened in the last two minutes
		if e.CausationID == "" {
			continue
		}
		if seq, ok := r.Repeat(e.CausationID); !ok || seq != e.Seq {
			w.t.Fatalf("the command id of event %d is known as %d, %v", e.Seq, seq, ok)
		}
	}
}

// replica starts a replica that has no state bucket, and waits until it has caught up.
func (w *world) replica(ctx context.Context, source projections.Source) (r *projections.Replica, end func()) {
	w.t.Helper()
	runs, cancel := context.WithCancel(ctx)
	r = projections.NewReplica(source, w.cell.State(), w.cell.Purged(), quiet)
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(runs, func() { close(started) })
	}()
	select {
	case <-started:
	case <-ctx.Done():
		w.t.Error("the replica does not start")
	}
	return r, func() { cancel(); <-done }
}

// joined gives what the archive and the log have together of some keys.
func (w *world) joined(dir string, q projections.Query) (all []events.Recorded) {
	w.t.Helper()
	j, err := archive.Join(w.t.Context(), w.cell, dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := j.History(w.t.Context(), q, func(r *events.Recorded) error {
		all = append(all, *r)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func seqs(all []events.Recorded) []uint64 {
	s := make([]uint64, len(all))
	for n, r := range all {
		s[n] = r.Seq
	}
	return s
}
