package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// startCell starts a server with a log of two events, and a bucket of them.
func startCell(t *testing.T) (*jetstream.Cell, *nats.Conn) {
	t.Helper()
	nc := startServer(t)
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	put := func(key events.Key, ev events.Event) uint64 {
		seq, err := cell.Log().Append(t.Context(), events.Draft{ID: "id of " + string(key), Key: key, Event: ev, Guard: events.Guard{Key: key}, Actor: "al"})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	put(events.DefinitionKey("d"), events.DefinitionAdded{})
	startProjector(t, cell, put(events.LeaderKey, events.LeaderElected{Process: "p"}))
	return cell, nc
}

// startProjector keeps the bucket up to the log, and waits until it is.
func startProjector(t *testing.T, cell *jetstream.Cell, epoch uint64) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	replica := projections.NewReplica(cell.Log(), cell.State(), cell.Purged(), quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	started := make(chan struct{})
	go func() { _ = replica.Run(ctx, func() { close(started) }); done <- struct{}{} }()
	go func() {
		<-started
		for ctx.Err() == nil { // its feed breaks where the replica is replaced
			_ = projections.NewProjector(replica, cell.Log(), cell.State(), quiet).Run(ctx, epoch)
		}
		done <- struct{}{}
	}()
	t.Cleanup(func() { cancel(); <-done; <-done })
	waitFor(t, "the bucket", func() bool {
		entries, err := cell.State().Read(context.Background(), events.CheckpointKey)
		var c projections.Checkpoint
		return err == nil && len(entries) == 1 && json.Unmarshal(entries[0].Value, &c) == nil && c.Seq == epoch && c.To == 0
	})
}

// TestVerify prints a sound log, one with a message that is no event, and one with a
// forged event.
func TestVerify(t *testing.T) {
	none := run("verify")
	if none.Code != 6 {
		t.Errorf("no server: %+v", none)
	}
	_, nc := startCell(t)
	expect(t, "verify", run("verify"), result{0, "2 events up to 2, 2 documents at event 2: 0 findings, 0 warnings\n", ""})
	publish := func(headers map[string][]string) {
		t.Helper()
		if _, err := nc.RequestMsg(&nats.Msg{Subject: "epum.event.definition.d", Header: headers, Data: []byte("{}")}, nats.DefaultTimeout); err != nil {
			t.Fatal(err)
		}
	}
	publish(nil)
	got := run("verify")
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, "warning, foreign: event 3 epum.event.definition.d: a message without ce-type, somebody's answer maybe: no event. To do: nothing") ||
		!strings.HasSuffix(got.Stdout, "0 findings, 1 warning\n") {
		t.Errorf("a foreign message: %+v", got)
	}
	publish(map[string][]string{"ce-specversion": {"1.0"}, "ce-id": {"x\x1b[2J"}, "ce-type": {events.TypeDefinitionAdded}})
	got = run("verify", "--sealed-from", "1")
	if lines := strings.Split(got.Stdout, "\n"); got.Code != 1 || got.Stderr != "" || len(lines) != 6 || strings.Contains(got.Stdout, "\x1b") ||
		!strings.HasPrefix(lines[1], "seal: event 4 epum.event.definition.d: it has no seal") ||
		!strings.HasPrefix(lines[2], "guard: event 4") || !strings.HasPrefix(lines[3], "transition: event 4") || !strings.HasSuffix(lines[4], "3 findings, 1 warning") {
		t.Errorf("a forged event: %+v", got)
	}
	got = run("verify", "--limit", "1")
	if lines := strings.Split(got.Stdout, "\n"); len(lines) != 3 || !strings.HasSuffix(lines[1], "; 3 not printed, see --limit") {
		t.Errorf("with a limit: %+v", got)
	}
	got = run("verify", "-o", "json")
	lines := strings.Split(strings.TrimSpace(got.Stdout), "\n")
	for _, line := range lines {
		var doc struct {
			Kind, What, Do, Subject string
			Seq                     uint64
			Summary                 *struct{ Events, Findings int }
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil || doc.Summary == nil && (doc.Kind == "" || doc.What == "" || doc.Do == "" || doc.Subject == "" || doc.Seq == 0) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) != 5 || !strings.HasPrefix(lines[4], `{"summary":{"events":4,`) {
		t.Errorf("as JSON: %+v", got)
	}
	if got := run("verify", "--limit", "-1"); got.Code != 2 {
		t.Errorf("a limit below zero: %+v", got)
	}
}

// TestRebuild has the bucket made anew, where there is one and somebody who does it.
func TestRebuild(t *testing.T) {
	nc := startServer(t)
	expect(t, "rebuild", run("rebuild"), result{6, "", "epum: no epum service has ever run on " + nc.ConnectedUrl() + "; start one with 'epum serve'\n"})
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "rebuild", run("rebuild"), result{3, "", "epum: the state bucket has no checkpoint: the next leader writes it from the log anyway\n"})
	if _, err := cell.State().Write(t.Context(), nil, fmt.Appendf(nil, `{"seq":0,"fold_version":%d}`, events.FoldVersion), 0); err != nil {
		t.Fatal(err)
	}
	got := run("rebuild", "--timeout", "200ms")
	expect(t, "rebuild", got, result{6, "", "epum: the rebuild is asked for, but no process of the service leads; the next leader does it\n"})
	cell.Close()
	startCell(t)
	expect(t, "rebuild", run("rebuild"), result{0, "the state bucket is made anew from the log (seq 2)\n", ""})
	if got := run("rebuild", "-o", "json"); got.Code != 0 || !strings.HasSuffix(got.Stdout, `","seq":2}`+"\n") {
		t.Errorf("%+v", got)
	}
	expect(t, "verify", run("verify"), result{0, "2 events up to 2, 2 documents at event 2: 0 findings, 0 warnings\n", ""})
}

// TestRebuild_LeaderGone does not wait for ever for a leader that goes before it has done it.
func TestRebuild_LeaderGone(t *testing.T) {
	nc := startServer(t)
	cell, err := jetstream.Open(t.Context(), nc, jetstream.Config{Process: "p", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.Close)
	if _, err := cell.State().Write(t.Context(), nil, fmt.Appendf(nil, `{"seq":0,"fold_version":%d}`, events.FoldVersion), 0); err != nil {
		t.Fatal(err)
	}
	asked := 0
	if _, err := nc.Subscribe("epum.cmd.alice.status", func(m *nats.Msg) {
		leader := `{"process":"p","epoch":1}`
		if asked++; asked > 2 {
			leader = "null"
		}
		_ = m.Respond([]byte(`{"leader":` + leader + `}`))
	}); err != nil {
		t.Fatal(err)
	}
	got := run("rebuild", "--timeout", "200ms")
	expect(t, "rebuild", got, result{6, "", "epum: the rebuild is asked for, but no process of the service leads; the next leader does it\n"})
}
