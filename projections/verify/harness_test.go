package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
	"github.com/seed-524e47bf/epum/projections/verify"
)

var (
	created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	web     = events.DomainID{Owner: "al", Name: "web"}
	def     = events.DefinitionKey("d")
)

const prefix = events.DefaultPrefix

// message is one of a log that is made by hand.
type message struct {
	subject string
	seq     uint64
	time    time.Time
	header  map[string][]string
	body    string
	loose   bool // its seal is left as it is
}

// log is a verify.Log in memory.
type log struct {
	messages []*message
	last     map[events.Key]uint64
	end      projections.Position
}

// draft is what a log is made of.
type draft struct {
	key   events.Key
	ev    events.Event
	guard any // nil: on the key itself, as it is; false: none; an events.Key: on that
	cause string
}

func (l *log) put(d draft, epoch uint64, more ...string) *message {
	body, err := events.Encode(d.ev)
	if err != nil {
		panic(err)
	}
	seq := uint64(len(l.messages) + 1)
	m := &message{subject: prefix.Event(d.key), seq: seq, time: created.Add(time.Duration(seq) * time.Second), body: string(body), header: map[string][]string{
		events.HeaderSpecVersion: {"1.0"}, events.HeaderID: {fmt.Sprint("id", seq)}, events.HeaderSource: {"/epum/p"},
		events.HeaderType: {d.ev.Type()}, events.HeaderCETime: {created.Format(time.RFC3339)}, events.HeaderActor: {"al"},
	}}
	m.set(events.HeaderCausation, d.cause)
	if epoch > 0 {
		m.set(events.HeaderCEEpoch, fmt.Sprint(epoch))
	}
	switch on := d.guard.(type) {
	case nil:
		m.set(events.HeaderGuard, fmt.Sprint(l.last[d.key]))
	case events.Key:
		m.set(events.HeaderGuard, fmt.Sprint(l.last[on]))
		m.set(events.HeaderGuardSubject, prefix.Event(on))
	}
	for n := 0; n < len(more); n += 2 {
		m.set(more[n], more[n+1])
	}
	l.last[d.key] = seq
	l.messages = append(l.messages, m)
	return m
}

func (m *message) set(name, value string) {
	if value != "" {
		m.header[name] = []string{value}
	}
}

// pass puts a leader's batch of a pass that changes one thing.
func (l *log) pass(drafts ...draft) {
	l.batch(2, append([]draft{{key: events.PassKey, ev: events.PassCommitted{Pass: "doctor", Changed: 1}}}, drafts...)...)
}

// batch puts a leader's batch.
func (l *log) batch(epoch uint64, drafts ...draft) {
	id := fmt.Sprint("batch", len(l.messages))
	drafts[0].guard = events.LeaderKey
	for n, d := range drafts {
		commit := ""
		if n == len(drafts)-1 {
			commit = "1"
		}
		l.put(d, epoch, events.HeaderBatchID, id, events.HeaderBatchSeq, strconv.Itoa(n+1), events.HeaderBatchCommit, commit)
	}
}

// life is a sound log: a domain that comes, and what becomes of it.
//
//	1 definition added, 2 leader elected, 3 domain added
//	4-7 pass, decision, launches of i and j; 8, 9 they run
//	10, 11 pass, health of i changed; 12 removal requested
//	13-16 pass, decision, terminations; 17, 18 they are terminated
//	19-22 pass, reaped, domain removed
//	23 domain added again, 24-26 pass, decision, launch of k; 27 definition updated
func life() *log {
	l := &log{last: map[events.Key]uint64{}}
	i, j, k := web.InstanceKey("i"), web.InstanceKey("j"), web.InstanceKey("k")
	state := func(key events.Key, s events.InstanceState) {
		l.put(draft{key: key, ev: events.StateChanged{State: s}}, 0)
	}
	pass := func(p events.PassCommitted) draft { return draft{key: events.PassKey, ev: p} }
	launch := events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "a"}
	l.put(draft{key: def, ev: events.DefinitionAdded{}}, 0)
	l.put(draft{key: events.LeaderKey, ev: events.LeaderElected{Process: "p"}}, 0)
	l.put(draft{key: web.Key(), ev: events.DomainAdded{DefinitionID: "d"}}, 0)
	l.batch(2, pass(events.PassCommitted{Pass: "decide", Launched: 2, Changed: 1}),
		draft{key: web.DecisionKey(), ev: events.DecisionMade{DomainSeq: 3, ConfigSeq: 3, InputSeq: 3, Launches: []string{"i", "j"}}},
		draft{key: i, ev: launch, guard: web.Key(), cause: "id5"}, draft{key: j, ev: launch, cause: "id5"})
	state(i, events.Running)
	state(j, events.Running)
	l.batch(2, pass(events.PassCommitted{Pass: "doctor", Changed: 1}), draft{key: i, ev: events.HealthChanged{Health: events.HealthOK}})
	l.put(draft{key: web.Key(), ev: events.DomainRemovalRequested{}}, 0)
	l.batch(2, pass(events.PassCommitted{Pass: "decide", Terminated: 2, Changed: 1}),
		draft{key: web.DecisionKey(), ev: events.DecisionMade{DomainSeq: 3, ConfigSeq: 3, InputSeq: 12, Terminations: []string{"i", "j"}}},
		draft{key: i, ev: events.TerminateRequested{}, guard: web.Key(), cause: "id14"},
		draft{key: j, ev: events.TerminateRequested{}, guard: false, cause: "id14"})
	state(i, events.Terminated)
	state(j, events.Terminated)
	l.batch(2, pass(events.PassCommitted{Pass: "decide", Changed: 3}),
		draft{key: i, ev: events.Reaped{}}, draft{key: j, ev: events.Reaped{}}, draft{key: web.Key(), ev: events.DomainRemoved{}})
	l.put(draft{key: web.Key(), ev: events.DomainAdded{DefinitionID: "d"}}, 0)
	l.batch(2, pass(events.PassCommitted{Pass: "decide", Launched: 1, Changed: 1}),
		draft{key: web.DecisionKey(), ev: events.DecisionMade{DomainSeq: 23, ConfigSeq: 23, InputSeq: 23, Launches: []string{"k"}}},
		draft{key: k, ev: launch, guard: web.Key(), cause: "id25"})
	l.put(draft{key: def, ev: events.DefinitionUpdated{}}, 0)
	return l
}

