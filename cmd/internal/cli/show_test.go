package cli_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// shop is a domain document with an instance for each thing that the table
// shows; its ages are counted from now.
func shop() string {
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }
	return fmt.Sprintf(`{"name":"shop","owner":"alice","definition_id":"web",
		"config":{"general":{},"health":{"monitor_health":true},"engine_conf":{"preserve_n":3}},"sensor_data":{},
		"instances":[
			{"instance_id":"0198-a","state":"600-RUNNING","state_time":%q,"health":"OK","site":"local","pid":4711,"errors":[],"error_time":null,"seq":5},
			{"instance_id":"0198-b","state":"900-FAILED","state_time":%q,"health":"UNKNOWN","site":"local","pid":4712,"exit_code":1,
				"stderr_tail":"warming up\npanic: \u001b[31mno\u001b[0m disk\n","errors":[],"seq":6},
			{"instance_id":"0198-c","state":"650-RUNNING_FAILED","state_time":%q,"health":"PROCESS_ERROR","site":"eu","errors":["first",{"name":"db"}],"seq":7},
			{"instance_id":"0198-d","state":"800-TERMINATED","state_time":%q,"health":"UNKNOWN","site":"eu","exit_signal":"SIGTERM","error":null,"errors":[],"seq":8}
		],
		"subscribers":[{"subscriber_name":"ops","subscriber_op":"changed"}],"engine_state":"PENDING_DE","removed":false,
		"instance_counts":{"600-RUNNING":1,"650-RUNNING_FAILED":1,"800-TERMINATED":1,"900-FAILED":1},"seq":4,"as_of":{"seq":8,"time":"2026-01-01T00:00:00Z"}}`,
		ago(90*time.Minute), ago(30*time.Hour), ago(100*time.Second), ago(100*time.Hour))
}

// putState writes documents to a state bucket as the projector would.
func putState(t *testing.T, f *fakeService, documents ...string) natsjs.KeyValue {
	t.Helper()
	js, err := natsjs.New(f.nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "epum_state"})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(documents); n += 2 {
		if _, err := kv.Put(t.Context(), documents[n], []byte(documents[n+1])); err != nil {
			t.Fatal(err)
		}
	}
	return kv
}

const shopTable = `Domain       shop
Owner        alice
Definition   web
Engine       PENDING_DE
Wanted       3
Instances    4: 1 600-RUNNING, 1 650-RUNNING_FAILED, 1 800-TERMINATED, 1 900-FAILED
REASONSubscribers  ops (changed)
general      {}
engine_conf  {"preserve_n":3}
health       {"monitor_health":true}

INSTANCE  STATE               HEALTH         PID   SITE   AGE   INFO
0198-a    600-RUNNING         OK             4711  local  90m
0198-b    900-FAILED          UNKNOWN        4712  local  30h   exit code 1; stderr: panic: [31mno [0m disk
0198-c    650-RUNNING_FAILED  PROCESS_ERROR  -     eu     100s  {"name":"db"}
0198-d    800-TERMINATED      UNKNOWN        -     eu     4d    killed by SIGTERM
`

func TestDomain_Describe(t *testing.T) {
	document := shop()
	f := startFake(t, map[string]func(string) string{"describe_domain": always(document)})
	expect(t, "without a bucket", run("domain", "describe", "shop"), result{Stdout: strings.ReplaceAll(shopTable, "REASON", "")})
	expect(t, "-o json", run("domain", "describe", "shop", "-o", "json"), result{Stdout: document + "\n"})
	for _, r := range f.taken() {
		sameJSON(t, r.Body, `{"domain_id":"shop","limit":1000}`)
	}

	decided := time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339Nano)
	kv := putState(
		t, f,
		"domain.alice.shop", `{"name":"shop","owner":"alice","added_seq":4,"seq":4}`,
		"decision.alice.shop", fmt.Sprintf(`{"domain":"shop","owner":"alice","time":%q,"domain_seq":4,"reason":"1 of 3\nruns","engine_state":"PENDING_DE","seq":5}`, decided),
	)
	expect(t, "with a decision", run("domain", "describe", "shop"),
		result{Stdout: strings.ReplaceAll(shopTable, "REASON", "Reason       1 of 3 runs (3h ago)\n")})
	if _, err := kv.PutString(t.Context(), "domain.alice.shop", `{"name":"shop","owner":"alice","added_seq":9,"seq":9}`); err != nil {
		t.Fatal(err)
	}
	expect(t, "with a decision of an earlier life", run("domain", "describe", "shop"),
		result{Stdout: strings.ReplaceAll(shopTable, "REASON", "")})
}

