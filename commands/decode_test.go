package commands_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

func TestDecode_Accepts(t *testing.T) {
	tests := []struct {
		op, body string
		want     commands.Command
	}{
		{
			commands.OpAddDomain, `{"domain_id":"d","definition_id":"é/.-","config":{},"caller":"x"}`,
			commands.AddDomain{DomainID: "d", DefinitionID: "é/.-"},
		},
		{
			commands.OpAddDomain, ` {"config":{"health":{"a":{"b":[1e2]}},"engine_conf":{},"general":{"x":null}},"subscriber_op":"o","definition_id":"f","domain_id":"d","subscriber_name":"s"} `,
			commands.AddDomain{
				DomainID: "d", DefinitionID: "f", SubscriberName: "s", SubscriberOp: "o",
				Config: events.Config{
					General: json.RawMessage(`{"x":null}`), EngineConf: json.RawMessage(`{}`), Health: json.RawMessage(`{"a":{"b":[1e2]}}`),
				},
			},
		},
		{commands.OpRemoveDomain, `{"domain_id":"\u0061\"b"}`, commands.RemoveDomain{DomainID: `a"b`}},
		{commands.OpReconfigureDomain, `{"domain_id":"d","config":{"engine_conf":{"n":1}}}`, commands.ReconfigureDomain{DomainID: "d", Config: conf(`{"n":1}`)}},
		{
			commands.OpSubscribeDomain, `{"domain_id":"d","subscriber_name":"s","subscriber_op":"o"}`,
			commands.SubscribeDomain{DomainID: "d", SubscriberName: "s", SubscriberOp: "o"},
		},
		{commands.OpUnsubscribeDomain, `{"domain_id":"d","subscriber_name":"s"}`, commands.UnsubscribeDomain{DomainID: "d", SubscriberName: "s"}},
		{commands.OpAddDefinition, `{"definition_id":"f","definition":{}}`, commands.AddDefinition{DefinitionID: "f"}},
		{commands.OpUpdateDefinition, `{"definition_id":"f","definition":{"engine_conf":{"n":1}}}`, commands.UpdateDefinition{DefinitionID: "f", Definition: conf(`{"n":1}`)}},
		{commands.OpRemoveDefinition, `{"definition_id":"f"}`, commands.RemoveDefinition{DefinitionID: "f"}},
	}
	for _, tt := range tests {
		t.Run(tt.op, func(t *testing.T) {
			got, err := commands.Decode(tt.op, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if got.Op() != tt.op {
				t.Errorf("Op() = %s", got.Op())
			}
			again, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := commands.Decode(tt.op, again); err != nil || !cmp.Equal(got, back) {
				t.Errorf("what the client sends, %s, comes back as %v, %v", again, back, err)
			}
		})
	}
}

func TestDecode_Refuses(t *testing.T) {
	long := strings.Repeat("x", 129)
	tests := []struct{ name, op, body, field, message string }{
		{"empty body", commands.OpRemoveDomain, ``, "domain_id", "is missing"},
		{"missing", commands.OpSubscribeDomain, `{"domain_id":"d","subscriber_name":"s"}`, "subscriber_op", "is missing"},
		{"missing config", commands.OpReconfigureDomain, `{"domain_id":"d"}`, "config", "is missing"},
		{"unknown", commands.OpRemoveDomain, `{"domain_id":"d","force":true}`, "force", "not known"},
		{"unknown, other case", commands.OpRemoveDomain, `{"Domain_ID":"d"}`, "domain_id", "is missing"},
		{"of another op", commands.OpUnsubscribeDomain, `{"domain_id":"d","subscriber_name":"s","subscriber_op":"o"}`, "subscriber_op", "not known"},
		{"doubled", commands.OpRemoveDomain, `{"domain_id":"d","domain_id":"d"}`, "domain_id", "twice"},
		{"doubled by an escape", commands.OpRemoveDomain, `{"domain_id":"d","domain_\u0069d":"d"}`, "domain_id", "twice"},
		{"doubled, deep", commands.OpReconfigureDomain, `{"domain_id":"d","config":{"engine_conf":{"a":[{"b":1,"b":2}]}}}`, "config.engine_conf.a.0.b", "twice"},
		{"doubled section", commands.OpReconfigureDomain, `{"domain_id":"d","config":{"health":{},"health":{}}}`, "config.health", "twice"},
		{"name of a wrong type", commands.OpRemoveDomain, `{"domain_id":1}`, "domain_id", "must be a string"},
		{"name null", commands.OpRemoveDomain, `{"domain_id":null}`, "domain_id", "must be a string"},
		{"optional name null", commands.OpAddDomain, `{"domain_id":"d","definition_id":"f","config":{},"subscriber_name":null}`, "subscriber_name", "must be a string"},
		{"name empty", commands.OpRemoveDomain, `{"domain_id":""}`, "domain_id", "it is empty"},
		{"name too long", commands.OpRemoveDomain, `{"domain_id":"` + long + `"}`, "domain_id", "129 bytes"},
		{"name reserved", commands.OpRemoveDefinition, `{"definition_id":".."}`, "definition_id", "reserved"},
		{"name with control character", commands.OpRemoveDomain, `{"domain_id":"a\n"}`, "domain_id", "control character"},
		{"name not UTF-8", commands.OpRemoveDomain, "{\"domain_id\":\"\xff\"}", "domain_id", "UTF-8"},
		{"half a surrogate pair", commands.OpRemoveDomain, `{"domain_id":"\ud800"}`, "domain_id", "UTF-8"},
		{"not UTF-8, deep", commands.OpReconfigureDomain, "{\"domain_id\":\"d\",\"config\":{\"general\":{\"a\":\"\xff\"}}}", "config.general.a", "UTF-8"},
		{"config null", commands.OpReconfigureDomain, `{"domain_id":"d","config":null}`, "config", "must be a JSON object"},
		{"config a list", commands.OpReconfigureDomain, `{"domain_id":"d","config":[]}`, "config", "must be a JSON object"},
		{"section null", commands.OpReconfigureDomain, `{"domain_id":"d","config":{"general":null}}`, "config.general", "must be a JSON object"},
		{"section a string", commands.OpAddDefinition, `{"definition_id":"f","definition":{"engine_conf":"x"}}`, "definition.engine_conf", "must be a JSON object"},
		{"unknown section", commands.OpAddDefinition, `{"definition_id":"f","definition":{"engine":{}}}`, "definition.engine", "not known"},
		{"too deep", commands.OpReconfigureDomain, `{"domain_id":"d","config":{"engine_conf":{"a":` + nested(99) + `}}}`, "config", "is nested more than 100 levels deep"},
		{"far too deep", commands.OpAddDefinition, `{"definition_id":"f","definition":{"health":{"a":` + nested(9_990) + `}}}`, "definition", "100 levels deep"},
		{"name too deep", commands.OpRemoveDomain, `{"domain_id":` + nested(101) + `}`, "domain_id", "100 levels deep"},
		{"caller of a wrong type", commands.OpRemoveDomain, `{"domain_id":"d","caller":1}`, "caller", "must be a string"},
		{"no object", commands.OpRemoveDomain, `[]`, "", "must be a JSON object"},
		{"null", commands.OpRemoveDomain, `null`, "", "must be a JSON object"},
		{"no JSON", commands.OpRemoveDomain, `domain_id=d`, "", "not valid JSON"},
		{"no value", commands.OpRemoveDomain, `{"domain_id":}`, "domain_id", "not valid JSON"},
		{"cut off", commands.OpRemoveDomain, `{"domain_id":"d"`, "", "JSON"},
		{"trailing data", commands.OpRemoveDomain, `{"domain_id":"d"}{}`, "", "nothing behind it"},
		{"trailing comma", commands.OpRemoveDomain, `{"domain_id":"d",}`, "", "not valid JSON"},
		{"unknown op", "launch", `{}`, "", "no operation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd, err := commands.Decode(tt.op, []byte(tt.body))
			refused, ok := errors.AsType[*commands.Error](err)
			if !ok {
				t.Fatalf("got %v, %v", cmd, err)
			}
			if refused.Code != 400 || refused.Field != tt.field || !strings.Contains(refused.Message, tt.message) {
				t.Errorf("got %d %q, field %q; want 400 …%s…, field %q", refused.Code, refused.Message, refused.Field, tt.message, tt.field)
			}
			if tt.field != "" && !strings.HasPrefix(refused.Message, tt.field) {
				t.Errorf("the message %q does not start with the field", refused.Message)
			}
		})
	}
}

