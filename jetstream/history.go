package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// mostAsked is how many events of one key are asked for one by one before a consumer is
// opened, which costs more than a few of them.
const mostAsked = 32

// Between two consumers of one reading lies a pause that grows while nothing comes.
const (
	shortestReopen = 20 * time.Millisecond
	longestReopen  = time.Second
)

// History calls each with every event that a query asks for, as projections.History
// says. Memory does not grow with what is read. Where the connection is lost it goes on
// behind the last event given, once the log is there again, for as long as it gets on or
// follows. The error of a query with a bad key wraps ErrRefused.
func (l *Log) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	r := reading{log: l, follow: q.Follow, each: each}
	for _, k := range q.Keys {
		if k == "" || strings.ContainsAny(string(k), " \t\r\n") {
			return fmt.Errorf("%w: history of %q: no key", ErrRefused, k)
		}
		r.subjects = append(r.subjects, l.prefix.Event(k))
	}
	if err := r.span(ctx, q); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	err := r.trace(ctx)
	if err == nil {
		err = r.run(ctx)
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// Resolve gives the sequence of the last event at or before a point; 0 where there is
// none. The error wraps projections.ErrNoQuorum where nobody answers.
func (l *Log) Resolve(ctx context.Context, p projections.Point) (uint64, error) {
	end, err := l.End(ctx)
	if err != nil {
		return 0, err
	}
	return l.resolve(ctx, p, end.Seq)
}

func (l *Log) resolve(ctx context.Context, p projections.Point, end uint64) (uint64, error) {
	if !p.Time.IsZero() {
		next, err := l.firstSince(ctx, p.Time.Add(1)) // a nanosecond, as exact as the stream is
		switch {
		case notFound(err):
			return end, nil
		case err != nil:
			return 0, err
		}
		return min(next-1, end), nil
	}
	if p.Seq == 0 || p.Seq > end {
		return end, nil
	}
	return p.Seq, nil
}

// Times for which the server knows which event came first: it counts nanoseconds since
// 1970 in 64 bits, and those beyond come round to others.
var (
	earliest = time.Unix(0, 0)
	latest   = time.Unix(0, math.MaxInt64)
)

// firstSince is the sequence of the first event from a time on. The error wraps
// projections.ErrNotFound where there is none.
func (l *Log) firstSince(ctx context.Context, t time.Time) (uint64, error) {
	switch {
	case t.Before(earliest):
		t = earliest
	case t.After(latest):
		return 0, projections.ErrNotFound
	}
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Next: l.prefix.AllEvents(), Since: &t})
	if err != nil {
		return 0, fmt.Errorf("first event since %s: %w", t.Format(time.RFC3339Nano), err)
	}
	return m.Seq, nil
}

// reading is one reading of the log.
type reading struct {
	log      *Log
	subjects []string  // none: all
	created  time.Time // of the stream
	from, to uint64    // what is wanted, both included
	end      uint64    // of the log, when it was asked first
	reach    []uint64  // of each subject, or of all: the last event that is wanted
	given    uint64    // the last one
	follow   bool
	each     func(*events.Recorded) error
	stopped  error // why each failed
}

// span finds out which sequences are wanted.
func (r *reading) span(ctx context.Context, q projections.Query) error {
	end, err := r.log.End(ctx)
	if err != nil {
		return err
	}
	r.created, r.end, r.from = end.Created, end.Seq, max(q.From.Seq, 1)
	if !q.From.Time.IsZero() {
		r.from, err = r.log.firstSince(ctx, q.From.Time)
		if notFound(err) {
			r.from, err = end.Seq+1, nil
		}
		if err != nil {
			return err
		}
	}
	if q.Follow {
		q.To = projections.Point{}
	}
	r.to, err = r.log.resolve(ctx, q.To, end.Seq)
	if err != nil || len(r.subjects) == 0 {
		r.reach = []uint64{r.to}
		return err
	}
	for _, subject := range r.subjects {
		m, err := readStored(ctx, r.log.nc, get{stream: r.log.stream, Last: subject})
		if err != nil && !notFound(err) {
			return err
		}
		r.reach = append(r.reach, min(m.Seq, r.to))
	}
	return nil
}

