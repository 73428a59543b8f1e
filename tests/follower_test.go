package tests

import (
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// follower reads on in a log where it left off, for waits that look again and
// again.
type follower struct {
	e     *epum
	seen  []logged
	state *events.State // the fold of it
}

func (e *epum) follow() *follower { return &follower{e: e, state: events.NewState()} }

// read reads on to the log's end, for as long as it gets on.
func (f *follower) read() *events.State {
	f.e.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		before := len(f.seen)
		err := f.tryRead()
		switch {
		case err == nil:
			return f.state
		case len(f.seen) > before:
			deadline = time.Now().Add(patience)
		case time.Now().After(deadline):
			f.e.t.Fatalf("read on in the log: %v", err)
		}
	}
}

func (f *follower) tryRead() error {
	ctx := f.e.try()
	stream, err := f.e.js.Stream(ctx, f.e.prefix.Stream(events.StreamEvents))
	if err != nil {
		return err
	}
	for last := int(stream.CachedInfo().State.LastSeq); len(f.seen) < last; {
		m, err := stream.GetMsg(ctx, uint64(len(f.seen)+1))
		if err != nil {
			return err
		}
		l := logged{key: f.e.prefix.EventKey(m.Subject), seq: m.Sequence, time: m.Time, header: m.Header, body: m.Data}
		f.seen = append(f.seen, l)
		events.Apply(f.state, l.envelope(), l.decode())
	}
	return nil
}
