package tests

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
)

var mutatedLogs = flag.Int("mutations", 500, "how many mutated logs TestVerify_Mutations makes")

// message is one of a recorded log that may be changed.
type message struct {
	subject string
	header  nats.Header
	body    []byte
}

// recording is a recorded log: what it holds, when, and of which stream.
type recording struct {
	created  time.Time
	times    []time.Time
	messages []message
}

func (e *epum) recording() *recording {
	e.t.Helper()
	info, err := e.eventStream().Info(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	r := &recording{created: info.Created}
	for _, l := range e.log() {
		r.times = append(r.times, l.time.UTC())
		r.messages = append(r.messages, message{e.prefix.Event(l.key), l.header, l.body})
	}
	return r
}

// copies is a server that logs are copied to, one after the other.
type copies struct {
	*epum
	of *recording
}

func newCopies(t testing.TB, of *recording) *copies {
	return &copies{connect(t, startServer(t).ClientURL()), of}
}

// log copies messages into a stream of their own. Where they are more than were recorded
// the last time holds on.
func (c *copies) log(messages []message) *copiedLog {
	c.t.Helper()
	name := c.prefix.Stream(events.StreamEvents)
	_ = c.js.DeleteStream(c.ctx(), name)
	_, err := c.js.CreateStream(c.ctx(), natsjs.StreamConfig{Name: name, Subjects: []string{c.prefix.AllEvents()}, Storage: natsjs.MemoryStorage, AllowDirect: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range messages {
		msg := &nats.Msg{Subject: m.subject, Header: nats.Header{}, Data: m.body}
		for name, values := range m.header {
			if strings.HasPrefix(name, "Nats-") {
				name = escaped + name
			}
			msg.Header[name] = values
		}
		if _, err := c.js.PublishMsgAsync(msg, natsjs.WithStallWait(patience)); err != nil {
			c.t.Fatal(err)
		}
	}
	select {
	case <-c.js.PublishAsyncComplete():
	case <-time.After(patience):
		c.t.Fatal("the copy is not complete")
	}
	times := slices.Clone(c.of.times)
	for len(times) < len(messages) {
		times = append(times, times[len(times)-1])
	}
	return &copiedLog{Log: attach(c.t, c.nc).Log(), created: c.of.created, times: times}
}

// harm changes one message of a log, and says what it did.
type harm func(r *rand.Rand, log []message, n int) (mutated []message, what string)

// harms are the kinds of mutations.
var harms = map[string]harm{
	"dropped": func(_ *rand.Rand, log []message, n int) ([]message, string) {
		return slices.Delete(log, n, n+1), ""
	},
	"doubled": func(r *rand.Rand, log []message, n int) ([]message, string) {
		to := n + 1 + r.IntN(len(log)-n)
		return slices.Insert(log, to, log[n]), fmt.Sprintf("at %d", to+1)
	},
	"moved": func(r *rand.Rand, log []message, n int) ([]message, string) {
		m := log[n]
		to := r.IntN(len(log) - 1)
		if to == n {
			to = (n + 1) % (len(log) - 1)
		}
		return slices.Insert(slices.Delete(log, n, n+1), to, m), fmt.Sprintf("to %d", to+1)
	},
	"swapped": func(_ *rand.Rand, log []message, n int) ([]message, string) {
		other := (n + 1) % len(log)
		log[n], log[other] = log[other], log[n]
		return log, fmt.Sprintf("with %d", other+1)
	},
	"body":    mutateBody,
	"header":  mutateHeader,
	"subject": mutateSubject,
}

func mutateBody(r *rand.Rand, log []message, n int) ([]message, string) {
	was, m := log[n].body, &log[n]
	switch r.IntN(4) {
	case 0:
		m.body = bytes.Clone(was)
		m.body[r.IntN(len(was))] ^= 1 << r.IntN(8)
	case 1:
		m.body = was[:r.IntN(len(was))]
	case 2:
		m.body = log[r.IntN(len(log))].body
	case 3:
		m.body = append(bytes.Clone(was), ' ')
	}
	if bytes.Equal(was, m.body) {
		m.body = []byte(`{"other":1}`)
	}
	return log, fmt.Sprintf("%.80s, was %.80s", m.body, was)
}

func mutateHeader(r *rand.Rand, log []message, n int) ([]message, string) {
	m := &log[n]
	names := slices.Sorted(maps.Keys(m.header))
	name := names[r.IntN(len(names))]
	was := m.header[name]
	m.header = maps.Clone(m.header)
	switch other := log[r.IntN(len(log))].header[name]; r.IntN(5) {
	case 0:
		delete(m.header, name)
	case 1:
		m.header[name] = []string{was[0] + "0"}
	case 2:
		m.header[name] = []string{was[0], was[0]}
	case 3:
		m.header["ce-another"] = was
	default:
		if len(other) == 0 || other[0] == was[0] {
			other = []string{"1" + was[0]}
		}
		m.header[name] = other
	}
	return log, fmt.Sprintf("%s is %q, was %q", name, m.header[name], was)
}

func mutateSubject(r *rand.Rand, log []message, n int) ([]message, string) {
	m := &log[n]
	was := m.subject
	switch r.IntN(3) {
	case 0:
		m.subject += "x"
	case 1:
		m.subject += ".x"
	default:
		m.subject = log[r.IntN(len(log))].subject
	}
	if m.subject == was {
		m.subject = "epum.event.leader.x"
	}
	return log, fmt.Sprintf("%s, was %s", m.subject, was)
}

// TestVerify_Mutations copies a recorded log with one event of it dropped, doubled, moved
// or altered: verify finds each.
func TestVerify_Mutations(t *testing.T) {
	t.Parallel()
	e := lived(t)
	e.isSound()
	bucket, of := attach(t, e.nc).State(), e.recording()
	c := newCopies(t, of)
	if found, _ := verifyLog(t, c.log(of.messages), bucket); len(found) > 0 {
		t.Fatalf("the copy itself: %+v", found)
	}
	kinds := slices.Sorted(maps.Keys(harms))
	r := rand.New(rand.NewPCG(4, uint64(*mutatedLogs)))
	missed := 0
	for n := range *mutatedLogs {
		kind, at := kinds[n%len(kinds)], r.IntN(len(of.messages))
		mutated, what := harms[kind](r, slices.Clone(of.messages), at)
		found, summary := verifyLog(t, c.log(mutated), bucket)
		if summary.Findings == 0 {
			missed++
			t.Errorf("mutation %d is not found: event %d of %d, %s, is %s %s; %+v", n, at+1, len(of.messages), of.messages[at].header.Get("ce-type"), kind, what, found)
		}
	}
	t.Logf("%d of %d mutations of %d events were found", *mutatedLogs-missed, *mutatedLogs, len(of.messages))
}
