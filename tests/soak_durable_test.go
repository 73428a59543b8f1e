package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
)

// leaver leaves the commands of a script in the inbox, one after the other.
type leaver struct {
	*script
	fleet *fleet
	nc    *nats.Conn
	left  []*left
	dark  int // commands left while no process was up
}

// left is a command that was left in the inbox. What came of it is known from its
// outcome alone.
type left struct {
	*attempt
	sent  int      // how often
	taken []uint64 // the sequences in the inbox that the server has confirmed
	asked bool     // it was also sent as a request
}

func (l *leaver) run(ctx context.Context) {
	burst := 0
	for {
		st := l.next()
		if burst--; burst > 0 {
			st.pause = 0
		} else if l.IntN(60) == 0 {
			burst = 30
		}
		if !pauseFor(ctx, 2*st.pause) {
			return
		}
		if st.cmd == nil { // nothing to be read
			continue
		}
		if st.id == "" { // another caller's may be the same
			st.id = fmt.Sprint("n-", l.steps)
		}
		c := &left{attempt: &attempt{cmd: st.cmd, caller: l.caller, id: st.id, token: st.token}}
		l.left = append(l.left, c)
		dark := l.fleet.dark.Load()
		if l.leave(ctx, c) && dark && l.fleet.dark.Load() {
			l.dark++
		}
		switch {
		case !st.twice:
		case l.IntN(2) == 0:
			c.ask(l.nc)
		default: // another message of the inbox, and the same command
			l.leave(ctx, c)
		}
	}
}

// leave publishes a command until the inbox has it; false: ctx ended before that.
func (l *leaver) leave(ctx context.Context, c *left) bool {
	body, err := json.Marshal(c.cmd)
	if err != nil {
		panic(err)
	}
	msg := nats.NewMsg(events.DefaultPrefix.Inbox(c.caller, c.cmd.Op()))
	msg.Data = body
	msg.Header.Set(nats.MsgIdHdr, c.id)
	for {
		c.sent++
		seq, duplicate := publish(l.nc, msg)
		if seq > 0 && !duplicate {
			c.taken = append(c.taken, seq)
			return true
		}
		// A duplicate may also be another caller's command with the same id: the window
		// is 100 ms.
		if !pauseFor(ctx, 150*time.Millisecond) {
			return false
		}
	}
}

// publish publishes to a stream and gives the sequence; 0: it is not known to be
// taken.
func publish(nc *nats.Conn, msg *nats.Msg) (seq uint64, duplicate bool) {
	reply, err := nc.RequestMsg(msg, hasty)
	if err != nil {
		return 0, false
	}
	return readAck(reply)
}

func readAck(reply *nats.Msg) (seq uint64, duplicate bool) {
	var ack struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
	}
	if json.Unmarshal(reply.Data, &ack) != nil {
		return 0, false
	}
	return ack.Seq, ack.Duplicate
}

// ask sends a command that was left also as a request: it is the same one, whichever
// comes first.
func (c *left) ask(nc *nats.Conn) {
	c.asked = true
	c.send(nc, hasty)
}

// outcomeStored is what is stored as the outcome of a durable command.
type outcomeStored struct {
	seq     uint64 // in the stream
	command string // the message of the inbox that it is of: <sequence>/<time>
	code    string // of an error; "": it was carried out
	body    []byte
}

// outcomes gives all outcomes by their subject, and how many were stored ever.
func (e *epum) outcomes() (all map[string]outcomeStored, ever uint64) {
	e.t.Helper()
	all = map[string]outcomeStored{}
	ever = e.stored(events.StreamResults, func(m *natsjs.RawStreamMsg) {
		all[m.Subject] = outcomeStored{
			seq: m.Sequence, command: m.Header.Get(events.HeaderCommand), code: m.Header.Get("Nats-Service-Error-Code"), body: m.Data,
		}
	})
	return all, ever
}

// stored gives each message of a stream, and the stream's last sequence.
func (e *epum) stored(stream string, each func(*natsjs.RawStreamMsg)) (last uint64) {
	e.t.Helper()
	s, err := e.js.Stream(e.ctx(), e.prefix.Stream(stream))
	if err != nil {
		e.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; {
		m, err := s.GetMsg(e.ctx(), seq, natsjs.WithGetMsgSubject(">"))
		if err != nil {
			e.t.Fatalf("message %d of %s: %v", seq, stream, err)
		}
		each(m)
		seq = m.Sequence + 1
	}
	return state.LastSeq
}

// waits says what waits in the inbox, the first message of it and how far each
// consumer is; "": nothing waits.
func (e *epum) waits() string {
	s, err := e.js.Stream(e.try(), e.prefix.Stream(events.StreamInbox))
	if err != nil {
		return err.Error()
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return ""
	}
	what := fmt.Sprintf("%d messages are in the inbox, the first at %d", state.Msgs, state.FirstSeq)
	if m, err := s.GetMsg(e.try(), state.FirstSeq); err == nil {
		what += fmt.Sprintf(": %.100s %q of %s", m.Subject, m.Header, m.Time.Format(time.StampMicro))
	}
	for c := range s.ListConsumers(e.try()).Info() {
		what += fmt.Sprintf("; %s: delivered %d, acknowledged %d, %d out, %d to come", c.Name, c.Delivered.Stream, c.AckFloor.Stream, c.NumAckPending, c.NumPending)
	}
	return what
}

// deadLetters counts the dead letters by the subject that they were sent to.
func (e *epum) deadLetters() map[string]int {
	e.t.Helper()
	dead := map[string]int{}
	e.stored(events.StreamDead, func(m *natsjs.RawStreamMsg) { dead[m.Header.Get(jetstream.HeaderDeadSubject)]++ })
	return dead
}
