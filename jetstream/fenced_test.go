package jetstream_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

func TestLog_AppendFenced(t *testing.T) {
	cell, nc := newCell(t)
	log := cell.Log()
	ctx := t.Context()
	epoch := elect(t, log, "p1")
	end := func() uint64 {
		t.Helper()
		p, err := log.End(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return p.Seq
	}

	t.Run("order", func(t *testing.T) {
		before := end()
		pass, drafts := passDraft(epoch), launches(epoch, domain(1), 3)
		seq, err := log.AppendFenced(ctx, epoch, pass, drafts)
		if err != nil || seq != before+4 {
			t.Fatalf("%d, %v", seq, err)
		}
		for n, d := range append([]events.Draft{pass}, drafts...) {
			if id, err := log.EventID(ctx, before+1+uint64(n)); err != nil || id != d.ID {
				t.Errorf("message %d: %s, %v", n, id, err)
			}
		}
		m, err := rawStream(t, nc, "epum_events").GetMsg(ctx, before+2)
		if err != nil || m.Header["ce-epoch"][0] != "1" {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("the pass alone", func(t *testing.T) {
		before := end()
		if seq, err := log.AppendFenced(ctx, epoch, passDraft(epoch), nil); err != nil || seq != before+1 {
			t.Fatalf("%d, %v", seq, err)
		}
	})
	t.Run("a full batch", func(t *testing.T) {
		before := end()
		if seq, err := log.AppendFenced(ctx, epoch, passDraft(epoch), launches(epoch, domain(2), 999)); err != nil || seq != before+1000 {
			t.Fatalf("%d, %v", seq, err)
		}
	})
	t.Run("landed already", func(t *testing.T) {
		pass, drafts := passDraft(epoch), launches(epoch, domain(3), 5)
		first, err := log.AppendFenced(ctx, epoch, pass, drafts)
		if err != nil {
			t.Fatal(err)
		}
		again, err := log.AppendFenced(ctx, epoch, pass, drafts)
		if err != nil || again != first || end() != first {
			t.Fatalf("%d, %v; it was %d, the end is %d", again, err, first, end())
		}
	})
	t.Run("a conflict inside writes nothing", func(t *testing.T) {
		dom := added(4)
		mustAppend(t, log, dom)
		before := end()
		drafts := launches(epoch, domain(4), 5)
		drafts[3].Guard = events.Guard{Key: dom.Key, Seq: 1}
		_, err := log.AppendFenced(ctx, epoch, passDraft(epoch), drafts)
		var conflict *events.ConflictError
		if !errors.As(err, &conflict) || conflict.Guard != (events.Guard{}) || end() != before {
			t.Fatalf("%v; end %d, before %d", err, end(), before)
		}
	})
	t.Run("deposed", func(t *testing.T) {
		mine, drafts := passDraft(epoch), launches(epoch, domain(5), 2)
		landed, err := log.AppendFenced(ctx, epoch, mine, drafts)
		if err != nil {
			t.Fatal(err)
		}
		next := elect(t, log, "p2")
		before := end()
		if _, err := log.AppendFenced(ctx, epoch, passDraft(epoch), launches(epoch, domain(5), 2)); !errors.Is(err, events.ErrDeposed) || end() != before {
			t.Fatalf("%v", err)
		}
		if again, err := log.AppendFenced(ctx, epoch, mine, drafts); err != nil || again != landed {
			t.Errorf("what landed before the election: %d, %v", again, err)
		}
		if _, err := log.AppendFenced(ctx, next, passDraft(next), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestLog_AppendFenced_misuse(t *testing.T) {
	cell, _ := newCell(t)
	log := cell.Log()
	epoch := elect(t, log, "p1")
	one := launches(epoch, domain(1), 1)[0]
	dom := domain(1).Key()
	on := func(key events.Key, guard events.Guard) events.Draft {
		d := one
		d.Key, d.Event, d.Guard = key, events.DomainRemoved{}, guard
		return d
	}
	elsewhere := passDraft(epoch)
	elsewhere.Key = dom
	unfenced := passDraft(epoch)
	unfenced.Guard = events.Guard{}
	for name, c := range map[string]struct {
		epoch  uint64
		pass   events.Draft
		drafts []events.Draft
	}{
		"epoch 0":                        {0, passDraft(0), nil},
		"no fence":                       {epoch, unfenced, nil},
		"another epoch's fence":          {epoch, passDraft(epoch + 1), nil},
		"the pass on another key":        {epoch, elsewhere, nil},
		"too many":                       {epoch, passDraft(epoch), launches(epoch, domain(1), 1000)},
		"a guard behind a message":       {epoch, passDraft(epoch), []events.Draft{on(dom, events.Guard{}), on(dom, events.Guard{Key: dom, Seq: 3})}},
		"a guard on the pass":            {epoch, passDraft(epoch), []events.Draft{on(dom, events.Guard{Key: events.PassKey, Seq: 3})}},
		"guards that contradict":         {epoch, passDraft(epoch), []events.Draft{on(domain(2).Key(), events.Guard{Key: dom, Seq: 3}), on(dom, events.Guard{Key: dom, Seq: 4})}},
		"a guard that contradicts fence": {epoch, passDraft(epoch), []events.Draft{on(dom, events.Guard{Key: events.LeaderKey, Seq: epoch + 1})}},
		"an election in the batch":       {epoch, passDraft(epoch), []events.Draft{on(events.LeaderKey, events.Guard{})}},
		"a draft without an id":          {epoch, passDraft(epoch), []events.Draft{{Key: dom, Event: events.DomainRemoved{}}}},
		"a guard on a wildcard":          {epoch, passDraft(epoch), []events.Draft{on(dom, events.Guard{Key: domain(1).AllInstances(), Seq: 3})}},
	} {
		if _, err := log.AppendFenced(t.Context(), c.epoch, c.pass, c.drafts); !errors.Is(err, jetstream.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if end, err := log.End(t.Context()); err != nil || end.Seq != epoch {
		t.Errorf("something was written: %+v, %v", end, err)
	}
}

func TestLog_AppendFenced_besideCommands(t *testing.T) {
	cell, _ := newCell(t)
	log := cell.Log()
	epoch := elect(t, log, "p1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := log.Append(ctx, added(n)); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 20 {
		pass, drafts := passDraft(epoch), launches(epoch, domain(0), 50)
		seq, err := log.AppendFenced(ctx, epoch, pass, drafts)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := log.EventID(ctx, seq-50); err != nil || id != pass.ID {
			t.Fatalf("the batch is not in one piece: %s, %v", id, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
