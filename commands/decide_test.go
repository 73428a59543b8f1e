package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

const owner = "alice"

var (
	domainD = events.DomainID{Owner: owner, Name: "d"}
	defined = []happened{{events.DefinitionKey("f"), events.DefinitionAdded{Definition: events.Config{
		General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"n":1,"site":"s"}`),
	}}}}
	added = append(defined[:1:1], happened{domainD.Key(), events.DomainAdded{
		DefinitionID: "f", DefinitionSeq: 1, Config: conf(`{"n":1}`), SubscriberName: "sub", SubscriberOp: "op",
	}})
	draining = append(added[:2:2], happened{domainD.Key(), events.DomainRemovalRequested{}})
	gone     = append(draining[:3:3], happened{domainD.Key(), events.DomainRemoved{}})
	foreign  = []happened{defined[0], {events.DomainID{Owner: "bob", Name: "d"}.Key(), events.DomainAdded{DefinitionID: "f"}}}
)

// happened is one event of a log that a test makes up.
type happened struct {
	key   events.Key
	event events.Event
}

func fold(log []happened) *events.State {
	s := events.NewState()
	for n, h := range log {
		events.Apply(s, events.Envelope{Key: h.key, Seq: uint64(n + 1)}, h.event)
	}
	return s
}

func TestCommand_Decide(t *testing.T) {
	big := `"` + strings.Repeat("x", 200<<10) + `"`
	addD := func(c events.Config) commands.Command {
		return commands.AddDomain{DomainID: "d", DefinitionID: "f", Config: c}
	}
	reconf := func(c events.Config) commands.Command { return commands.ReconfigureDomain{DomainID: "d", Config: c} }
	subscribe := commands.SubscribeDomain{DomainID: "d", SubscriberName: "sub", SubscriberOp: "op"}
	tests := []struct {
		name  string
		log   []happened
		cmd   commands.Command
		want  events.Event
		same  bool // nothing changes
		seq   uint64
		code  int // 0: accepted
		field string
	}{
		{name: "add", log: defined, cmd: addD(conf(`{"n":2}`)), want: events.DomainAdded{
			DefinitionID: "f", DefinitionSeq: 1, Config: events.Config{
				General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"n":2,"site":"s"}`), Health: json.RawMessage(`{}`),
			},
		}},
		{name: "add with subscriber", log: defined, cmd: commands.AddDomain{DomainID: "d", DefinitionID: "f", SubscriberName: "a", SubscriberOp: "b"}, want: events.DomainAdded{
			DefinitionID: "f", DefinitionSeq: 1, SubscriberName: "a", SubscriberOp: "b", Config: events.Config{
				General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"n":1,"site":"s"}`), Health: json.RawMessage(`{}`),
			},
		}},
		{
			name: "add, merged one level deep, null kept", log: []happened{{events.DefinitionKey("f"), events.DefinitionAdded{Definition: conf(`{"n":1,"site":"s","vars":{"a":1}}`)}}},
			cmd: addD(conf(`{"site":null,"vars":{"b":2}}`)), want: events.DomainAdded{
				DefinitionID: "f", DefinitionSeq: 1, Config: events.Config{
					General: json.RawMessage(`{}`), EngineConf: json.RawMessage(`{"n":1,"site":null,"vars":{"b":2}}`), Health: json.RawMessage(`{}`),
				},
			},
		},
		{name: "add, exists", log: added, cmd: addD(events.Config{}), code: 409},
		{name: "add, drains", log: draining, cmd: addD(events.Config{}), code: 409},
		{name: "add, exists, unknown definition", log: added, cmd: commands.AddDomain{DomainID: "d", DefinitionID: "x"}, code: 409},
		{name: "add, another's", log: foreign, cmd: addD(conf(`{"n":1}`)), want: events.DomainAdded{
			DefinitionID: "f", DefinitionSeq: 1, Config: events.Config{
				General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"n":1,"site":"s"}`), Health: json.RawMessage(`{}`),
			},
		}},
		{name: "add, unknown definition", log: nil, cmd: addD(events.Config{}), code: 400, field: "definition_id"},
		{name: "add, incomplete", log: []happened{{events.DefinitionKey("f"), events.DefinitionAdded{}}}, cmd: addD(events.Config{}), code: 400, field: "config.engine_conf.n"},
		{name: "add, refused by the definition's engine", log: defined, cmd: addD(conf(`{"m":1}`)), code: 400, field: "config.engine_conf.m"},
		{
			name: "add, too large", log: []happened{{events.DefinitionKey("f"), events.DefinitionAdded{Definition: conf(`{"n":1,"vars":` + big + `}`)}}},
			cmd: addD(conf(`{"site":` + big + `}`)), code: 413,
		},

		{name: "remove", log: added, cmd: commands.RemoveDomain{DomainID: "d"}, want: events.DomainRemovalRequested{}, seq: 2},
		{name: "remove twice", log: draining, cmd: commands.RemoveDomain{DomainID: "d"}, want: events.DomainRemovalRequested{}, same: true, seq: 3},
		{name: "remove, none", log: gone, cmd: commands.RemoveDomain{DomainID: "d"}, code: 404},
		{name: "remove, another's", log: foreign, cmd: commands.RemoveDomain{DomainID: "d"}, code: 404},

		{name: "reconfigure", log: added, cmd: reconf(conf(`{"n":2}`)), want: events.DomainReconfigured{Config: conf(`{"n":2}`)}, seq: 2},
		{name: "reconfigure to the same", log: added, cmd: reconf(conf(` {"n": 1} `)), want: events.DomainReconfigured{Config: conf(` {"n": 1} `)}, same: true, seq: 2},
		{name: "reconfigure with nothing", log: added, cmd: reconf(events.Config{}), want: events.DomainReconfigured{}, same: true, seq: 2},
		{name: "reconfigure, refused", log: added, cmd: reconf(conf(`{"n":null}`)), code: 400, field: "config.engine_conf.n"},
		{name: "reconfigure, too large", log: added, cmd: reconf(conf(`{"vars":` + big + `,"site":` + big + `}`)), code: 413},
		{name: "reconfigure, drains", log: draining, cmd: reconf(events.Config{}), code: 404},
		{name: "reconfigure, none", log: gone, cmd: reconf(conf(`{"m":1}`)), code: 404},

		{
			name: "subscribe", log: added, cmd: commands.SubscribeDomain{DomainID: "d", SubscriberName: "x", SubscriberOp: "y"},
			want: events.DomainSubscribed{SubscriberName: "x", SubscriberOp: "y"}, seq: 2,
		},
		{
			name: "subscribe with another op", log: added, cmd: commands.SubscribeDomain{DomainID: "d", SubscriberName: "sub", SubscriberOp: "y"},
			want: events.DomainSubscribed{SubscriberName: "sub", SubscriberOp: "y"}, seq: 2,
		},
		{name: "subscribe again", log: added, cmd: subscribe, want: events.DomainSubscribed{SubscriberName: "sub", SubscriberOp: "op"}, same: true, seq: 2},
		{name: "subscribe, drains", log: draining, cmd: subscribe, code: 404},
		{
			name: "unsubscribe", log: added, cmd: commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "sub"},
			want: events.DomainUnsubscribed{SubscriberName: "sub"}, seq: 2,
		},
		{
			name: "unsubscribe, unknown", log: added, cmd: commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "x"},
			want: events.DomainUnsubscribed{SubscriberName: "x"}, same: true, seq: 2,
		},
		{name: "unsubscribe, drains", log: draining, cmd: commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "sub"}, code: 404},

		{name: "add definition", cmd: commands.AddDefinition{DefinitionID: "f", Definition: conf(`{}`)}, want: events.DefinitionAdded{Definition: conf(`{}`)}},
		{name: "add definition, exists", log: defined, cmd: commands.AddDefinition{DefinitionID: "f"}, code: 409},
		{
			name: "update definition", log: added, cmd: commands.UpdateDefinition{DefinitionID: "f", Definition: conf(`{"n":1}`)},
			want: events.DefinitionUpdated{Definition: conf(`{"n":1}`)}, seq: 1,
		},
		{name: "update definition to the same", log: defined, cmd: commands.UpdateDefinition{DefinitionID: "f", Definition: events.Config{
			EngineConf: json.RawMessage(`{"site":"s","n":1}`), General: json.RawMessage(`{"engine_class":"keep"}`),
		}}, want: events.DefinitionUpdated{Definition: events.Config{
			EngineConf: json.RawMessage(`{"site":"s","n":1}`), General: json.RawMessage(`{"engine_class":"keep"}`),
		}}, same: true, seq: 1},
		{name: "update definition, none", cmd: commands.UpdateDefinition{DefinitionID: "f"}, code: 404},
		{name: "remove definition", log: defined, cmd: commands.RemoveDefinition{DefinitionID: "f"}, want: events.DefinitionRemoved{}, seq: 1},
		{name: "remove definition, none", cmd: commands.RemoveDefinition{DefinitionID: "f"}, code: 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			view := tt.cmd.Look(fold(tt.log), owner)
			out, err := tt.cmd.Decide(view, known())
			if tt.code != 0 {
				refused, ok := errors.AsType[*commands.Error](err)
				if !ok || refused.Code != tt.code || refused.Field != tt.field {
					t.Fatalf("got %v, %v; want %d for field %q", out, err, tt.code, tt.field)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(commands.Outcome{Event: tt.want, Changes: !tt.same}, out); diff != "" {
				t.Error(diff)
			}
			if view.Seq != tt.seq {
				t.Errorf("guard %d, want %d", view.Seq, tt.seq)
			}
		})
	}
}

