package commands_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// forgetful remembers no command id from before a time.
type forgetful struct {
	commands.Replica
	since time.Time
}

func (f *forgetful) Repeat(string) (uint64, bool) { return 0, false }
func (f *forgetful) RepeatsSince() time.Time      { return f.since }

// lookups counts the questions to the log; it fails while down is set.
type lookups struct {
	commands.Log
	n    int
	down bool
}

func (l *lookups) Caused(ctx context.Context, key events.Key, causation string, from, until time.Time) (uint64, bool, error) {
	l.n++
	if l.down {
		return 0, false, fmt.Errorf("read: %w", projections.ErrNoQuorum)
	}
	return l.Log.Caused(ctx, key, causation, from, until)
}

// A command that has waited for longer than command ids are remembered.
func TestHandler_DoPublished(t *testing.T) {
	p := startCell(t, 1)[0]
	log := &lookups{Log: p.log}
	p.Log = log
	now := time.Now()
	p.must(t, addF)
	p.must(t, addD)
	do := func(id string, published time.Time, cmd commands.Command) (uint64, error) {
		return p.DoPublished(t.Context(), owner, id, published, cmd)
	}
	seq, err := do("c1", now.Add(3*time.Minute), reconfigure(`{"n":2}`))
	if err != nil || log.n != 0 {
		t.Fatalf("a young one: %d, %v, %d lookups", seq, err, log.n)
	}
	p.must(t, reconfigure(`{"n":3}`))
	old := p.Replica
	p.Replica = &forgetful{old, time.Now().Add(time.Minute)}
	if again, err := do("c1", now, reconfigure(`{"n":2}`)); err != nil || again != seq || log.n != 1 {
		t.Errorf("repeated: %d, %v, %d lookups; want %d", again, err, log.n, seq)
	}
	if d := p.domain(t); string(d.Config.EngineConf) != `{"n":3}` {
		t.Errorf("the repeat was carried out again: %s", d.Config.EngineConf)
	}
	// One that is refused now was not then: the definition is there only since.
	added := p.must(t, commands.AddDomain{DomainID: "e", DefinitionID: "f"})
	if _, err := do("c2", now, commands.AddDomain{DomainID: "e", DefinitionID: "f"}); !errors.Is(err, commands.ErrWriteConflict) {
		t.Errorf("another's: %v", err)
	}
	if next, err := do("c3", now, commands.SubscribeDomain{DomainID: "e", SubscriberName: "s", SubscriberOp: "o"}); err != nil || next != added+1 {
		t.Errorf("a new one: %d, %v", next, err)
	}
	// It may be a copy of one that was carried out before: its publisher heard of no ack.
	if again, err := do("c3", time.Now().Add(50*time.Second), commands.UnsubscribeDomain{DomainID: "e", SubscriberName: "s"}); err != nil || again != added+1 {
		t.Errorf("a copy: %d, %v", again, err)
	}
	// An event from long before the command was published is of another command.
	if next, err := do("c3", time.Now().Add(2*time.Minute), commands.UnsubscribeDomain{DomainID: "e", SubscriberName: "s"}); err != nil || next != added+2 {
		t.Errorf("a used id: %d, %v", next, err)
	}
	log.down = true
	if _, err := do("c4", now, reconfigure(`{"n":9}`)); commands.AsError(err).Code != 503 {
		t.Errorf("without an answer: %v", err)
	}
	log.down, p.Replica = false, old
	before := log.n
	if again, err := do("c1", now, reconfigure(`{"n":2}`)); err != nil || again != seq || log.n != before {
		t.Errorf("remembered: %d, %v, %d lookups", again, err, log.n-before)
	}
}

// Whoever wakes up when its time is over decides nothing.
func TestHandler_Do_Late(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Do(ctx, owner, "c1", addD); !errors.Is(err, context.Canceled) || commands.AsError(err).Code != 503 {
		t.Errorf("got %v", err)
	}
	if p.end(t) != 1 {
		t.Error("it was carried out")
	}
}

// A command that waited behind others of its caller is decided on what those have
// left, whichever process did them.
func TestHandler_DoPublished_ReplicaBehind(t *testing.T) {
	both := startCell(t, 2)
	a, b := both[0], both[1]
	a.must(t, addF)
	b.end(t)
	release := b.hold()
	defer release()
	a.must(t, commands.RemoveDefinition{DefinitionID: "f"})
	time.AfterFunc(20*time.Millisecond, release)
	_, err := b.DoPublished(t.Context(), owner, "c1", time.Now(), commands.AddDomain{DomainID: "e", DefinitionID: "f"})
	if !errors.Is(err, commands.ErrBadRequest) {
		t.Errorf("a definition that was gone by then: %v", err)
	}
}
