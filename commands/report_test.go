package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// launch makes an instance as a leader would.
func (p *process) launch(t testing.TB, id string) {
	t.Helper()
	p.write(t, domainD.InstanceKey(id), events.LaunchRequested{LaunchID: "l", DeployableType: "t", Site: "here", Allocation: "small"})
	p.end(t)
}

func (p *process) report(ctx context.Context, id, body string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.reporter.Handle(ctx, id, []byte(body)) }()
	return done
}

func TestReporter_Handle(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	p.must(t, addD)
	tests := []struct {
		name    string
		reports []string // without node_id
		state   events.InstanceState
		fields  string // JSON of the reported fields
		events  uint64 // how many reports became events
	}{
		{"forward", []string{`"state":"200-REQUESTED"`, `"state":"600-RUNNING","public_ip":"1"`}, events.Running, `{"public_ip":"1"}`, 2},
		{"never back", []string{`"state":"600-RUNNING"`, `"state":"400-PENDING","public_ip":"1"`}, events.Running, `{}`, 1},
		{"merged", []string{`"state":"400-PENDING","a":1,"b":{"x": 1}`, `"state":"500-STARTED","b":{"y":2},"c":null`}, events.Started, `{"a":1,"b":{"y":2},"c":null}`, 2},
		{"same state without counters", []string{`"state":"500-STARTED"`, `"state":"500-STARTED","ip":"1"`, `"state":"500-STARTED","ip":"2"`}, events.Started, `{"ip":"2"}`, 3},
		{"same state, nothing new", []string{`"state":"500-STARTED","a":{"b":[1, 2]}`, `"state":"500-STARTED","a":{"b":[1,2]}`, `"state":"500-STARTED"`}, events.Started, `{"a":{"b":[1,2]}}`, 1},
		{"same state, higher counter", []string{`"state":"500-STARTED","update_counter":9`, `"state":"500-STARTED","update_counter":10,"a":1`}, events.Started, `{"a":1,"update_counter":10}`, 2},
		{"same state, equal or lower counter", []string{`"state":"500-STARTED","update_counter":9`, `"state":"500-STARTED","update_counter":9,"a":1`, `"state":"500-STARTED","update_counter":8,"a":1`}, events.Started, `{"update_counter":9}`, 1},
		{"same state, higher counter above the exact floats", []string{`"state":"500-STARTED","update_counter":9007199254740992`, `"state":"500-STARTED","update_counter":9007199254740993,"a":1`}, events.Started, `{"a":1,"update_counter":9007199254740993}`, 2},
		{"same state, lower counter above the exact floats", []string{`"state":"500-STARTED","update_counter":9007199254740993`, `"state":"500-STARTED","update_counter":9007199254740992,"a":1`}, events.Started, `{"update_counter":9007199254740993}`, 1},
		{"same state, counters that are no integers", []string{`"state":"500-STARTED","update_counter":1.5`, `"state":"500-STARTED","update_counter":2,"a":1`, `"state":"500-STARTED","update_counter":2.0,"b":1`}, events.Started, `{"a":1,"update_counter":2}`, 2},
		{"same state, counter lost", []string{`"state":"500-STARTED","update_counter":9`, `"state":"500-STARTED","a":1`}, events.Started, `{"update_counter":9}`, 1},
		{"same state, counter new", []string{`"state":"500-STARTED"`, `"state":"500-STARTED","update_counter":1`}, events.Started, `{"update_counter":1}`, 2},
		{"later state, lower counter", []string{`"state":"400-PENDING","update_counter":9`, `"state":"500-STARTED","update_counter":1`}, events.Started, `{"update_counter":1}`, 2},
		{"own fields are kept", []string{`"state":"500-STARTED","launch_id":"x","site":"x","health":"OK","errors":[1],"seq":99,"owner":"x","instance_id":"x","a":1`}, events.Started, `{"a":1}`, 1},
		{"failed", []string{`"state":"900-FAILED"`}, events.Failed, `{}`, 1},
	}
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprint("i", n)
			p.launch(t, id)
			before := p.end(t)
			for _, body := range tt.reports {
				if err := p.reporter.Handle(t.Context(), id, []byte(`{ "node_id":"`+id+`",`+body+`}`)); err != nil {
					t.Fatalf("%s: %v", body, err)
				}
				p.end(t)
			}
			i := p.instance(t, id)
			fields := map[string]json.RawMessage{}
			for _, f := range i.Fields {
				fields[f.Name] = f.Value
			}
			got, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			if i.State != tt.state || string(got) != tt.fields || p.end(t)-before != tt.events {
				t.Errorf("%s with %s after %d events; want %s with %s after %d", i.State, got, p.end(t)-before, tt.state, tt.fields, tt.events)
			}
			if i.LaunchID != "l" || i.Site != "here" || i.Health != events.HealthUnknown || i.Errors != nil {
				t.Errorf("a report set what it may not: %+v", i)
			}
		})
	}
	select {
	case o := <-p.orphans:
		t.Errorf("orphan %s", o)
	default:
	}
}