// run reads until all is given. It opens other consumers where one is lost.
func (r *reading) run(ctx context.Context) error {
	if len(r.subjects) == 1 && !strings.ContainsAny(r.subjects[0], "*>") {
		if err := r.ask(ctx, r.reach[0]); err != nil {
			return err
		}
	}
	pause := newPause(shortestReopen, longestReopen)
	for {
		from := r.from
		err := r.consume(ctx)
		if err == nil || !r.goesOn(ctx, err, r.from > from) {
			return err
		}
		if r.from > from {
			pause = newPause(shortestReopen, longestReopen)
		}
		if !pause.wait(ctx) {
			return err
		}
		if end, err := r.log.End(ctx); err == nil && (!end.Created.Equal(r.created) || end.Seq < r.given) {
			return fmt.Errorf("%w: the log was made anew or restored meanwhile: it ends at %d, and %d was read", ErrTailBroken, end.Seq, r.given)
		}
	}
}

// goesOn reports whether a reading that failed may be taken up again: what failed was the
// way to the log, and something came of it or it follows.
func (r *reading) goesOn(ctx context.Context, err error, got bool) bool {
	lost := errors.Is(err, ErrTailBroken) || noQuorum(err) || noAnswer(err)
	return r.stopped == nil && ctx.Err() == nil && lost && (got || r.follow)
}

// ask asks the stream's leader for one event after the other, for as long as there are
// few.
func (r *reading) ask(ctx context.Context, reach uint64) error {
	for range mostAsked {
		if r.from > reach {
			return nil
		}
		m, err := readStored(ctx, r.log.nc, get{stream: r.log.stream, Seq: r.from, Next: r.subjects[0]})
		if notFound(err) || err == nil && m.Seq > reach {
			r.from = reach + 1
			return nil
		}
		if err != nil {
			return err
		}
		all, _ := nats.DecodeHeadersMsg(m.RawHdr) // none where they cannot be read, as in what is delivered
		rec := r.log.prefix.Record(m.Subject, m.Seq, m.Time.UTC(), all, m.Data)
		if err := r.give(&rec); err != nil {
			return err
		}
	}
	return nil
}

// consume reads what there is, and then what comes where it follows.
func (r *reading) consume(ctx context.Context) error {
	var feeds []*feed
	var upTo []uint64
	defer func() {
		for _, f := range feeds {
			f.close()
		}
	}()
	open := func(subjects []string, reach uint64) error {
		f, err := openFeed(ctx, r.log.nc, r.log.stream, natsjs.ConsumerConfig{
			DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: r.from, FilterSubjects: subjects,
		}, feedBuffer)
		if err == nil {
			feeds, upTo = append(feeds, f), append(upTo, reach)
		}
		return err
	}
	for n, reach := range r.reach {
		if r.from > reach {
			continue
		}
		// Each subject has a consumer of its own: for one with several the server looks
		// at every subject of the log again and again (measured: four times as slow).
		var own []string
		if len(r.subjects) > 0 {
			own = r.subjects[n : n+1]
		}
		if err := open(own, reach); err != nil {
			return err
		}
	}
	closeAll := func() {
		for _, f := range feeds {
			f.close()
		}
		feeds, upTo = nil, nil
	}
	give := r.give
	if r.dense(feeds, upTo) {
		last := slices.Max(upTo)
		closeAll()
		if err := open(nil, last); err != nil {
			return err
		}
		give = r.giveWanted
	}
	if err := r.log.readFeeds(ctx, feeds, upTo, give); err != nil || !r.follow {
		return err
	}
	r.from = max(r.from, r.to+1)
	closeAll()
	if err := open(r.subjects, 0); err != nil {
		return err
	}
	return r.log.readFeeds(ctx, feeds, upTo, r.give)
}

func (r *reading) give(rec *events.Recorded) error {
	r.stopped = r.each(rec)
	r.given, r.from = rec.Seq, rec.Seq+1
	return r.stopped
}
