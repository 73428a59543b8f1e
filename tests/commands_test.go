package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
)

// TestCommands_Table goes through every operation and its errors (design §3) in
// one service, in the order of the table.
func TestCommands_Table(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	const simple = `{"engine_conf":{"preserve_n":1}}`
	for _, step := range []struct {
		code                int
		field               string
		caller, op, request string
	}{
		{200, "", "al", "list_domains", ``},
		{200, "", "al", "list_domain_definitions", `{}`},
		{404, "", "al", "describe_domain", `{"domain_id":"web"}`},
		{404, "", "al", "describe_domain_definition", `{"definition_id":"d"}`},
		{404, "", "al", "remove_domain", `{"domain_id":"web"}`},
		{404, "", "al", "reconfigure_domain", `{"domain_id":"web","config":{}}`},
		{404, "", "al", "subscribe_domain", `{"domain_id":"web","subscriber_name":"s","subscriber_op":"o"}`},
		{404, "", "al", "unsubscribe_domain", `{"domain_id":"web","subscriber_name":"s"}`},
		{404, "", "al", "update_domain_definition", `{"definition_id":"d","definition":{}}`},
		{404, "", "al", "remove_domain_definition", `{"definition_id":"d"}`},
		{400, "definition_id", "al", "add_domain", `{"domain_id":"web","definition_id":"d","config":` + simple + `}`},
		{200, "", "al", "add_domain_definition", `{"definition_id":"d","definition":{}}`},
		{409, "", "bo", "add_domain_definition", `{"definition_id":"d","definition":{}}`},
		{400, "config.engine_conf.preserve_n", "al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{}}`},
		{200, "", "al", "add_domain", `{"domain_id":"web","definition_id":"d","config":` + simple + `,"subscriber_name":"s","subscriber_op":"o"}`},
		{409, "", "al", "add_domain", `{"domain_id":"web","definition_id":"d","config":` + simple + `}`},
		{409, "", "al", "add_domain", `{"domain_id":"web","definition_id":"gone","config":` + simple + `}`},
		{200, "", "bo", "add_domain", `{"domain_id":"web","definition_id":"d","config":` + simple + `}`},
		{400, "config.engine_conf.preserve_n", "al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":-1}}}`},
		{400, "config.engine_conf.preserve_n", "al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":"2"}}}`},
		{400, "config.engine_conf.preserve_n", "al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":null}}}`},
		{400, "config.engine_conf.color", "al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"color":"red"}}}`},
		{400, "config.general.engine_class", "al", "reconfigure_domain", `{"domain_id":"web","config":{"general":{"engine_class":"none"}}}`},
		{400, "config.health.boot_timeout", "al", "reconfigure_domain", `{"domain_id":"web","config":{"health":{"boot_timeout":-1}}}`},
		{200, "", "al", "reconfigure_domain", `{"domain_id":"web","config":{"health":{"boot_timeout":0.5}}}`},
		{200, "", "al", "subscribe_domain", `{"domain_id":"web","subscriber_name":"s2","subscriber_op":"o"}`},
		{200, "", "al", "unsubscribe_domain", `{"domain_id":"web","subscriber_name":"s2"}`},
		{200, "", "al", "update_domain_definition", `{"definition_id":"d","definition":{"general":{"engine_class":"simplest"}}}`},
		{400, "definition.general.engine_class", "al", "update_domain_definition", `{"definition_id":"d","definition":{"general":{"engine_class":"none"}}}`},
		{200, "", "al", "describe_domain", `{"domain_id":"web"}`},
		{200, "", "al", "describe_domain_definition", `{"definition_id":"d"}`},
		{200, "", "al", "remove_domain_definition", `{"definition_id":"d"}`},
		{404, "", "al", "remove_domain_definition", `{"definition_id":"d"}`},
		{200, "", "al", "add_domain_definition", `{"definition_id":"d","definition":{}}`}, // the name is free again
		{200, "", "al", "status", ``},
		{200, "", "al", "run_pass", `{"pass":"decide"}`},
		{200, "", "al", "run_pass", `{"pass":"reap"}`},
		{400, "pass", "al", "run_pass", `{"pass":"none"}`},
		{400, "pass", "al", "run_pass", `{}`},
		{200, "", "al", "remove_domain", `{"domain_id":"web"}`},
	} {
		e.wants(step.code, step.field, step.caller, step.op, step.request)
	}
}

