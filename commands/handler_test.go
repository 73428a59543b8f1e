package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

var (
	addF = commands.AddDefinition{DefinitionID: "f", Definition: conf(`{"n":1}`)}
	addD = commands.AddDomain{DomainID: "d", DefinitionID: "f"}
)

func reconfigure(engineConf string) commands.Command {
	return commands.ReconfigureDomain{DomainID: "d", Config: conf(engineConf)}
}

type result struct {
	seq uint64
	err error
}

// start carries out a command in a goroutine of its own.
func (p *process) start(ctx context.Context, commandID string, cmd commands.Command) <-chan result {
	done := make(chan result, 1)
	go func() {
		seq, err := p.Do(ctx, owner, commandID, cmd)
		done <- result{seq, err}
	}()
	return done
}

func TestHandler_Do(t *testing.T) {
	p := startCell(t, 1)[0]
	if _, err := p.Do(t.Context(), owner, "", addD); !errors.Is(err, commands.ErrBadRequest) {
		t.Errorf("add without a definition: %v", err)
	}
	for n, cmd := range []commands.Command{
		addF, addD, reconfigure(`{"n":2}`),
		commands.SubscribeDomain{DomainID: "d", SubscriberName: "s", SubscriberOp: "o"},
		commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "s"},
		commands.UpdateDefinition{DefinitionID: "f"},
		commands.RemoveDefinition{DefinitionID: "f"},
		commands.RemoveDomain{DomainID: "d"},
	} {
		if seq := p.must(t, cmd); seq != uint64(n+1) {
			t.Errorf("%s: seq %d, want %d", cmd.Op(), seq, n+1)
		}
	}
	if d := p.domain(t); !d.Removed || string(d.Config.EngineConf) != `{"n":2}` {
		t.Errorf("folded: %+v", d)
	}
	if _, err := p.Do(t.Context(), "bob", "", commands.RemoveDomain{DomainID: "d"}); !errors.Is(err, commands.ErrNotFound) {
		t.Errorf("another's domain: %v", err)
	}
	if _, err := p.Do(t.Context(), "bob\n", "", addD); !errors.Is(err, commands.ErrBadRequest) {
		t.Errorf("a bad caller: %v", err)
	}
}

func TestHandler_Do_ChangesNothing(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	added := p.must(t, addD)
	for _, cmd := range []commands.Command{
		reconfigure(`{"n":1}`), commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "nobody"},
	} {
		if seq := p.must(t, cmd); seq != added || p.end(t) != added {
			t.Errorf("%s: seq %d, log's end %d, want %d", cmd.Op(), seq, p.end(t), added)
		}
	}
	seq, err := p.Do(t.Context(), owner, "c1", reconfigure(`{"n":1}`))
	if err != nil || seq != added+1 {
		t.Fatalf("with a command id: %d, %v; want its event at %d", seq, err, added+1)
	}
	p.must(t, reconfigure(`{"n":5}`))
	if again, err := p.Do(t.Context(), owner, "c1", reconfigure(`{"n":1}`)); err != nil || again != seq {
		t.Errorf("repeated: %d, %v; want %d", again, err, seq)
	}
	if d := p.domain(t); string(d.Config.EngineConf) != `{"n":5}` {
		t.Errorf("the repeat was carried out again: %s", d.Config.EngineConf)
	}
}