func TestCommand_Check(t *testing.T) {
	add := func(c events.Config) commands.Command {
		return commands.AddDomain{DomainID: "d", DefinitionID: "f", Config: c}
	}
	def := func(c events.Config) commands.Command {
		return commands.AddDefinition{DefinitionID: "f", Definition: c}
	}
	general := func(s string) events.Config { return events.Config{General: json.RawMessage(s)} }
	health := func(s string) events.Config { return events.Config{Health: json.RawMessage(s)} }
	tests := []struct {
		name  string
		cmd   commands.Command
		field string // "": accepted
	}{
		{"part of a config", add(events.Config{}), ""},
		{"engine of the other part", add(conf(`{"anything":1}`)), ""},
		{"engine along with its conf", add(events.Config{General: json.RawMessage(`{"engine_class":"keep"}`), EngineConf: json.RawMessage(`{"m":1}`)}), "config.engine_conf.m"},
		{"incomplete definition", def(conf(`{"site":"s"}`)), ""},
		{"alias", def(general(`{"engine_class":"old.Keep"}`)), ""},
		{"definition refused by the engine", def(conf(`{"n":"x"}`)), "definition.engine_conf.n"},
		{"unknown engine", def(general(`{"engine_class":"x"}`)), "definition.general.engine_class"},
		{"unknown engine", add(general(`{"engine_class":"x"}`)), "config.general.engine_class"},
		{"general", add(general(`{"x":1}`)), "config.general.x"},
		{"health", add(health(`{"boot_timeout":-1}`)), "config.health.boot_timeout"},
		{"health", commands.ReconfigureDomain{DomainID: "d", Config: health(`{"monitor_health":"yes"}`)}, "config.health.monitor_health"},
		{"section", add(conf(`[]`)), "config.engine_conf"},
		{"subscriber without an op", commands.AddDomain{DomainID: "d", DefinitionID: "f", SubscriberName: "s"}, "subscriber_op"},
		{"op without a subscriber", commands.AddDomain{DomainID: "d", DefinitionID: "f", SubscriberOp: "o"}, "subscriber_name"},
		{"name", commands.RemoveDomain{DomainID: ""}, "domain_id"},
		{"name", commands.ReconfigureDomain{DomainID: "."}, "domain_id"},
		{"name", commands.SubscribeDomain{DomainID: "d", SubscriberName: "s", SubscriberOp: "\x00"}, "subscriber_op"},
		{"name", commands.UnsubscribeDomain{DomainID: "d", SubscriberName: ""}, "subscriber_name"},
		{"name", commands.UpdateDefinition{}, "definition_id"},
		{"name", commands.RemoveDefinition{}, "definition_id"},
	}
	for _, tt := range tests {
		t.Run(tt.cmd.Op()+" "+tt.name, func(t *testing.T) {
			err := tt.cmd.Check(known())
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if refused, ok := errors.AsType[*commands.Error](err); !ok || refused.Code != 400 || refused.Field != tt.field {
				t.Errorf("got %v, want a 400 for %s", err, tt.field)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(0, []byte(`{"domain_id":"d","definition_id":"f","config":{"general":{"engine_class":"keep"},"engine_conf":{"n":1}}}`))
	f.Add(0, []byte(`{"domain_id":"d","definition_id":"f","config":{},"subscriber_name":"s","subscriber_op":"o"}`))
	f.Add(2, []byte(`{"domain_id":"d","config":{"health":{"boot_timeout":1e3}}}`))
	f.Add(5, []byte(`{"definition_id":"f","definition":{"engine_conf":{"vars":{"a":[null,{"b":"\u00e9"}]}}}}`))
	f.Add(1, []byte("{\"domain_id\":\"\xff\"}"))
	f.Add(1, []byte(`{"domain_id":"d","domain_id":"d"}`))
	f.Add(3, []byte(``))
	f.Fuzz(func(t *testing.T, op int, body []byte) {
		ops := commands.Ops
		cmd, err := commands.Decode(ops[uint(op)%uint(len(ops))], body)
		if err != nil {
			refused, ok := errors.AsType[*commands.Error](err)
			if !ok || refused.Code != 400 || refused.Message == "" {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		again, err := json.Marshal(cmd)
		if err != nil {
			t.Fatalf("%v decoded, but cannot be encoded: %v", cmd, err)
		}
		if _, err := commands.Decode(cmd.Op(), again); err != nil {
			t.Fatalf("%s decoded, but what it encodes to, %s, does not: %v", body, again, err)
		}
		if err := cmd.Check(known()); err != nil {
			if refused, ok := errors.AsType[*commands.Error](err); !ok || refused.Code != 400 {
				t.Fatalf("checked with %#v", err)
			}
		}
	})
}