// TestCommands_Strict sends what is malformed; each is a 400 that names the field.
func TestCommands_Strict(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	for _, c := range []struct{ field, op, request string }{
		{"", "add_domain", `[]`},
		{"", "add_domain", `null`},
		{"", "add_domain", `{"domain_id":`},
		{"", "add_domain", `{} {}`},
		{"", "status", `"x"`},
		{"domain_id", "add_domain", ``},
		{"domain_id", "add_domain", `{"definition_id":"d","config":{}}`},
		{"definition_id", "add_domain", `{"domain_id":"w","config":{}}`},
		{"config", "add_domain", `{"domain_id":"w","definition_id":"d"}`},
		{"config", "add_domain", `{"domain_id":"w","definition_id":"d","config":[]}`},
		{"config", "add_domain", `{"domain_id":"w","definition_id":"d","config":null}`},
		{"config.engine_conf", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"engine_conf":[]}}`},
		{"config.general", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"general":null}}`},
		{"config.extra", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"extra":{}}}`},
		{"color", "add_domain", `{"domain_id":"w","definition_id":"d","config":{},"color":1}`},
		{"domain_id", "add_domain", `{"domain_id":7,"definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":".","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"..","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"a\u0007b","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"a\u0085b","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"` + strings.Repeat("é", 65) + `","definition_id":"d","config":{}}`},
		{"domain_id", "add_domain", `{"domain_id":"w","domain_id":"w","definition_id":"d","config":{}}`},
		{"config.engine_conf.preserve_n", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"engine_conf":{"preserve_n":1,"preserve_n":2}}}`},
		{"domain_id", "add_domain", "{\"domain_id\":\"a\xffb\",\"definition_id\":\"d\",\"config\":{}}"},
		{"domain_id", "add_domain", `{"domain_id":"\ud800","definition_id":"d","config":{}}`},
		{"subscriber_op", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"engine_conf":{"preserve_n":1}},"subscriber_name":"s"}`},
		{"subscriber_name", "add_domain", `{"domain_id":"w","definition_id":"d","config":{"engine_conf":{"preserve_n":1}},"subscriber_op":"s"}`},
		{"Domain_ID", "remove_domain", `{"Domain_ID":"w","domain_id":"w"}`},
		{"subscriber_op", "subscribe_domain", `{"domain_id":"w","subscriber_name":"s"}`},
		{"subscriber_op", "unsubscribe_domain", `{"domain_id":"w","subscriber_name":"s","subscriber_op":"o"}`},
		{"limit", "list_domains", `{"limit":0}`},
		{"limit", "list_domains", `{"limit":10001}`},
		{"limit", "list_domains", `{"limit":1.5}`},
		{"limit", "list_domains", `{"limit":"5"}`},
		{"limit", "list_domains", `{"limit":null}`},
		{"limit", "describe_domain", `{"domain_id":"w","limit":-1}`},
		{"after", "list_domain_definitions", `{"after":7}`},
		{"definition", "add_domain_definition", `{"definition_id":"x"}`},
		{"definition.engine_conf.preserve_n", "add_domain_definition", `{"definition_id":"x","definition":{"engine_conf":{"preserve_n":-2}}}`},
		{"definition.health.monitor_health", "add_domain_definition", `{"definition_id":"x","definition":{"health":{"monitor_health":"yes"}}}`},
		{"config", "remove_domain", `{"domain_id":"w","config":{}}`},
		{"x", "status", `{"x":1}`},
	} {
		e.wants(400, c.field, "al", c.op, c.request)
	}
	if got := len(e.log()); got > 2 { // the election and the definition
		t.Errorf("%d events: something malformed was taken", got)
	}
}

// TestCommands_Order has requests with several faults; the first check wins.
func TestCommands_Order(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	e.ok("al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":0}}}`)
	large := strings.Repeat("x", 256<<10)
	e.wants(403, "", "al", "add_domain", `{"caller":"bo","domain_id":"`+large+`"}`)             // 403 before 413
	e.wants(403, "", "al", "add_domain", `{"caller":"bo","nonsense":1}`)                        // 403 before 400
	e.wants(413, "", "al", "add_domain", `{"nonsense":"`+large+`"}`)                            // 413 before 400
	e.wants(400, "x", "al", "remove_domain", `{"domain_id":"none","x":1}`)                      // 400 before 404
	e.wants(409, "", "al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{}}`) // 409 before the merged config
	first := e.askID("al", "remove_domain", `{"domain_id":"web"}`, "id-1")
	e.decide() // it has no instances: the domain vanishes
	e.wants(404, "", "al", "remove_domain", `{"domain_id":"web"}`)
	// A repeated command id goes before existence, but not before the form.
	if again := e.askID("al", "remove_domain", `{"domain_id":"web"}`, "id-1"); again.code != 200 || again.seq != first.seq {
		t.Errorf("a repeat: %+v, want seq %d", again, first.seq)
	}
	if again := e.askID("al", "remove_domain", `{"domain_id":"web","x":1}`, "id-1"); again.code != 400 {
		t.Errorf("a malformed repeat: %+v", again)
	}
}

