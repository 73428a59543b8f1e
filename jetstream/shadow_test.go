package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func TestShadows_Append(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	s, ctx := cell.Shadows(), t.Context()
	if _, _, err := s.Last(ctx, domain(1)); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("the last one of none: %v", err)
	}
	last := uint64(0)
	for n := range 3 {
		seq, err := s.Append(ctx, domain(1), fmt.Sprint("id", n), []byte(fmt.Sprint(n)), last)
		if err != nil || seq <= last {
			t.Fatal(seq, err)
		}
		last = seq
		if _, err := s.Append(ctx, domain(2), fmt.Sprint("other", n), []byte("other"), 0); (err != nil) != (n > 0) {
			t.Errorf("of another domain: %v", err)
		}
	}
	_, err := s.Append(ctx, domain(1), "late", []byte("late"), last-1)
	if conflict, ok := errors.AsType[*events.ConflictError](err); !ok || conflict.Got != last {
		t.Errorf("behind one that is not the last: %v", err)
	}
	if _, err := s.Append(ctx, domain(1), "long", make([]byte, 1<<20), last); !errors.Is(err, jetstream.ErrRefused) {
		t.Errorf("a long one: %v", err)
	}
	// A message that is nobody's record.
	if err := nc.Publish(events.DefaultPrefix.Shadow(domain(1)), []byte("stray")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var read []string
	err = s.Read(ctx, domain(1), func(stored time.Time, body []byte) error {
		if stored.IsZero() {
			t.Error("no time")
		}
		read = append(read, string(body))
		return nil
	})
	if err != nil || !slices.Equal(read, []string{"0", "1", "2"}) {
		t.Errorf("read %q, %v", read, err)
	}
	if err := s.Read(ctx, domain(3), func(time.Time, []byte) error { return errors.New("there is one") }); err != nil {
		t.Error(err)
	}
}

// TestShadows_ReadGone: reading ends where records are gone meanwhile, as those that get
// too old are.
func TestShadows_ReadGone(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	s := cell.Shadows()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Append(ctx, domain(1), "id", []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	const more = 9000 // than the server sends at once
	for range more {
		if err := nc.Publish(events.DefaultPrefix.Shadow(domain(1)), make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	stream := rawStream(t, nc, "epum_shadow")
	eventually(t, func() error {
		info, err := stream.Info(ctx)
		if err == nil && info.State.Msgs != more+1 {
			err = fmt.Errorf("%d records are there", info.State.Msgs)
		}
		return err
	})
	if err := s.Read(ctx, domain(1), func(time.Time, []byte) error { return stream.Purge(ctx) }); err != nil {
		t.Error(err)
	}
}

// TestShadows_Race has many append behind the same record: one is first.
func TestShadows_Race(t *testing.T) {
	t.Parallel()
	cell, _ := newCell(t)
	var wait sync.WaitGroup
	landed := make(chan uint64, 16)
	for n := range cap(landed) {
		wait.Go(func() {
			seq, err := cell.Shadows().Append(t.Context(), domain(1), fmt.Sprint("id", n), []byte("{}"), 0)
			if err == nil {
				landed <- seq
			} else if _, ok := errors.AsType[*events.ConflictError](err); !ok {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := len(landed); n != 1 {
		t.Errorf("%d were first", n)
	}
}

// TestShadows_None: a cell of an older program has no such stream, and the error says
// what to do.
func TestShadows_None(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream("epum_shadow"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cell.Shadows().Last(t.Context(), domain(1)); !errors.Is(err, events.ErrUnavailable) {
		t.Error(err)
	}
	if err := cell.Shadows().Read(t.Context(), domain(1), nil); !errors.Is(err, events.ErrUnavailable) {
		t.Error(err)
	}
}

// TestSamples_Follow follows a domain's document from what is there on, also when the
// consumer is lost.
func TestSamples_Follow(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	s := cell.Samples()
	put := func(d events.DomainID, data string) {
		t.Helper()
		if err := s.Put(t.Context(), 1, d, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	put(domain(1), "1")
	put(domain(2), "other")
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan string, 16), make(chan error, 1)
	go func() { ended <- s.Follow(ctx, domain(1), func(data []byte) { got <- string(data) }) }()
	expect := func(want string) {
		t.Helper()
		for deadline := time.After(20 * time.Second); ; {
			select {
			case data := <-got:
				if data == want {
					return
				}
			case <-deadline:
				t.Fatalf("%s does not come", want)
			}
		}
	}
	expect("1")
	put(domain(1), "2")
	expect("2")
	if err := s.Delete(t.Context(), 1, domain(1)); err != nil {
		t.Fatal(err)
	}
	put(domain(1), "3")
	expect("3")
	deleteConsumers(t, nc, "KV_epum_samples")
	put(domain(1), "4")
	expect("4")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// deleteConsumers takes away whatever reads a stream.
func deleteConsumers(t *testing.T, nc *nats.Conn, stream string) {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.ConsumerNames(stream) {
		if err := js.DeleteConsumer(stream, name); err != nil {
			t.Fatal(err)
		}
	}
}
