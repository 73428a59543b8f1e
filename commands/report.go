package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed-524e47bf/epum/events"
)

// Reporter takes the instance_info reports of provisioners and agents. It is
// safe for concurrent use; its fields are not to be changed once it is in use.
type Reporter struct {
	Log     Log
	Replica Replica
	NewID   func() string
	// Orphan hears of an instance that lives though it should not: the leader
	// is to terminate it at the site of its report ("": it gave none).
	Orphan func(nodeID, site string)
	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now
}

// report is an instance_info as it was sent.
type report struct {
	nodeID string
	state  events.InstanceState
	site   string
	fields events.Fields // all of them, compact
}

// Handle takes one report about the instance that the subject names. nil means
// that it is dealt with, also where it was dropped; an *events.DeadLetterError
// that it never can be; any other error that it is to be delivered again.
func (r *Reporter) Handle(ctx context.Context, nodeID string, body []byte) error {
	_, err := r.handle(ctx, nodeID, body)
	return err
}

// Lane gives a Handle for reports of one instance, called one after the other.
// Each is decided on once its predecessor's event is folded: without that it would
// only run into its guard.
func (r *Reporter) Lane() func(ctx context.Context, nodeID string, body []byte) error {
	var last uint64
	return func(ctx context.Context, nodeID string, body []byte) error {
		if err := r.Replica.WaitFor(ctx, last); err != nil {
			return fmt.Errorf("report of %s: %w", nodeID, err)
		}
		seq, err := r.handle(ctx, nodeID, body)
		last = max(last, seq)
		return err
	}
}

// handle gives the sequence of the report's event; 0: it has none.
func (r *Reporter) handle(ctx context.Context, nodeID string, body []byte) (seq uint64, err error) {
	rep, err := decodeReport(nodeID, body)
	if err != nil {
		return 0, err
	}
	now := r.Now
	if now == nil {
		now = time.Now
	}
	id := r.NewID()
	for deadline, sure := now().Add(RetryFor), false; ; {
		i, err := r.look(nodeID)
		if err != nil {
			return 0, err
		}
		seq, err := r.accept(ctx, id, i, rep)
		conflict, refused := errors.AsType[*events.ConflictError](err)
		switch {
		case refused && now().Before(deadline):
			err = r.catchUp(ctx, i, conflict)
		case err != nil || seq > 0:
			return seq, err
		case sure:
			r.drop(i, rep)
			return 0, nil
		default:
			// What is no news to this replica may be to the log's end.
			_, err = r.Replica.Barrier(ctx)
			sure = true
		}
		if err != nil {
			return 0, fmt.Errorf("catch up for a report of %s: %w", nodeID, err)
		}
	}
}

// look gives the instance, nil where there is none.
func (r *Reporter) look(nodeID string) (i *events.Instance, err error) {
	r.Replica.View(func(s *events.State) {
		if i = s.Instance(nodeID); i == nil || !s.HasUnknown() {
			return
		}
		if unknown := s.Unknown(i.Domain.InstanceKey(i.ID)); unknown != "" {
			err = fmt.Errorf("report of %s: %w: this process does not know %s", nodeID, events.ErrUnavailable, unknown)
		}
	})
	return i, err
}

// accept appends what the report says of an instance, if that is
// news, and gives the event's sequence; 0: it is none.
func (r *Reporter) accept(ctx context.Context, id string, i *events.Instance, rep *report) (seq uint64, err error) {
	if i == nil {
		return 0, nil
	}
	ev, news, err := decideReport(i, rep)
	if err != nil || !news {
		return 0, err
	}
	key := i.Domain.InstanceKey(i.ID)
	seq, err = r.Log.Append(ctx, events.Draft{
		ID: id, Key: key, Event: ev, Guard: events.Guard{Key: key, Seq: i.Seq}, Actor: i.ID,
	})
	if err != nil {
		return 0, fmt.Errorf("append report of %s: %w", i.ID, err)
	}
	return seq, nil
}

func (r *Reporter) catchUp(ctx context.Context, i *events.Instance, conflict *events.ConflictError) error {
	if conflict.Got > i.Seq {
		return r.Replica.WaitFor(ctx, conflict.Got)
	}
	_, err := r.Replica.Barrier(ctx)
	return err
}