func TestCommand_Look_UnknownEvents(t *testing.T) {
	s := fold(append(added[:2:2], happened{events.DefinitionKey("f"), events.Unknown{Name: "epum.definition.frozen.v1"}}))
	if v := (commands.AddDomain{DomainID: "e", DefinitionID: "f"}).Look(s, owner); v.Unknown == "" {
		t.Error("add_domain copies a definition that this program does not understand")
	}
	if v := (commands.RemoveDefinition{DefinitionID: "f"}).Look(s, owner); v.Unknown == "" {
		t.Error("remove_domain_definition decides on what this program does not understand")
	}
	if v := (commands.RemoveDomain{DomainID: "d"}).Look(s, owner); v.Unknown != "" {
		t.Error("an unknown event of a definition blocks a domain")
	}
}

func TestAsError(t *testing.T) {
	if got := commands.AsError(errors.New("password=secret")); got.Code != 500 || strings.Contains(got.Message, "secret") {
		t.Errorf("an unknown fault is told as %v", got)
	}
	if got := commands.AsError(&events.ConflictError{}); !errors.Is(got, commands.ErrWriteConflict) {
		t.Errorf("a conflict is told as %v", got)
	}
	if got := commands.AsError(events.ErrUnavailable); !errors.Is(got, commands.ErrUnavailable) || errors.Is(got, commands.ErrNotFound) {
		t.Errorf("an unavailable log is told as %v", got)
	}
}

