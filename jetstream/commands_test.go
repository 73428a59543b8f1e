package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// leave publishes a durable command, whose body is its id, and gives its sequence.
func leave(t testing.TB, js natsjs.JetStream, token, id string) uint64 {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), &nats.Msg{
		Subject: "epum.inbox." + token + ".op", Header: nats.Header{"Nats-Msg-Id": {id}}, Data: []byte(id),
	})
	if err != nil || ack.Duplicate {
		t.Fatalf("%v, %v", ack, err)
	}
	return ack.Sequence
}

// consumeCommands consumes until the test ends, or stop is called, which waits.
func consumeCommands(t testing.TB, in *jetstream.Inbox, handle jetstream.CommandHandler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := in.ConsumeCommands(ctx, handle); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// carriedOut is a handler that collects what it is given.
func carriedOut(got *handled) jetstream.CommandHandler {
	return func(_ context.Context, m *nats.Msg, _ time.Time) (*nats.Msg, error) {
		got.add(strings.Split(m.Subject, ".")[2], m.Data)
		return &nats.Msg{Data: []byte("did " + string(m.Data))}, nil
	}
}

func outcomeOf(t testing.TB, nc *nats.Conn, subject string) string {
	t.Helper()
	m, err := rawStream(t, nc, "epum_results").GetLastMsgForSubject(t.Context(), subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Data)
}

// takeOver takes messages off the consumer as a process does that then dies. The
// consumer must be there.
func takeOver(t testing.TB, js natsjs.JetStream, n int) []natsjs.Msg {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), "epum_inbox", "commands")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(n, natsjs.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(func(yield func(natsjs.Msg) bool) {
		for m := range batch.Messages() {
			yield(m)
		}
	})
}

// TestInbox_ConsumeCommands_turns has three processes that come and go and a handler
// that often fails: of each caller one command runs at a time, in order, and once it
// has an outcome never again.
func TestInbox_ConsumeCommands_turns(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	const callers, each = 5, 40
	var mu sync.Mutex
	running, order := map[string]bool{}, map[string][]string{}
	handle := func(_ context.Context, m *nats.Msg, _ time.Time) (*nats.Msg, error) {
		caller := strings.Split(m.Subject, ".")[2]
		mu.Lock()
		if running[caller] {
			t.Errorf("two commands of %s at once", caller)
		}
		running[caller] = true
		mu.Unlock()
		time.Sleep(time.Millisecond) // long enough for another one to come in between
		mu.Lock()
		defer mu.Unlock()
		running[caller] = false
		if rand.IntN(40) == 0 {
			return nil, events.ErrUnavailable
		}
		order[caller] = append(order[caller], string(m.Data))
		return &nats.Msg{Data: m.Data}, nil
	}
	for n := range each {
		for c := range callers {
			leave(t, js, fmt.Sprint("c", c), fmt.Sprintf("%d-%d", c, n))
		}
	}
	in := cell.Inbox()
	consumeCommands(t, in, handle)
	for range 10 {
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) // whenever it hits them
		consumeCommands(t, in, handle)()
	}
	waitMessages(t, nc, "epum_inbox", 0)
	mu.Lock()
	defer mu.Unlock()
	for c := range callers {
		got := order[fmt.Sprint("c", c)]
		for n := range each {
			if len(got) != each || got[n] != fmt.Sprintf("%d-%d", c, n) {
				t.Fatalf("caller %d: %v", c, got)
			}
		}
	}
}