func TestHandler_Do_ReplicaBehind(t *testing.T) {
	both := startCell(t, 2)
	a, b := both[0], both[1]
	a.must(t, addF)
	b.end(t)

	t.Run("a name that another process took is a conflict", func(t *testing.T) {
		release := b.hold()
		defer release()
		a.must(t, addD)
		done := b.start(t.Context(), "", addD)
		eventually(t, "conflict", func() bool { return b.log.conflicts.Load() == 1 })
		release()
		if r := <-done; !errors.Is(r.err, commands.ErrWriteConflict) {
			t.Errorf("got %v", r)
		}
	})
	t.Run("a domain that it does not know yet is found", func(t *testing.T) {
		release := b.hold()
		defer release()
		a.must(t, commands.AddDomain{DomainID: "e", DefinitionID: "f"})
		done := b.start(t.Context(), "", commands.SubscribeDomain{DomainID: "e", SubscriberName: "s", SubscriberOp: "o"})
		select {
		case r := <-done:
			t.Fatalf("answered without a barrier: %v", r)
		case <-time.After(50 * time.Millisecond):
		}
		release()
		if r := <-done; r.err != nil {
			t.Errorf("got %v", r)
		}
	})
	t.Run("two changes of one domain both hold", func(t *testing.T) {
		release := b.hold()
		defer release()
		a.must(t, reconfigure(`{"site":"x"}`))
		before := b.log.conflicts.Load()
		done := b.start(t.Context(), "", reconfigure(`{"n":7}`))
		eventually(t, "conflict", func() bool { return b.log.conflicts.Load() > before })
		release()
		if r := <-done; r.err != nil {
			t.Fatal(r.err)
		}
		if d := a.domain(t); string(d.Config.EngineConf) != `{"n":7,"site":"x"}` {
			t.Errorf("got %s", d.Config.EngineConf)
		}
	})
	t.Run("a repeat on the other process is carried out once", func(t *testing.T) {
		for n, cmd := range []commands.Command{
			reconfigure(`{"n":8}`),
			commands.AddDomain{DomainID: "g", DefinitionID: "f"},
			commands.AddDefinition{DefinitionID: "g"},
			commands.RemoveDefinition{DefinitionID: "g"},
		} {
			id := fmt.Sprint("repeat-", n)
			release := b.hold()
			first := <-a.start(t.Context(), id, cmd)
			done := b.start(t.Context(), id, cmd)
			time.AfterFunc(20*time.Millisecond, release)
			if again := <-done; again != first || first.err != nil {
				t.Errorf("%s: first %v, again %v", cmd.Op(), first, again)
			}
			if end := a.end(t); end != first.seq {
				t.Errorf("%s: the log goes on to %d", cmd.Op(), end)
			}
		}
	})
	t.Run("a command id is its caller's own", func(t *testing.T) {
		if r := <-a.start(t.Context(), "mine", reconfigure(`{"n":9}`)); r.err != nil {
			t.Fatal(r.err)
		}
		if _, err := a.Do(t.Context(), "bob", "mine", reconfigure(`{"n":9}`)); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("another caller's repeat: %v", err)
		}
	})
}

func TestHandler_Do_NameThatWasRemoved(t *testing.T) {
	both := startCell(t, 2)
	for n, p := range []*process{both[0], both[1], both[0]} {
		p.must(t, addF)
		p.must(t, addD)
		p.must(t, commands.RemoveDefinition{DefinitionID: "f"})
		p.must(t, commands.RemoveDomain{DomainID: "d"})
		p.write(t, domainD.Key(), events.DomainRemoved{})
		if d := both[n%2].domain(t); d != nil {
			t.Fatalf("still there: %+v", d)
		}
	}
}

func TestHandler_Do_ManyWriters(t *testing.T) {
	both := startCell(t, 2)
	both[0].must(t, addF)
	both[0].must(t, addD)
	const writers, each = 6, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				cmd := commands.SubscribeDomain{DomainID: "d", SubscriberName: fmt.Sprint("s", w, "-", n), SubscriberOp: "o"}
				if _, err := both[w%2].Do(t.Context(), owner, "", cmd); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if d := both[0].domain(t); len(d.Subscribers) != writers*each || d.Seq != uint64(2+writers*each) {
		t.Errorf("%d subscribers at %d, want %d: an update was lost or written twice", len(d.Subscribers), d.Seq, writers*each)
	}
}

func TestHandler_Do_NoBarrier(t *testing.T) {
	p := startCell(t, 1)[0]
	p.source.down.Store(true)
	if _, err := p.Do(t.Context(), owner, "", addF); err != nil {
		t.Errorf("accepting needs no barrier: %v", err)
	}
	for _, cmd := range []commands.Command{addF, commands.RemoveDomain{DomainID: "d"}, commands.AddDomain{DomainID: "d", DefinitionID: "x"}} {
		_, err := p.Do(t.Context(), owner, "", cmd)
		if got := commands.AsError(err); !errors.Is(got, commands.ErrUnavailable) {
			t.Errorf("%s: %v, want a 503", cmd.Op(), err)
		}
	}
}