// drop forgets a report that is no news of an instance, or is of one that nobody
// knows (nil). Below TERMINATED it may come from an orphan.
func (r *Reporter) drop(i *events.Instance, rep *report) {
	if i == nil {
		logger := r.Logger
		if logger == nil {
			logger = slog.Default()
		}
		logger.Warn("report of an unknown instance dropped", "instance", rep.nodeID, "state", string(rep.state), "site", rep.site)
	}
	if (i == nil || i.State.Terminal()) && rep.state < events.Terminated {
		r.orphan(rep)
	}
}

func (r *Reporter) orphan(rep *report) {
	if r.Orphan != nil {
		r.Orphan(rep.nodeID, rep.site)
	}
}

// decodeReport reads a report. It fails with an *events.DeadLetterError.
func decodeReport(nodeID string, body []byte) (*report, error) {
	malformed := func(format string, args ...any) (*report, error) {
		return nil, &events.DeadLetterError{Reason: fmt.Sprintf(format, args...)}
	}
	if jsontext.Value(body).Kind() != '{' {
		return malformed("the report is no JSON object")
	}
	form, err := ReadForm(body)
	if err != nil {
		return malformed("the report is malformed: %s", AsError(err).Message)
	}
	fields := make([]events.Field, len(form.fields))
	for n, f := range form.fields {
		value := jsontext.Value(f.value)
		if bytes.ContainsAny(value, " \t\r\n") {
			value = value.Clone()
			if err := value.Compact(); err != nil {
				return malformed("the report is malformed: %s: %v", f.name, err)
			}
		}
		fields[n] = events.Field{Name: f.name, Value: json.RawMessage(value)}
	}
	rep := &report{fields: events.SortedFields(fields)}
	rep.nodeID, _ = form.text("node_id")
	if rep.nodeID != nodeID {
		return malformed("node_id %q differs from the subject's %q", rep.nodeID, nodeID)
	}
	state, _ := form.text("state")
	if rep.state = events.InstanceState(state); !rep.state.Known() {
		return malformed("unknown state %q", state)
	}
	if site := rep.fields.Get("site"); jsontext.Value(site).Kind() == '"' {
		rep.site, _ = form.text("site")
	}
	if events.CheckName(rep.site) != nil {
		rep.site = "" // nobody's: it becomes part of a subject
	}
	return rep, nil
}

// decideReport is pure: what a report changes on an instance (design §4).
func decideReport(i *events.Instance, rep *report) (ev events.StateChanged, news bool, err error) {
	if rep.state < i.State {
		return ev, false, nil
	}
	fields := i.NewFields(rep.fields)
	if rep.state == i.State && (len(fields) == 0 || !laterCounter(i.Fields.Get(updateCounter), rep.fields.Get(updateCounter))) {
		return ev, false, nil
	}
	if size := documentSize(i, fields); size > events.MaxInstanceBytes {
		return ev, false, &events.DeadLetterError{
			Reason: fmt.Sprintf("the instance would have %d bytes, at most %d are allowed", size, events.MaxInstanceBytes),
		}
	}
	return events.StateChanged{State: rep.state, Fields: fields}, true, nil
}

const updateCounter = "update_counter"

// laterCounter reports whether a report of the known state is news: the known
// record has no counter, or both have one and the report's is higher.
func laterCounter(known, reported json.RawMessage) bool {
	k, ok := counter(known)
	if !ok {
		return true
	}
	r, ok := counter(reported)
	return ok && (r > k || r == k && laterInteger(known, reported))
}

// laterInteger compares integers that may be too long for a float; what is none is
// no later.
func laterInteger(known, reported json.RawMessage) bool {
	k, ok := new(big.Int).SetString(string(known), 10)
	r, both := new(big.Int).SetString(string(reported), 10)
	return ok && both && r.Cmp(k) > 0
}

// counter reads a number; what is none counts as absent.
func counter(v json.RawMessage) (float64, bool) {
	n, err := strconv.ParseFloat(string(v), 64)
	return n, err == nil
}

// documentSize bounds the bytes of an instance's document once it has the
// fields; it is exact where that is near the limit.
func documentSize(i *events.Instance, fields events.Fields) int {
	const own = 4 << 10 // names, times, and the short values that every instance has
	size := own + len(i.ExtraVars)
	for _, e := range i.Errors {
		size += len(e)
	}
	for _, f := range i.Fields {
		size += len(f.Name) + len(f.Value) + len(`,"":`)
	}
	for _, f := range fields {
		size += len(f.Name) + len(f.Value) + len(`,"":`)
	}
	if size <= events.MaxInstanceBytes/2 {
		return size
	}
	next := *i
	next.Fields = events.SortedFields(slices.Concat(i.Fields, fields))
	return len(next.AppendJSON(nil))
}