func TestInbox_ConsumeCommands_outcome(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	stop := consumeCommands(t, cell.Inbox(), carriedOut(&got))

	t.Run("is kept", func(t *testing.T) {
		leave(t, js, "a=40b", "x.y")
		leave(t, js, "-", "-")
		waitMessages(t, nc, "epum_inbox", 0)
		if o := outcomeOf(t, nc, "epum.result.a=40b.x=2Ey"); o != "did x.y" {
			t.Errorf("%q", o)
		}
		if o := outcomeOf(t, nc, "epum.result.-.=2D"); o != "did -" {
			t.Errorf("%q", o)
		}
	})
	t.Run("the last of an id", func(t *testing.T) {
		first := leave(t, js, "a", "again")
		waitMessages(t, nc, "epum_inbox", 0)
		eventually(t, func() error { // the stream forgets the id after a moment
			ack, err := js.PublishMsg(t.Context(), &nats.Msg{
				Subject: "epum.inbox.a.op", Header: nats.Header{"Nats-Msg-Id": {"again"}}, Data: []byte("later"),
			})
			if err != nil || ack.Sequence == first {
				return fmt.Errorf("%v, %w", ack, err)
			}
			return nil
		})
		waitMessages(t, nc, "epum_inbox", 0)
		if o := outcomeOf(t, nc, "epum.result.a.again"); o != "did later" {
			t.Errorf("%q", o)
		}
	})
	stop()
	// Of these the process that had them has died: the outcomes of the first two are
	// stored, the acknowledgements never came.
	for _, id := range []string{"1", "2", "3", "4"} {
		leave(t, js, "lost", id)
	}
	for _, m := range takeOver(t, js, 2) {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{
			Subject: "epum.result.lost." + string(m.Data()), Data: []byte("before"),
			Header: nats.Header{events.HeaderCommand: {fmt.Sprintf("%d/%s", meta.Sequence.Stream, meta.Timestamp.UTC().Format(time.RFC3339Nano))}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	consumeCommands(t, cell.Inbox(), carriedOut(&got))
	waitMessages(t, nc, "epum_inbox", 0)
	if ran := got.of("lost"); !slices.Equal(ran, []string{"3", "4"}) || time.Since(began) > 5*time.Second {
		t.Errorf("carried out %v after %s", ran, time.Since(began))
	}
	if o := outcomeOf(t, nc, "epum.result.lost.1"); o != "before" {
		t.Errorf("the outcome became %q", o)
	}
}

// TestInbox_ConsumeCommands_inHand has commands that a process took along when it
// died: the later ones wait until the first comes again.
func TestInbox_ConsumeCommands_inHand(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	stop := consumeCommands(t, cell.Inbox(), carriedOut(&got))
	leave(t, js, "first", "there is a consumer then")
	waitMessages(t, nc, "epum_inbox", 0)
	stop()
	for n := range 6 {
		leave(t, js, "a", fmt.Sprint(n))
	}
	if taken := takeOver(t, js, 3); len(taken) != 3 {
		t.Fatalf("took %d", len(taken))
	}
	leave(t, js, "b", "b0")
	consumeCommands(t, cell.Inbox(), carriedOut(&got))
	eventually(t, func() error {
		if len(got.of("b")) == 0 {
			return errors.New("another caller's command waits, too")
		}
		return nil
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if ran := got.of("a"); !slices.Equal(ran, []string{"0", "1", "2", "3", "4", "5"}) {
		t.Errorf("carried out %v", ran)
	}
}

func TestInbox_ConsumeCommands_again(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	var got handled
	var mu sync.Mutex
	var tries []time.Time
	leave(t, js, "a", "0")
	leave(t, js, "a", "1")
	leave(t, js, "b", "b0")
	consumeCommands(t, cell.Inbox(), func(ctx context.Context, m *nats.Msg, published time.Time) (*nats.Msg, error) {
		if m.Subject == "epum.inbox.a.op" && string(m.Data) == "0" {
			mu.Lock()
			defer mu.Unlock()
			if tries = append(tries, time.Now()); len(tries) < 5 {
				return nil, fmt.Errorf("no log: %w", events.ErrUnavailable)
			}
		}
		return carriedOut(&got)(ctx, m, published)
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if ran := got.of("a"); !slices.Equal(ran, []string{"0", "1"}) {
		t.Errorf("carried out %v", ran)
	}
	for n, least := 1, 90*time.Millisecond; n < len(tries); n, least = n+1, 2*least {
		if pause := tries[n].Sub(tries[n-1]); pause < least {
			t.Errorf("try %d came after %s, want %s at least", n+1, pause, least)
		}
	}
}

// TestInbox_ConsumeCommands_stop gives back what was not begun, at once.
func TestInbox_ConsumeCommands_stop(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	const all = 150
	for n := range all {
		leave(t, js, "a", fmt.Sprint(n))
	}
	begun := make(chan struct{})
	var once sync.Once
	stop := consumeCommands(t, cell.Inbox(), func(ctx context.Context, _ *nats.Msg, _ time.Time) (*nats.Msg, error) {
		once.Do(func() { close(begun) })
		<-ctx.Done()
		return nil, ctx.Err()
	})
	<-begun
	began := time.Now()
	stop()
	var got handled
	consumeCommands(t, cell.Inbox(), carriedOut(&got))
	waitMessages(t, nc, "epum_inbox", 0)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("done after %s", took)
	}
	for n, id := range got.of("a") {
		if id != fmt.Sprint(n) {
			t.Fatalf("carried out %v", got.of("a"))
		}
	}
}

// TestInbox_OldConsumer has a consumer of reports without a filter, as an older
// version made it: it is given one, and commands have theirs.
func TestInbox_OldConsumer(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	js, _ := natsjs.New(nc)
	if _, err := js.CreateConsumer(t.Context(), "epum_inbox", natsjs.ConsumerConfig{
		Durable: "workers", AckPolicy: natsjs.AckExplicitPolicy, AckWait: 30 * time.Second, MaxAckPending: 2000, MaxDeliver: -1,
	}); err != nil {
		t.Fatal(err)
	}
	var reports, commands handled
	leave(t, js, "a", "0")
	publish(t, js, "n1", "r")
	consumeCommands(t, cell.Inbox(), carriedOut(&commands))
	consume(t, cell.Inbox(), func(_ context.Context, node string, body []byte) error {
		reports.add(node, body)
		return nil
	})
	waitMessages(t, nc, "epum_inbox", 0)
	if !slices.Equal(reports.of("n1"), []string{"r"}) || reports.count() != 1 || !slices.Equal(commands.of("a"), []string{"0"}) {
		t.Errorf("reports %v, commands %v", reports.bodies, commands.bodies)
	}
}

// clusterCommands has commands in their turns where the stream removes a command
// some time after its consumer has confirmed the acknowledgement.
func clusterCommands(t *testing.T, in *jetstream.Inbox, nc *nats.Conn) {
	t.Helper()
	js, _ := natsjs.New(nc)
	const callers, each = 4, 25
	for n := range each {
		for c := range callers {
			leave(t, js, fmt.Sprint("c", c), fmt.Sprintf("%d-%d", c, n))
		}
	}
	var got handled
	began := time.Now()
	stop := consumeCommands(t, in, carriedOut(&got))
	waitMessages(t, nc, "epum_inbox", 0)
	took := time.Since(began)
	stop()
	for c := range callers {
		bodies := got.of(fmt.Sprint("c", c))
		for n := range each {
			if len(bodies) != each || bodies[n] != fmt.Sprintf("%d-%d", c, n) {
				t.Fatalf("caller %d: %v", c, bodies)
			}
		}
	}
	t.Logf("%d commands of %d callers after %s", callers*each, callers, took)
}