// TestCommands_Caller holds the rules of who speaks.
func TestCommands_Caller(t *testing.T) {
	t.Parallel()
	e := newEpum(t) // with default_user nobody
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	add := func(caller string) string {
		return `{"caller":"` + caller + `","domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":0}}}`
	}
	e.wants(403, "", "al", "add_domain", add("bo"))
	e.wants(403, "", "-", "add_domain", add("-"))
	e.wants(200, "", "al", "add_domain", add("al"))
	e.wants(200, "", "-", "add_domain", add("nobody"))
	e.wants(200, "", "=2D", "add_domain", add("-"))
	e.wants(403, "", "al", "list_domains", `{"caller":"bo"}`)
	e.wants(403, "", "al", "status", `{"caller":"bo"}`)
	e.wants(400, "caller", "al", "list_domains", `{"caller":7}`)
	for _, caller := range []string{"al", "nobody", "-"} {
		if doc := e.describe(caller, "web"); doc.Owner != caller {
			t.Errorf("%q has the domain of %q", caller, doc.Owner)
		}
	}
	for _, token := range []string{"a=6C", "al=", "al=2", "al=2g", "a=2d", "a@b", "=2E", "=00", "=FF", "é", strings.Repeat("a", 129)} {
		e.wants(400, "caller", token, "list_domains", ``)
	}

	nobody := newEpum(t, func(c *service.Config) { c.DefaultUser = "" })
	nobody.wants(403, "", "-", "list_domains", ``)
	nobody.wants(200, "", "al", "list_domains", ``)
}

// TestCommands_Names has odd names everywhere, end to end.
func TestCommands_Names(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	odd := []string{"alice@example.com", "-", "日本語 😀", "a.b*c>d", "=2D", "--", `q"\u'<&>`, strings.Repeat("ü", 64)}
	for n, owner := range odd {
		name := odd[(n+1)%len(odd)]
		token := events.Token(owner)
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		e.ok(token, "add_domain_definition", fmt.Sprintf(`{"definition_id":%s,"definition":{}}`, quoted))
		e.ok(token, "add_domain", fmt.Sprintf(
			`{"domain_id":%s,"definition_id":%s,"config":{"engine_conf":{"preserve_n":1,"force_site":%s}},"subscriber_name":%s,"subscriber_op":%s}`,
			quoted, quoted, quoted, quoted, quoted))
	}
	e.decide()
	ids := map[string]string{} // owner → its one instance
	p.provisions(len(odd))
	launches, _, _ := p.heard()
	for _, l := range launches {
		ids[l.Caller] = l.InstanceIDs[0]
	}
	for n, owner := range odd {
		name := odd[(n+1)%len(odd)]
		e.reportState(owner, name, ids[owner], events.Running)
		doc := e.describe(owner, name)
		if doc.Name != name || doc.Owner != owner || doc.DefinitionID != name || doc.Instances[0].Site != name || doc.Subscribers[0].Name != name {
			t.Errorf("%q of %q: %+v", name, owner, doc)
		}
		names, _, err := e.as(owner).ListDomains(e.ctx(), "", 0)
		if diff := cmp.Diff([]string{name}, names); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	for _, l := range e.log() {
		if l.key == "domain.alice=40example=2Ecom.=2D" {
			return
		}
	}
	t.Error("the log has no subject with both names as tokens")
}

// TestCommands_Limits has bodies and merged configs at and over 256 KiB.
func TestCommands_Limits(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	config := func(key string, bytes int) string {
		return `{"engine_conf":{"preserve_n":0,"provisioner_vars":{"` + key + `":"` + strings.Repeat("x", bytes) + `"}}}`
	}
	padded := func(body string, size int) string { return body + strings.Repeat(" ", size-len(body)) }
	body := `{"domain_id":"a","definition_id":"d","config":` + config("v", 200<<10) + `}`
	e.wants(200, "", "al", "add_domain", padded(body, 256<<10))
	e.wants(413, "", "al", "add_domain", padded(strings.Replace(body, `"a"`, `"b"`, 1), 256<<10+1))
	// Each is below the limit, together they are not.
	big := `{"general":{"chef_credential":"` + strings.Repeat("x", 100<<10) + `"}}`
	e.wants(413, "", "al", "reconfigure_domain", `{"domain_id":"a","config":`+big+`}`)
	if doc := e.describe("al", "a"); len(doc.Config.EngineConf) < 200<<10 || string(doc.Config.General) != "{}" {
		t.Errorf("the domain has changed: general %s", doc.Config.General)
	}
	// A body over the server's own limit never gets here.
	if err := e.nc.Publish("epum.cmd.al.status", make([]byte, 2<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a message of 2 MiB: %v", err)
	}
}
