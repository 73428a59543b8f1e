package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// longSpan is from how many messages on a reading is traced: for a consumer the
	// server looks at each message of the log, at some 4,000,000 a second for each
	// filter.
	longSpan = 50_000
	// mostTraced is how many events are traced, each with a request of its own.
	mostTraced = 5000
	// mostTracedBytes is how much memory they may take.
	mostTracedBytes = 16 << 20
	// tracedAtOnce is how many requests are under way.
	tracedAtOnce = 256
)

// errNoTrace is returned where events cannot be traced, or have moved meanwhile.
var errNoTrace = errors.New("jetstream: not traced")

// trace reads events backwards: the guard of each names the one before on its subject,
// so that a reading costs what it gives, however long the log is. It gives a whole
// history or none: each subject must have as many events as the stream's leader says.
type trace struct {
	log    *Log
	end    uint64            // of the log, before anything was counted
	left   map[string]uint64 // subject → events that are yet to be found
	open   map[string]traced // by the token of the request
	queue  []traced          // to be asked for
	asked  int
	found  []events.Recorded
	bytes  int
	inbox  string
	answer chan *nats.Msg
}

// traced is a request for an event of a subject.
type traced struct {
	subject, api, body string
	rest               uint64 // of a request for so many events at once: those that are yet to come
}

// trace gives what is wanted of a few subjects up to now, if tracing is the cheaper way.
// Where it is not, or does not work out, it gives nothing, and the rest of the reading
// does it all.
func (r *reading) trace(ctx context.Context) error {
	if len(r.subjects) == 0 || slices.Max(r.reach) < r.from+longSpan {
		return nil
	}
	t := &trace{log: r.log, end: r.end, left: map[string]uint64{}, open: map[string]traced{}}
	if t.run(ctx, r.subjects) != nil || t.twice() {
		return ctx.Err()
	}
	from := r.from
	for n := range t.found {
		if seq := t.found[n].Seq; seq < from || seq > r.to {
			continue
		}
		if err := r.give(&t.found[n]); err != nil {
			return err
		}
	}
	r.from = r.to + 1
	return nil
}

// twice sorts what was found, and reports whether it has an event twice: then another is
// missing, as where a server that lags has answered.
func (t *trace) twice() bool {
	slices.SortFunc(t.found, func(a, b events.Recorded) int { return cmp.Compare(a.Seq, b.Seq) })
	for n := 1; n < len(t.found); n++ {
		if t.found[n].Seq == t.found[n-1].Seq {
			return true
		}
	}
	return false
}

// traceable reports whether a filter stands for few subjects: of one aggregate, or of
// the instances of a domain.
func (l *Log) traceable(filter string) bool {
	key, wild := strings.CutSuffix(string(l.prefix.EventKey(filter)), ".*")
	return !strings.ContainsAny(key, "*>") && (!wild || events.Key(key).Kind() == events.KindInstance && strings.Count(key, ".") == 2)
}

func (t *trace) run(ctx context.Context, filters []string) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	for _, filter := range filters {
		if !t.log.traceable(filter) {
			return errNoTrace
		}
		if err := t.count(ctx, filter); err != nil {
			return err
		}
	}
	t.inbox, t.answer = t.log.nc.NewInbox(), make(chan *nats.Msg, 2*mostTraced)
	sub, err := t.log.nc.ChanSubscribe(t.inbox+".*", t.answer)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	for subject := range maps.Keys(t.left) {
		t.queue = append(t.queue, traced{subject: subject, api: "." + subject})
	}
	for len(t.left) > 0 {
		if err := t.ask(); err != nil {
			return err
		}
		select {
		case m := <-t.answer:
			if err := t.hear(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// count asks the stream's leader how many events the subjects of a filter have.
func (t *trace) count(ctx context.Context, filter string) error {
	var answer struct {
		Error *apiError `json:"error"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	err := askAPI(ctx, t.log.nc, "STREAM.INFO."+t.log.stream, map[string]string{"subjects_filter": filter}, &answer)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		return err
	}
	maps.Copy(t.left, answer.State.Subjects)
	total := uint64(0)
	for _, n := range t.left {
		total += n
	}
	if total > mostTraced {
		return errNoTrace
	}
	return nil
}

// ask sends requests, as many as may be under way.
func (t *trace) ask() error {
	for len(t.queue) > 0 && len(t.open) < tracedAtOnce {
		next := t.queue[len(t.queue)-1]
		t.queue = t.queue[:len(t.queue)-1]
		t.asked++
		token := strconv.Itoa(t.asked)
		t.open[token] = next
		if err := t.log.nc.PublishRequest("$JS.API.DIRECT.GET."+t.log.stream+next.api, t.inbox+"."+token, []byte(next.body)); err != nil {
			return err
		}
	}
	return nil
}

// hear takes an answer, and asks for the event before it.
func (t *trace) hear(m *nats.Msg) error {
	token := m.Subject[len(t.inbox)+1:]
	request, open := t.open[token]
	if !open {
		return nil // the end of several
	}
	subject, several := request.subject, request.rest > 0
	if request.rest > 1 {
		request.rest--
		t.open[token] = request
	} else {
		delete(t.open, token)
	}
	seq, err := strconv.ParseUint(answerHeader(m.Header, "Nats-Sequence"), 10, 64)
	if err != nil || answerHeader(m.Header, "Nats-Subject") != subject || seq > t.end {
		return fmt.Errorf("%w: no event of %s up to %d: %s", errNoTrace, subject, t.end, events.Header(m.Header, "Status"))
	}
	stored, err := time.Parse(time.RFC3339Nano, answerHeader(m.Header, "Nats-Time-Stamp"))
	if err != nil {
		return err
	}
	header := asStored(m.Header, several)
	t.found = append(t.found, t.log.prefix.Record(subject, seq, stored.UTC(), header, m.Data))
	if t.bytes += len(m.Data); t.bytes > mostTracedBytes {
		return errNoTrace
	}
	if t.left[subject]--; t.left[subject] == 0 {
		delete(t.left, subject)
		return nil
	}
	if !several {
		t.queue = append(t.queue, t.before(subject, seq, header))
	}
	return nil
}

// before is the request for the event of a subject before one, which its guard names. It
// has none on its own subject where it commutes with others, or is the first of a batch:
// then all the rest of the subject is asked for, from its first event on.
func (t *trace) before(subject string, seq uint64, header nats.Header) traced {
	guard := events.Header(header, events.HeaderGuard)
	if n, err := strconv.ParseUint(guard, 10, 64); err == nil && n > 0 && n < seq && events.Header(header, events.HeaderGuardSubject) == "" {
		return traced{subject: subject, body: `{"seq":` + guard + `}`}
	}
	rest := t.left[subject]
	body, _ := json.Marshal(map[string]any{"next_by_subj": subject, "seq": 1, "batch": rest}) // which cannot fail
	return traced{subject: subject, body: string(body), rest: rest}
}

// asStored are the headers of an answer to a direct get without those that the server
// has added, each behind what the message has of that name.
func asStored(h nats.Header, several bool) nats.Header {
	added := []string{events.HeaderStream, "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}
	if several {
		added = append(added, "Nats-Num-Pending", "Nats-Last-Sequence")
	}
	for _, name := range added {
		if values := h[name]; len(values) > 1 {
			h[name] = values[:len(values)-1]
		} else {
			delete(h, name)
		}
	}
	if len(h) == 0 {
		return nil
	}
	return h
}