func TestDomain_DescribePages(t *testing.T) {
	var whole map[string]any
	if err := json.Unmarshal([]byte(shop()), &whole); err != nil {
		t.Fatal(err)
	}
	all, _ := whole["instances"].([]any)
	page := func(body string) string {
		var r struct {
			After string
			Limit int
		}
		_ = json.Unmarshal([]byte(body), &r)
		from := 0
		for from < len(all) && all[from].(map[string]any)["instance_id"].(string) <= r.After {
			from++
		}
		to := min(from+min(r.Limit, 3), len(all))
		doc := maps.Clone(whole)
		doc["instances"] = all[from:to]
		if to < len(all) {
			doc["next"] = all[to-1].(map[string]any)["instance_id"]
		}
		data, _ := json.Marshal(doc)
		return string(data)
	}
	f := startFake(t, map[string]func(string) string{"describe_domain": page})
	expect(t, "", run("domain", "describe", "shop"), result{Stdout: strings.ReplaceAll(shopTable, "REASON", "")})
	sameJSON(t, run("domain", "describe", "shop", "-o", "json").Stdout, shop2(t, whole))
	if n := len(f.taken()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	got := run(words("domain describe shop --limit 1 --after 0198-a")...)
	if !strings.Contains(got.Stdout, "0198-b ") || strings.Contains(got.Stdout, "0198-c") ||
		got.Stderr != "epum: there are more; go on with --after \"0198-b\"\n" {
		t.Errorf("%+v", got)
	}
}

func shop2(t *testing.T, doc map[string]any) string {
	t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDomain_DescribeEmpty(t *testing.T) {
	startFake(t, map[string]func(string) string{"describe_domain": always(
		`{"name":"a\u202eb","owner":"alice","definition_id":"web","config":{"general":{},"health":{},"engine_conf":{}},"sensor_data":{},
		"instances":[],"subscribers":[],"engine_state":"STABLE_DE","removed":true,"instance_counts":{},"seq":4,"as_of":{"seq":8}}`,
	)})
	const want = `Domain       a b
Owner        alice
Definition   web
Removed      it vanishes when its last instance is gone
Engine       STABLE_DE
Instances    0
general      {}
engine_conf  {}
health       {}
`
	expect(t, "", run("domain", "describe", "x"), result{Stdout: want})
}

func TestDefinition_Describe(t *testing.T) {
	const document = `{"name":"web","definition":{"engine_conf":{"preserve_n":1}},"documentation":"# simplest\n\nKeeps a\u001b[2J number.\n"}`
	startFake(t, map[string]func(string) string{"describe_domain_definition": always(document)})
	expect(t, "", run("definition", "describe", "web"), result{
		Stdout: "Definition   web\nengine_conf  {\"preserve_n\":1}\n\n# simplest\n\nKeeps a [2J number.\n",
	})
	expect(t, "", run("definition", "describe", "web", "-o", "json"), result{Stdout: document + "\n"})
}

func TestStatus(t *testing.T) {
	const document = `{"service_name":"epum","leader":{"process":"p1","epoch":12},"applied_seq":1234567,"checkpoint_seq":1234560,` +
		`"domains":12345,"instances":{"800-TERMINATED":2,"600-RUNNING":30}}`
	startFake(t, map[string]func(string) string{"status": always(document)})
	expect(t, "", run("status"), result{Stdout: `Service    epum
Leader     p1 (epoch 12)
Log        seq 1234567, state bucket at 1234560
Domains    12,345
Instances  32: 30 600-RUNNING, 2 800-TERMINATED
`})
	expect(t, "", run("status", "-o", "json"), result{Stdout: document + "\n"})
	startFake(t, map[string]func(string) string{"status": always(`{"service_name":"epum","leader":null,"instances":{}}`)})
	expect(t, "no leader", run("status"), result{Stdout: `Service    epum
Leader     none
Log        seq 0, state bucket at 0
Domains    0
Instances  0
`})
}
