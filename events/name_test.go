package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

func TestToken_RoundTrip(t *testing.T) {
	for name, token := range map[string]string{
		"plain-Name_9":           "plain-Name_9",
		"alice@example.com":      "alice=40example=2Ecom",
		"-":                      "=2D",
		"--":                     "--",
		"a b":                    "a=20b",
		"=2D":                    "=3D2D",
		"*":                      "=2A",
		">":                      "=3E",
		"...":                    "=2E=2E=2E",
		"é":                      "=C3=A9",
		"\u2028":                 "=E2=80=A8",
		strings.Repeat("x", 128): strings.Repeat("x", 128),
		strings.Repeat(".", 128): strings.Repeat("=2E", 128),
	} {
		if got := events.Token(name); got != token {
			t.Errorf("Token(%q) = %q, want %q", name, got, token)
		}
		got, err := events.ParseToken(token)
		if err != nil || got != name {
			t.Errorf("ParseToken(%q) = %q, %v; want %q", token, got, err, name)
		}
	}
}

func TestParseToken_Refuses(t *testing.T) {
	for token, want := range map[string]error{
		"a.b":                    events.ErrToken,
		"a b":                    events.ErrToken,
		"*":                      events.ErrToken,
		"é":                      events.ErrToken,
		"a=":                     events.ErrToken,
		"a=4":                    events.ErrToken,
		"=":                      events.ErrToken,
		"=2d":                    events.ErrToken, // lower-case hex
		"=41":                    events.ErrToken, // "A" needs no escape
		"=G0":                    events.ErrToken,
		"=0G":                    events.ErrToken,
		"-":                      events.ErrToken, // the default user, not a name
		"=2Dx":                   events.ErrToken,
		"":                       events.ErrName,
		"=2E":                    events.ErrName,
		"=2E=2E":                 events.ErrName,
		"=00":                    events.ErrName,
		"=7F":                    events.ErrName,
		"=C2=85":                 events.ErrName, // NEL, a C1 control
		"=FF":                    events.ErrName,
		strings.Repeat("x", 129): events.ErrName,
	} {
		if _, err := events.ParseToken(token); !errors.Is(err, want) {
			t.Errorf("ParseToken(%q): got %v, want %v", token, err, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, says := range map[string]string{
		"":                       "empty",
		strings.Repeat("é", 65):  "130 bytes",
		".":                      "reserved",
		"..":                     "reserved",
		"a\xffb":                 "UTF-8",
		"a\nb":                   "control",
		"a\u0085":                "control",
		"a":                      "",
		"a.b":                    "",
		"名":                      "",
		strings.Repeat("é", 64):  "",
		" leading and trailing ": "",
	} {
		err := events.CheckName(name)
		switch {
		case says == "" && err != nil:
			t.Errorf("CheckName(%q): %v", name, err)
		case says != "" && (!errors.Is(err, events.ErrName) || !strings.Contains(err.Error(), says)):
			t.Errorf("CheckName(%q): got %v, want %q in it", name, err, says)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, seed := range []string{"", "-", "=2D", "a=40b", "=2d", "=", "a.b", "=C3=A9", "é", "=FF"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if name, err := events.ParseToken(text); err == nil {
			if got := events.Token(name); got != text {
				t.Errorf("%q is taken for %q, of which the token is %q", text, name, got)
			}
		}
		token := events.Token(text)
		if strings.ContainsAny(token, ".*> \t\r\n") || token == "-" {
			t.Errorf("Token(%q) = %q is not safe in a subject", text, token)
		}
		name, err := events.ParseToken(token)
		if events.CheckName(text) == nil && (err != nil || name != text) {
			t.Errorf("ParseToken(Token(%q)) = %q, %v", text, name, err)
		}
		if events.CheckName(text) != nil && err == nil {
			t.Errorf("ParseToken takes the bad name %q", text)
		}
	})
}

func TestKey_Parts(t *testing.T) {
	domain := events.DomainID{Owner: "alice@example.com", Name: "-"}
	tests := []struct {
		key    events.Key
		text   string
		kind   events.Kind
		domain events.DomainID
		name   string
	}{
		{events.DefinitionKey("d.1"), "definition.d=2E1", events.KindDefinition, events.DomainID{}, "d.1"},
		{domain.Key(), "domain.alice=40example=2Ecom.=2D", events.KindDomain, domain, ""},
		{domain.DecisionKey(), "decision.alice=40example=2Ecom.=2D", events.KindDecision, domain, ""},
		{domain.InstanceKey("i*"), "instance.alice=40example=2Ecom.=2D.i=2A", events.KindInstance, domain, "i*"},
		{events.LeaderKey, "leader", events.KindLeader, events.DomainID{}, ""},
		{events.PassKey, "pass", events.KindPass, events.DomainID{}, ""},
	}
	for _, tt := range tests {
		if string(tt.key) != tt.text || tt.key.Kind() != tt.kind {
			t.Errorf("got %q of kind %q, want %q of kind %q", tt.key, tt.key.Kind(), tt.text, tt.kind)
		}
		d, name, ok := tt.key.Parts()
		if d != tt.domain || name != tt.name || !ok {
			t.Errorf("%s.Parts() = %v, %q, %v", tt.key, d, name, ok)
		}
	}
	for _, bad := range []events.Key{
		"", "checkpoint", "leader.", "leader.x", "pass.x", "definition", "definition.", "definition.a.b", "definition.a b",
		"domain", "domain.a", "domain.a.", "domain..b", "domain.a.b.c", "domain.a.*", "decision.a", "decision.a.b.c",
		"instance.a", "instance.a.b", "instance.a.b.", "instance.a.b.*", "instance.a.b.c.d", "nothing.a.b", "domain.-.b",
		domain.AllInstances(), events.AllDomains("a"), events.AllDefinitions,
	} {
		if d, name, ok := bad.Parts(); ok {
			t.Errorf("%q.Parts() = %v, %q, true", bad, d, name)
		}
	}
}

func FuzzKeyParts(f *testing.F) {
	for _, seed := range []string{"leader", "pass", "definition.a", "domain.a.b", "instance.a.b.c", "decision.a.b", "domain.a", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key := events.Key(text)
		domain, name, ok := key.Parts()
		if !ok {
			return
		}
		back := map[events.Kind]events.Key{
			events.KindDefinition: events.DefinitionKey(name), events.KindDomain: domain.Key(), events.KindDecision: domain.DecisionKey(),
			events.KindInstance: domain.InstanceKey(name), events.KindLeader: events.LeaderKey, events.KindPass: events.PassKey,
		}[key.Kind()]
		if back != key {
			t.Errorf("%q comes back as %q", key, back)
		}
	})
}

func TestPrefix_Subjects(t *testing.T) {
	const p events.Prefix = "cell1"
	key := events.DomainID{Owner: "o", Name: "d"}.Key()
	got := []string{
		p.Event(key), p.AllEvents(), p.Command("a@b", "add_domain"), p.Command("", "status"), p.Command("-", "status"),
		p.Node("n.1", events.OpHeartbeat), p.Provisioner("ec2-east", events.OpProvision), p.LeaderCall("run_pass"),
		p.Dead("cell1.node.n.instance_info"), p.Stream(events.StreamEvents),
	}
	want := []string{
		"cell1.event.domain.o.d", "cell1.event.>", "cell1.cmd.a=40b.add_domain", "cell1.cmd.-.status", "cell1.cmd.=2D.status",
		"cell1.node.n=2E1.ou_heartbeat", "cell1.provisioner.ec2-east.provision", "cell1.leader.run_pass",
		"cell1.dead.node.n.instance_info", "cell1_events",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for subject, want := range map[string]events.Key{
		"cell1.event.domain.o.d": key, "cell1.event.leader": events.LeaderKey,
		"cell2.event.leader": "", "cell1.cmd.a.status": "", "cell1.event": "", "xcell1.event.leader": "",
	} {
		if got := p.EventKey(subject); got != want {
			t.Errorf("EventKey(%q) = %q, want %q", subject, got, want)
		}
	}
}

func TestMatchSubject(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, subject string
		want            bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a.b", "a.b.c", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.", false},
		{"a.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{">", "a", true},
		{">", "", false},
		{"*", "", false},
	} {
		if got := events.MatchSubject(c.filter, c.subject); got != c.want {
			t.Errorf("%q for %q: %v", c.filter, c.subject, got)
		}
	}
}