func TestReporter_Handle_DeadLetters(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	p.must(t, addD)
	p.launch(t, "i")
	big := strings.Repeat("x", 40<<10)
	if err := p.reporter.Handle(t.Context(), "i", []byte(`{"node_id":"i","state":"400-PENDING","a":"`+big+`"}`)); err != nil {
		t.Fatal(err)
	}
	before := p.end(t)
	for name, body := range map[string]string{
		"empty":             ``,
		"a list":            `[]`,
		"null":              `null`,
		"cut off":           `{"node_id":"i","state":"500-STARTED"`,
		"trailing":          `{"node_id":"i","state":"500-STARTED"} x`,
		"another node":      `{"node_id":"j","state":"500-STARTED"}`,
		"no node":           `{"state":"500-STARTED"}`,
		"node of a type":    `{"node_id":1,"state":"500-STARTED"}`,
		"unknown state":     `{"node_id":"i","state":"550-SLEEPING"}`,
		"no state":          `{"node_id":"i"}`,
		"not UTF-8":         "{\"node_id\":\"i\",\"state\":\"500-STARTED\",\"a\":\"\xff\"}",
		"doubled":           `{"node_id":"i","state":"500-STARTED","a":1,"a":2}`,
		"instance too big":  `{"node_id":"i","state":"500-STARTED","b":"` + big + `"}`,
		"too deep":          `{"node_id":"i","state":"500-STARTED","a":` + nested(101) + `}`,
		"far too deep":      `{"node_id":"i","state":"500-STARTED","a":` + nested(9_998) + `}`,
		"no end to it":      `{"node_id":"i","state":"500-STARTED","a":` + nested(20_000) + `}`,
		"same state, large": `{"node_id":"i","state":"400-PENDING","b":"` + big + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			err := p.reporter.Handle(t.Context(), "i", []byte(body))
			if dead, ok := errors.AsType[*events.DeadLetterError](err); !ok || dead.Reason == "" {
				t.Errorf("got %v, want a dead letter with its reason", err)
			}
		})
	}
	if err := p.reporter.Handle(t.Context(), "i", []byte(`{"node_id":"i","state":"500-STARTED","a":"`+big+`x"}`)); err != nil {
		t.Errorf("a large field in place of another: %v", err)
	}
	if err := p.reporter.Handle(t.Context(), "i", []byte(`{"node_id":"i","state":"600-RUNNING","deep":`+nested(100)+`}`)); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	if end := p.end(t); end != before+2 {
		t.Errorf("%d events, want 2", end-before)
	}
}

// nested is a list so many levels deep.
func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