func TestHandler_Do_UnknownEvent(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	p.must(t, addD)
	p.write(t, domainD.Key(), events.Unknown{Name: "epum.domain.frozen.v1"})
	p.end(t)
	if _, err := p.Do(t.Context(), owner, "", reconfigure(`{"n":2}`)); !errors.Is(err, commands.ErrUnavailable) {
		t.Errorf("got %v, want a 503", err)
	}
	p.must(t, commands.AddDomain{DomainID: "e", DefinitionID: "f"})
}

// contested is a log where another writer is always first.
type contested struct{ commands.Log }

func (c contested) Append(ctx context.Context, d events.Draft) (uint64, error) {
	first := d
	first.ID, first.CausationID = d.ID+"-other", ""
	_, _ = c.Log.Append(ctx, first)
	return c.Log.Append(ctx, d)
}

func TestHandler_Do_ConflictThatLasts(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	p.must(t, addD)
	p.Log = contested{p.Log}
	now := time.Unix(0, 0)
	p.Now = func() time.Time { now = now.Add(time.Second); return now }
	_, err := p.Do(t.Context(), owner, "c", commands.SubscribeDomain{DomainID: "d", SubscriberName: "s", SubscriberOp: "o"})
	if !errors.Is(err, commands.ErrWriteConflict) {
		t.Errorf("got %v, want a 409", err)
	}
	if n := p.log.conflicts.Load(); n < 4 || n > 6 {
		t.Errorf("tried %d times, one a second for 5 s", n)
	}
}

func TestHandler_Do_CommandID(t *testing.T) {
	p := startCell(t, 1)[0]
	for _, id := range []string{"\n", " a", "a ", string(make([]byte, 3)), "\xff", fmt.Sprintf("%0257d", 1)} {
		if _, err := p.Do(t.Context(), owner, id, addF); !errors.Is(err, commands.ErrBadRequest) {
			t.Errorf("command id %q: %v, want a 400", id, err)
		}
	}
	p.must(t, addF)
	// Two callers whose names and ids run together are two callers still.
	for n, c := range []struct{ caller, id string }{{"a/b", "c"}, {"a", "b/c"}, {"a=2Fb", "c"}, {" a", "b/c"}, {"ä", "c"}} {
		if _, err := p.Do(t.Context(), c.caller, c.id, addD); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		found := false
		p.end(t)
		p.replica.View(func(s *events.State) { found = s.Domain(events.DomainID{Owner: c.caller, Name: "d"}) != nil })
		if !found {
			t.Errorf("caller %q with id %q was taken for another one", c.caller, c.id)
		}
	}
}

// stillReplica shows one state for ever.
type stillReplica struct{ state *events.State }

func (r stillReplica) View(read func(*events.State))         { read(r.state) }
func (stillReplica) Barrier(context.Context) (uint64, error) { return 0, nil }
func (stillReplica) WaitFor(context.Context, uint64) error   { return nil }
func (stillReplica) Repeat(string) (uint64, bool)            { return 0, false }
func (stillReplica) RepeatsSince() time.Time                 { return time.Time{} }

// discard measures what a command costs besides NATS.
type discard struct{ commands.Log }

func (discard) Append(context.Context, events.Draft) (uint64, error) { return 1, nil }

func BenchmarkHandler_AddDomain(b *testing.B) {
	h := &commands.Handler{
		Log: discard{}, Engines: known(), NewID: func() string { return "id" },
		Replica: stillReplica{fold([]happened{{events.DefinitionKey("f"), events.DefinitionAdded{Definition: events.Config{
			General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"n":1,"site":"here"}`), Health: json.RawMessage(`{"monitor_health":true}`),
		}}}})},
	}
	body := []byte(`{"domain_id":"web-12345","definition_id":"f","config":{"engine_conf":{"n":3},"health":{"boot_timeout":60}},"subscriber_name":"s","subscriber_op":"o"}`)
	b.ReportAllocs()
	for b.Loop() {
		cmd, err := commands.Decode(commands.OpAddDomain, body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Do(b.Context(), owner, "0197c2d0-0000-7000-8000-000000000000", cmd); err != nil {
			b.Fatal(err)
		}
	}
}