// TestSubscribeDomain_Decide_most: a domain at its bound takes no further
// subscriber, and still lets those that it has change and leave.
func TestSubscribeDomain_Decide_most(t *testing.T) {
	named := func(n int) string { return fmt.Sprintf("s%d", n) }
	log := []happened{defined[0], {domainD.Key(), events.DomainAdded{DefinitionID: "f", DefinitionSeq: 1}}}
	for n := range 999 {
		log = append(log, happened{domainD.Key(), events.DomainSubscribed{SubscriberName: named(n), SubscriberOp: "op"}})
	}
	last := happened{domainD.Key(), events.DomainSubscribed{SubscriberName: named(999), SubscriberOp: "op"}}
	full := append(slices.Clip(log), last)
	left := append(slices.Clip(full), happened{domainD.Key(), events.DomainUnsubscribed{SubscriberName: named(5)}})
	tests := []struct {
		name     string
		log      []happened
		who, op  string
		refused  bool
		nothing  bool // changes
		expected int  // subscribers then
	}{
		{name: "the 1,000th", log: log, who: named(999), op: "op", expected: 1000},
		{name: "the 1,001st", log: full, who: named(1000), op: "op", refused: true},
		{name: "another op of one of them", log: full, who: named(0), op: "other", expected: 1000},
		{name: "one of them again", log: full, who: named(0), op: "op", nothing: true, expected: 1000},
		{name: "after one has left", log: left, who: named(1000), op: "op", expected: 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := fold(tt.log)
			cmd := commands.SubscribeDomain{DomainID: "d", SubscriberName: tt.who, SubscriberOp: tt.op}
			out, err := cmd.Decide(cmd.Look(s, owner), known())
			if tt.refused {
				if !errors.Is(err, commands.ErrTooLarge) || commands.AsError(err).Code != 413 {
					t.Fatalf("got %v, %v", out, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := commands.Outcome{Event: events.DomainSubscribed{SubscriberName: tt.who, SubscriberOp: tt.op}, Changes: !tt.nothing}
			if diff := cmp.Diff(want, out); diff != "" {
				t.Error(diff)
			}
			events.Apply(s, events.Envelope{Key: domainD.Key(), Seq: s.Seq + 1}, out.Event)
			subscribers := s.Domain(domainD).Subscribers
			if len(subscribers) != tt.expected || !slices.Contains(subscribers, events.Subscriber{Name: tt.who, Op: tt.op}) {
				t.Errorf("%d subscribers, want %d with %s", len(subscribers), tt.expected, tt.who)
			}
		})
	}
}
