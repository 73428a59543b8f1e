package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/events"
)

// TestCommands_Repeat sends commands again with the same command id: to any
// process, at the same time, and after all processes have been restarted.
func TestCommands_Repeat(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("a"))
	b := e.process(named("b"))
	first := e.askID("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`, "one")
	const add = `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":1}}}`
	var wg sync.WaitGroup
	answers := make([]answer, 16)
	for n := range answers {
		wg.Go(func() { answers[n] = e.askID("al", "add_domain", add, "two") })
	}
	wg.Wait()
	for _, a := range answers {
		if a.code != 200 || a.seq != answers[0].seq {
			t.Fatalf("%+v and %+v", a, answers[0])
		}
	}
	for range 8 { // either process takes some of them
		if again := e.askID("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`, "one"); again.seq != first.seq || again.code != 200 {
			t.Fatalf("%+v, want seq %d", again, first.seq)
		}
	}
	// The id counts within its caller alone.
	if other := e.askID("bo", "add_domain", add, "two"); other.code != 200 || other.seq == answers[0].seq {
		t.Fatalf("another caller with the same id: %+v", other)
	}
	// A command that changes nothing is remembered too.
	same := e.askID("al", "reconfigure_domain", `{"domain_id":"web","config":{}}`, "three")
	if same.seq <= answers[0].seq {
		t.Fatalf("no event of its own: %+v", same)
	}
	e.ok("al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"preserve_n":2}}}`)
	if again := e.askID("al", "reconfigure_domain", `{"domain_id":"web","config":{}}`, "three"); again.seq != same.seq {
		t.Fatalf("%+v, want seq %d", again, same.seq)
	}
	before := len(e.logOf(events.TypeDomainAdded))
	b.Stop()
	e.stopAll()
	e.process(named("c"))
	if again := e.askID("al", "add_domain", add, "two"); again.code != 200 || again.seq != answers[0].seq {
		t.Fatalf("after a restart: %+v, want seq %d", again, answers[0].seq)
	}
	if again := e.askID("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`, "one"); again.seq != first.seq {
		t.Fatalf("after a restart: %+v, want seq %d", again, first.seq)
	}
	if after := len(e.logOf(events.TypeDomainAdded)); before != 2 || after != before {
		t.Fatalf("%d domains were added, then %d", before, after)
	}
}

// TestCommands_NoChange has commands that leave the document as it is.
func TestCommands_NoChange(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{"general":{"chef_credential":"c"}}}`)
	e.ok("al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":1,"epuworker_type":"t"}}}`)
	definition := e.logOf(events.TypeDefinitionAdded)[0].seq
	domain := e.ok("al", "subscribe_domain", `{"domain_id":"web","subscriber_name":"s","subscriber_op":"o"}`)
	before := len(e.log())
	for _, c := range []struct {
		seq         uint64
		op, request string
	}{
		{definition, "update_domain_definition", `{"definition_id":"d","definition":{"general":{ "chef_credential" : "c" }}}`},
		{domain, "reconfigure_domain", `{"domain_id":"web","config":{}}`},
		{domain, "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"epuworker_type":"t"},"general":{}}}`},
		{domain, "subscribe_domain", `{"domain_id":"web","subscriber_name":"s","subscriber_op":"o"}`},
		{domain, "unsubscribe_domain", `{"domain_id":"web","subscriber_name":"none"}`},
	} {
		if got := e.ok("al", c.op, c.request); got != c.seq {
			t.Errorf("%s %s: seq %d, want %d", c.op, c.request, got, c.seq)
		}
	}
	if after := len(e.log()); after != before {
		t.Errorf("%d events more", after-before)
	}
	// An absent section is not the same as an empty one in a definition.
	e.ok("al", "update_domain_definition", `{"definition_id":"d","definition":{"general":{"chef_credential":"c"},"health":{}}}`)
	doc, err := e.as("al").DescribeDefinition(e.ctx(), "d")
	if err != nil || string(doc.Definition.Health) != "{}" || doc.Definition.EngineConf != nil {
		t.Errorf("definition %+v: %v", doc, err)
	}
	// Another op replaces a subscriber's; a null stays a null.
	e.ok("al", "subscribe_domain", `{"domain_id":"web","subscriber_name":"s","subscriber_op":"other"}`)
	e.ok("al", "reconfigure_domain", `{"domain_id":"web","config":{"engine_conf":{"force_site":null}}}`)
	web := e.describe("al", "web")
	if diff := cmp.Diff([]events.Subscriber{{Name: "s", Op: "other"}}, web.Subscribers); diff != "" {
		t.Error(diff)
	}
	if want := `{"epuworker_type":"t","force_site":null,"preserve_n":1}`; string(web.Config.EngineConf) != want {
		t.Errorf("engine_conf %s, want %s", web.Config.EngineConf, want)
	}
}

// TestCommands_RemovedDomain has a domain that drains: shown, but closed.
func TestCommands_RemovedDomain(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	const add = `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":1}}}`
	e.ok("al", "add_domain", add)
	e.decide()
	id := p.provisions(1)[0]
	removed := e.ok("al", "remove_domain", `{"domain_id":"web"}`)
	if again := e.ok("al", "remove_domain", `{"domain_id":"web"}`); again != removed {
		t.Errorf("removed again at %d, want %d", again, removed)
	}
	closed := func() {
		t.Helper()
		e.wants(409, "", "al", "add_domain", add)
		e.wants(404, "", "al", "reconfigure_domain", `{"domain_id":"web","config":{}}`)
		e.wants(404, "", "al", "subscribe_domain", `{"domain_id":"web","subscriber_name":"s","subscriber_op":"o"}`)
		e.wants(404, "", "al", "unsubscribe_domain", `{"domain_id":"web","subscriber_name":"s"}`)
		if doc := e.describe("al", "web"); !doc.Removed {
			t.Error("describe does not say that it is removed")
		}
		if names, _, err := e.as("al").ListDomains(e.ctx(), "", 0); err != nil || !slices.Contains(names, "web") {
			t.Errorf("list %q, %v", names, err)
		}
	}
	closed()
	e.decide()
	p.terminations(1)
	closed()
	e.reportState("al", "web", id, events.Terminated)
	e.decide()
	e.wants(404, "", "al", "describe_domain", `{"domain_id":"web"}`)
	e.ok("al", "add_domain", add)
}