func TestReporter_Handle_Unknown(t *testing.T) {
	both := startCell(t, 2)
	a, b := both[0], both[1]
	a.must(t, addF)
	a.must(t, addD)
	t.Run("not yet folded", func(t *testing.T) {
		b.end(t)
		release := b.hold()
		a.launch(t, "new")
		done := b.report(t.Context(), "new", `{"node_id":"new","state":"600-RUNNING"}`)
		release()
		if err := <-done; err != nil || a.instance(t, "new").State != events.Running {
			t.Errorf("a report of an instance that the replica did not know yet: %v", err)
		}
	})
	t.Run("orphans", func(t *testing.T) {
		a.launch(t, "old")
		for _, r := range []struct{ id, body, orphan string }{
			{"nobody", `"state":"600-RUNNING","site":"here"`, "nobody@here"},
			{"nobody", `"state":"600-RUNNING","site":7`, "nobody@"},
			{"nobody", `"state":"800-TERMINATED","site":"here"`, ""},
			{"old", `"state":"800-TERMINATED","site":"here"`, ""},
			{"old", `"state":"600-RUNNING","site":"there"`, "old@there"},
			{"old", `"state":"700-TERMINATING"`, "old@"},
			{"old", `"state":"900-FAILED"`, ""},
		} {
			if err := a.reporter.Handle(t.Context(), r.id, []byte(`{"node_id":"`+r.id+`",`+r.body+`}`)); err != nil {
				t.Fatal(err)
			}
			a.end(t)
			got := ""
			select {
			case got = <-a.orphans:
			default:
			}
			if got != r.orphan {
				t.Errorf("%s %s: orphan %q, want %q", r.id, r.body, got, r.orphan)
			}
		}
	})
	t.Run("no barrier", func(t *testing.T) {
		a.source.down.Store(true)
		defer a.source.down.Store(false)
		err := a.reporter.Handle(t.Context(), "nobody", []byte(`{"node_id":"nobody","state":"600-RUNNING"}`))
		if _, dead := errors.AsType[*events.DeadLetterError](err); err == nil || dead {
			t.Errorf("got %v, want an error that has it delivered again", err)
		}
	})
}

// As the reference's test_instance_update_conflict_1 and _2: another worker is
// first with its report, and the later state wins whoever sends it.
func TestReporter_Handle_Conflict(t *testing.T) {
	both := startCell(t, 2)
	a, b := both[0], both[1]
	a.must(t, addF)
	a.must(t, addD)
	for n, tt := range []struct {
		sneaky, report string
		conflicts      int64
	}{
		{"400-PENDING", "500-STARTED", 1},
		{"500-STARTED", "400-PENDING", 1},
	} {
		t.Run(tt.sneaky+" is first", func(t *testing.T) {
			id := fmt.Sprint("i", n)
			a.launch(t, id)
			b.end(t)
			release, before := b.hold(), b.log.conflicts.Load()
			if err := <-a.report(t.Context(), id, `{"node_id":"`+id+`","state":"`+tt.sneaky+`","by":"a"}`); err != nil {
				t.Fatal(err)
			}
			done := b.report(t.Context(), id, `{"node_id":"`+id+`","state":"`+tt.report+`","at":"b"}`)
			eventually(t, "conflict", func() bool { return b.log.conflicts.Load() == before+tt.conflicts })
			release()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if i := a.instance(t, id); i.State != events.Started || string(i.Fields.Get("by")) != `"a"` {
				t.Errorf("%s %+v", i.State, i.Fields)
			}
		})
	}
}

func TestReporter_Handle_LogUnavailable(t *testing.T) {
	p := startCell(t, 1)[0]
	p.must(t, addF)
	p.must(t, addD)
	p.launch(t, "i")
	p.reporter.Log = failing{}
	err := p.reporter.Handle(t.Context(), "i", []byte(`{"node_id":"i","state":"600-RUNNING"}`))
	if !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ commands.Log }

func (failing) Append(context.Context, events.Draft) (uint64, error) {
	return 0, events.ErrUnavailable
}

func FuzzReporter_Handle(f *testing.F) {
	state := fold([]happened{
		{domainD.Key(), events.DomainAdded{DefinitionID: "f"}},
		{domainD.InstanceKey("i"), events.LaunchRequested{LaunchID: "l"}},
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		log := &recorder{}
		r := &commands.Reporter{Log: log, Replica: stillReplica{state}, NewID: func() string { return "id" }}
		err := r.Handle(t.Context(), "i", body)
		if err != nil {
			if _, ok := errors.AsType[*events.DeadLetterError](err); !ok {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		for _, d := range log.drafts {
			data, err := events.Encode(d.Event)
			if err != nil {
				t.Fatalf("an event that cannot be encoded: %v", err)
			}
			if diff := cmp.Diff(d.Event, events.Decode(d.Event.Type(), data)); diff != "" {
				t.Fatal("the event is another one once it was in the log:", diff)
			}
		}
	})
}

// recorder keeps what would be appended, for a pure function's fuzz target.
type recorder struct {
	commands.Log
	drafts []events.Draft
}

func (r *recorder) Append(_ context.Context, d events.Draft) (uint64, error) {
	r.drafts = append(r.drafts, d)
	return 1, nil
}