// at is the message at a sequence.
func (l *log) at(seq uint64) *message { return l.messages[seq-1] }

// add puts a message at the end, of no leader; a nil guard is on its own key.
func (l *log) add(key events.Key, ev events.Event) *message { return l.put(draft{key: key, ev: ev}, 0) }

func (m *message) event(ev events.Event) {
	body, err := events.Encode(ev)
	if err != nil {
		panic(err)
	}
	m.body = string(body)
	m.set(events.HeaderType, ev.Type())
}

func (m *message) drop(names ...string) {
	for _, name := range names {
		delete(m.header, name)
	}
}

// seal seals all messages that are not loose.
func (l *log) seal() {
	for _, m := range l.messages {
		if !m.loose {
			m.set(events.HeaderSeal, events.Seal(m.subject, m.header, []byte(m.body)))
		}
	}
}

// End implements verify.Log, as History does.
func (l *log) End(context.Context) (projections.Position, error) {
	if l.end.Created.IsZero() {
		return projections.Position{Seq: l.messages[len(l.messages)-1].seq, Created: created}, nil
	}
	return l.end, nil
}

func (l *log) History(_ context.Context, q projections.Query, each func(*events.Recorded) error) error {
	for _, r := range l.records() {
		if r.Seq < q.From.Seq || r.Seq > q.To.Seq {
			continue
		}
		if err := each(&r); err != nil {
			return err
		}
	}
	return nil
}

func (l *log) records() (all []events.Recorded) {
	for _, m := range l.messages {
		all = append(all, prefix.Record(m.subject, m.seq, m.time, m.header, []byte(m.body)))
	}
	return all
}

// fold folds the log.
func (l *log) fold() *events.State {
	s := events.NewState()
	for _, r := range l.records() {
		events.Apply(s, r.Envelope, r.Event)
	}
	return s
}

// bucket is a verify.Bucket in memory.
type bucket map[events.Key][]byte

// bucketOf is the bucket that the projector of a log has left.
func bucketOf(l *log) bucket {
	s, b := l.fold(), bucket{}
	for k, d := range s.Documents() {
		b[k] = d.AppendJSON(nil)
	}
	b.checkpoint(func(c *projections.Checkpoint) {
		*c = projections.Checkpoint{
			Seq: s.Seq, Time: s.Time, Digest: s.Digest, Created: created, FoldVersion: events.FoldVersion,
			EventID: l.records()[len(l.messages)-1].ID,
		}
	})
	return b
}

func (b bucket) checkpoint(change func(*projections.Checkpoint)) {
	var c projections.Checkpoint
	_ = json.Unmarshal(b[events.CheckpointKey], &c) // none at first
	change(&c)
	b[events.CheckpointKey], _ = json.Marshal(c)
}

func (b bucket) Read(_ context.Context, keys ...events.Key) (entries []projections.Entry, _ error) {
	for _, k := range keys {
		if value, ok := b[k]; ok {
			entries = append(entries, projections.Entry{Key: k, Value: value})
		}
	}
	return entries, nil
}

func (b bucket) All(_ context.Context, each func(projections.Entry) error) error {
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if err := each(projections.Entry{Key: k, Value: b[k]}); err != nil {
			return err
		}
	}
	return nil
}

// run gives what is found, a line each: "kind seq what".
func run(t *testing.T, l verify.Log, b verify.Bucket, change ...func(*verify.Config)) (found []string, s verify.Summary) {
	t.Helper()
	cfg := verify.Config{Log: l, Bucket: b, SealedFrom: 1, Report: func(f verify.Finding) error {
		if f.What == "" || f.Do == "" || f.Kind == "" {
			t.Errorf("it does not say all: %+v", f)
		}
		kind := string(f.Kind)
		if f.Warning {
			kind = "warning " + kind
		}
		if f.Kind == verify.KindBucket {
			kind += " " + f.Subject
		}
		found = append(found, fmt.Sprintf("%s %d %s", kind, f.Seq, f.What))
		return nil
	}}
	for _, c := range change {
		c(&cfg)
	}
	s, err := verify.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return found, s
}