// TestCommands_Paging lists and describes in pages, sorted by bytes.
func TestCommands_Paging(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	want := []string{"A", "Z", "a", "a.b", "a_b", "é", "日"}
	for n := range want {
		name := want[(n*3)%len(want)]
		e.ok("al", "add_domain", fmt.Sprintf(`{"domain_id":%q,"definition_id":"d","config":{"engine_conf":{"preserve_n":5}}}`, name))
	}
	var got []string
	after := ""
	for {
		names, next, err := e.as("al").ListDomains(e.ctx(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names...)
		if next == "" {
			break
		}
		if next != names[len(names)-1] {
			t.Fatalf("next is %q after %q", next, names)
		}
		after = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if a := e.ask("al", "list_domains", `{"limit":7}`); strings.Contains(string(a.body), "next") {
		t.Errorf("a next where there is none: %s", a.body)
	}
	// after need not exist.
	if names, _, err := e.as("al").ListDomains(e.ctx(), "a0", 1); err != nil || names[0] != "a_b" {
		t.Errorf("after a0: %q, %v", names, err)
	}
	e.decide()
	all := e.describe("al", "Z")
	if len(all.Instances) != 5 || all.Next != "" || all.InstanceCounts[events.Requesting] != 5 {
		t.Fatalf("%+v", all)
	}
	page, err := e.as("al").DescribeDomain(e.ctx(), "Z", all.Instances[1].InstanceID, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all.Instances[2:4], page.Instances); diff != "" || page.Next != all.Instances[3].InstanceID || page.InstanceCounts[events.Requesting] != 5 {
		t.Fatalf("%s next %q counts %v", diff, page.Next, page.InstanceCounts)
	}
}

// TestCommands_Micro has the service answer as any service of the micro package.
func TestCommands_Micro(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.ok("al", "status", ``)
	e.wants(400, "", "al", "status", `x`)
	var info micro.Info
	var stats micro.Stats
	for subject, into := range map[string]any{"$SRV.INFO.epum": &info, "$SRV.STATS.epum": &stats} {
		reply, err := e.nc.Request(subject, nil, patience)
		if err == nil {
			err = json.Unmarshal(reply.Data, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	var ops []string
	for _, endpoint := range info.Endpoints {
		ops = append(ops, endpoint.Name)
		if endpoint.Subject != "epum.cmd.*."+endpoint.Name || endpoint.QueueGroup != "epum" {
			t.Errorf("endpoint %+v", endpoint)
		}
	}
	slices.Sort(ops)
	want := []string{
		"add_domain", "add_domain_definition", "describe_domain", "describe_domain_definition", "explain", "history",
		"list_domain_definitions", "list_domains",
		"reconfigure_domain", "remove_domain", "remove_domain_definition", "run_pass", "status", "subscribe_domain", "unsubscribe_domain",
		"update_domain_definition",
	}
	if diff := cmp.Diff(want, ops); diff != "" || info.Name != "epum" {
		t.Errorf("%s %s", info.Name, diff)
	}
	for _, endpoint := range stats.Endpoints {
		if endpoint.Name == "status" && endpoint.NumRequests != 2 {
			t.Errorf("stats %+v, want two requests", endpoint)
		}
	}
}

// TestCommands_Status has what status says.
func TestCommands_Status(t *testing.T) {
	t.Parallel()
	e := newEpum(t, named("only"), shortLease)
	p := e.provisioner()
	e.ok("al", "add_domain_definition", `{"definition_id":"d","definition":{}}`)
	e.ok("al", "add_domain", `{"domain_id":"web","definition_id":"d","config":{"engine_conf":{"preserve_n":2}}}`)
	result := e.decide()
	if result.Domains != 1 || result.Launched != 2 || result.Pass != "decide" || result.Errors != 0 {
		t.Errorf("%+v", result)
	}
	ids := p.provisions(2)
	e.reportState("al", "web", ids[0], events.Running)
	elected := e.logOf(events.TypeLeaderElected)[0].seq
	e.projected()
	s, err := e.as("whoever").Status(e.ctx())
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(len(e.log()))
	if s.ServiceName != "epum" || s.Leader == nil || s.Leader.Process != "only" || s.Leader.Epoch != elected ||
		s.Domains != 1 || s.Instances[events.Running] != 1 || s.Instances[events.Requesting] != 1 || s.AppliedSeq != last || s.CheckpointSeq != last {
		t.Errorf("%+v, the log ends at %d", s, last)
	}
	if idle := e.decide(); idle.Changed+idle.Launched+idle.Terminated != 0 && idle.Seq != uint64(len(e.log())) {
		t.Errorf("%+v", idle)
	}
	before := len(e.log())
	if idle := e.decide(); idle.Seq != uint64(before) || len(e.log()) != before {
		t.Errorf("an idle pass: %+v, the log had %d events and has %d", idle, before, len(e.log()))
	}
	e.takeLeaseAway()
	e.noLeader()
	if a := e.ask("al", "status", ``); !strings.Contains(string(a.body), `"leader":null`) {
		t.Errorf("status with no leader: %s", a.body)
	}
	e.wants(503, "", "al", "run_pass", `{"pass":"decide"}`)
}
