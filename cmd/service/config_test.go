package service_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "epum.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func defaults() service.Config {
	return service.Config{
		ServiceName: "epum", Prefix: "epum",
		DeciderLoopInterval: 5 * time.Second, DoctorInterval: 10 * time.Second, ReaperInterval: 5 * time.Minute,
		RecordReapingMaxAge: 2 * time.Hour, RetryInterval: 5 * time.Second, LeaseTTL: 5 * time.Second,
		TerminateDeadline: 10 * time.Minute,
		Provisioner:       "process",
		NATS:              service.NATSConfig{Replicas: 1},
		Embedded:          service.EmbeddedConfig{Listen: "127.0.0.1:4222", StoreDir: "./epum-data", Sync: "always"},
		Agent:             service.AgentConfig{Site: "local", Dir: "epum-data/agent", HeartbeatInterval: 5 * time.Second},
		Mock:              service.MockConfig{Delay: 500 * time.Millisecond, Seed: 1},
		Sensors: service.SensorsConfig{
			Timeout: 5 * time.Second, Prometheus: service.PrometheusConfig{Label: "instance_id"}, OpenTSDB: service.OpenTSDBConfig{Tag: "instance_id"},
		},
	}
}

func diff(want, got service.Config) string {
	return cmp.Diff(want, got, cmpopts.IgnoreFields(service.Config{}, "Process", "Logger", "Engines"))
}

func TestLoadConfig_Defaults(t *testing.T) {
	got, err := service.LoadConfig("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(defaults(), got); d != "" {
		t.Error(d)
	}
	again, err := service.LoadConfig("", nil, nil)
	if err != nil || got.Process == "" || got.Process == again.Process {
		t.Errorf("processes %q and %q, want two different ids (%v)", got.Process, again.Process, err)
	}
}

const wholeFile = `
service_name: pool
default_user: alice
prefix: cell-2
process: p1
provisioner_vars: {region: eu, big: 12345678901234567890123, ratio: 1.50, e: 1e3, none: null, list: [1, "2", true]}
initial_definitions:
  web: &web
    general: {engine_class: simplest}
    engine_conf:
      preserve_n: 2
      text: |
        two
        lines
  copy: *web
initial_domains:
  site:
    definition: web
    config: {health: {monitor_health: true}}
  bare: {definition: web}
decider_loop_interval: 2
doctor_interval: 1.5
reaper_interval: 1m30s
record_reaping_max_age: 0
retry_interval: 250ms
lease_ttl: "7"
terminate_deadline: 1h
external_decide: true
provisioner: mock
nats:
  url: nats://a:4222, b:4222
  creds: /etc/epum.creds
  replicas: 3
embedded: {listen: ":-1", store_dir: /data, sync: default}
agent: {site: eu-1, types: types.yaml, dir: /agent, heartbeat_interval: 1.5s}
mock: {delay: 0, jitter: 10ms, failure_rate: 0.25, seed: 18446744073709551615}
sensors:
  timeout: 2s
  prometheus: {url: "https://prom:9090/p", label: node}
  opentsdb: {url: "http://tsdb:4242", tag: host}
  cloudwatch: {region: eu-west-1, endpoint: "https://cw.example"}
log: {level: debug, format: json}
metrics:
  listen: 127.0.0.1:0
`

func TestLoadConfig_File(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	web := events.Config{
		General:    raw(`{"engine_class":"simplest"}`),
		EngineConf: raw(`{"preserve_n":2,"text":"two\nlines\n"}`),
	}
	want := service.Config{
		ServiceName: "pool", DefaultUser: "alice", Prefix: "cell-2", Process: "p1",
		ProvisionerVars: map[string]json.RawMessage{
			"region": raw(`"eu"`), "big": raw(`12345678901234567890123`), "ratio": raw(`1.50`), "e": raw(`1e3`),
			"none": raw(`null`), "list": raw(`[1,"2",true]`),
		},
		InitialDefinitions: map[string]events.Config{"web": web, "copy": web},
		InitialDomains: map[string]service.InitialDomain{
			"site": {Definition: "web", Config: events.Config{Health: raw(`{"monitor_health":true}`)}},
			"bare": {Definition: "web"},
		},
		DeciderLoopInterval: 2 * time.Second, DoctorInterval: 1500 * time.Millisecond, ReaperInterval: 90 * time.Second,
		RetryInterval: 250 * time.Millisecond, LeaseTTL: 7 * time.Second, TerminateDeadline: time.Hour,
		ExternalDecide: true,
		Provisioner:    "mock",
		NATS:           service.NATSConfig{URL: "nats://a:4222, b:4222", Creds: "/etc/epum.creds", Replicas: 3},
		Embedded:       service.EmbeddedConfig{Listen: ":-1", StoreDir: "/data", Sync: "default"},
		Agent:          service.AgentConfig{Site: "eu-1", Types: "types.yaml", Dir: "/agent", HeartbeatInterval: 1500 * time.Millisecond},
		Mock:           service.MockConfig{Jitter: 10 * time.Millisecond, FailureRate: 0.25, Seed: 1<<64 - 1},
		Sensors: service.SensorsConfig{
			Timeout: 2 * time.Second, Prometheus: service.PrometheusConfig{URL: "https://prom:9090/p", Label: "node"},
			OpenTSDB:   service.OpenTSDBConfig{URL: "http://tsdb:4242", Tag: "host"},
			CloudWatch: service.CloudWatchConfig{Region: "eu-west-1", Endpoint: "https://cw.example"},
		},
		Log:     service.LogConfig{Level: slog.LevelDebug, Format: "json"},
		Metrics: service.MetricsConfig{Listen: "127.0.0.1:0"},
	}
	got, err := service.LoadConfig(writeFile(t, wholeFile), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(service.Config{}, "Logger", "Engines")); d != "" {
		t.Error(d)
	}
	for _, key := range service.Keys {
		if name := key.Name[strings.LastIndex(key.Name, ".")+1:]; !strings.Contains(wholeFile, name+":") {
			t.Errorf("the file of this test lacks %s", key.Name)
		}
	}
}

func TestLoadConfig_Precedence(t *testing.T) {
	file := "retry_interval: 1s\ndoctor_interval: 1s\nreaper_interval: 1s\nnats: {url: nats://file}\nlog:\n"
	env := []string{
		"EPUM_RETRY_INTERVAL=2s", "EPUM_DOCTOR_INTERVAL=2s", "EPUM_NATS_URL=", "EPUM_AS=bob", "EPUM_UNHEARD_OF=1", "EPUM", "PATH=/bin",
		`EPUM_PROVISIONER_VARS={"a": 1}`, "EPUM_NATS_REPLICAS=5",
	}
	flags := map[string]string{"retry_interval": "3s", "external_decide": "true", "agent.types": ""}
	got, err := service.LoadConfig(writeFile(t, file), flags, env)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.RetryInterval, want.DoctorInterval, want.ReaperInterval = 3*time.Second, 2*time.Second, time.Second
	want.ExternalDecide = true
	want.NATS.URL, want.NATS.Replicas = "nats://file", 5
	want.ProvisionerVars = map[string]json.RawMessage{"a": json.RawMessage("1")}
	want.LeaseTTL, want.Provisioner = 15*time.Second, "nats" // derived from what was given
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLoadConfig_NATSURLCanBeTakenBack(t *testing.T) {
	got, err := service.LoadConfig(writeFile(t, "nats: {url: nats://file}"), map[string]string{"nats.url": ""}, nil)
	if err != nil || got.NATS.URL != "" || got.Provisioner != "process" {
		t.Errorf("url %q, provisioner %q (%v), want the embedded server", got.NATS.URL, got.Provisioner, err)
	}
}

func TestLoadConfig_EmptyFile(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "---\n", "nats:\nlog: {level: }\n"} {
		got, err := service.LoadConfig(writeFile(t, content), nil, nil)
		if err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if d := diff(defaults(), got); d != "" {
			t.Errorf("%q: %s", content, d)
		}
	}
}

// The texts are whole, since they are what people work from. FILE stands for
// the path.
func TestLoadConfig_WrongFile(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"a: 1", `a (FILE line 1) is not a known key; see 'epum serve --help'`},
		{"\nnats:\n  uri: x\n", `nats.uri (FILE line 3) is not a known key; see 'epum serve --help'`},
		{"nats.url: x", `nats.url (FILE line 1) has to be nested: nats: {url: …}`},
		{"nats: 5", `nats (FILE line 1) must be a mapping (key: value)`},
		{"- 1", `the file (FILE line 1) must be a mapping (key: value)`},
		{"nats: {1: x}", `nats (FILE line 1) the key 1 must be a string (merges are not supported); write it in quotes`},
		{"lease_ttl: [5]", `lease_ttl (FILE line 1) must be a single value (duration)`},
		{
			"\nlease_ttl: 500ms",
			`lease_ttl "500ms" (FILE line 2) must be a duration of whole seconds, at least 1s, such as 1m30s, or a plain number of seconds`,
		},
		{
			"retry_interval: 0\nlog: {level: loud}\n",
			`retry_interval "0" (FILE line 1) must be a duration above zero, such as 1m30s, or a plain number of seconds; ` +
				`log.level "loud" (FILE line 2) must be one of debug, info, warn, error`,
		},
		{"provisioner_vars:\n  1: x", `provisioner_vars (FILE line 2) the key 1 must be a string (merges are not supported); write it in quotes`},
		{"provisioner_vars: {a: .inf}", `provisioner_vars (FILE line 1) .inf has no meaning in JSON`},
		{"provisioner_vars: {a: *b}", `provisioner_vars (FILE line 1) there is no anchor "b" before it`},
		{"provisioner_vars: &x {a: *x}", `provisioner_vars (FILE line 1) it is nested too deeply`},
		{"provisioner_vars: [1]", `provisioner_vars "[1]" (FILE line 1) must be a JSON object`},
		{
			"initial_definitions: {web: {engine: {}}}",
			`initial_definitions "{\"web\":{\"engine\":{}}}" (FILE line 1) is wrong at "web": ` +
				`it must be an object with the sections general, engine_conf and health, each an object; engine is none`,
		},
		{
			"default_user: a\ninitial_domains: {web: {config: {}}}",
			`initial_domains "{\"web\":{\"config\":{}}}" (FILE line 2) is wrong at "web": ` +
				`it must be an object with definition (a definition's name) and config, and nothing else`,
		},
		{
			"initial_domains: {web: {definition: web}}",
			`initial_domains "{\"web\":{\"definition\":\"web\"}}" (FILE line 1) needs default_user, who will own them`,
		},
		{"nats: {creds: x}", `nats.creds "x" (FILE line 1) needs nats.url: the embedded server takes no credentials`},
		{"nats: {replicas: 3}", `nats.replicas "3" (FILE line 1) needs a cluster: set nats.url, or leave it 1 for the embedded server`},
	} {
		path := writeFile(t, c.file)
		_, err := service.LoadConfig(path, nil, nil)
		want := "config: " + strings.ReplaceAll(c.want, "FILE", path)
		if err == nil || err.Error() != want {
			t.Errorf("%q\n got %v\nwant %s", c.file, err, want)
		}
	}
}

func TestLoadConfig_NoYAML(t *testing.T) {
	for content, want := range map[string]string{
		"a: [1":           "not YAML",
		"a: 1\na: 2":      `already defined`,
		"log: {}\n---\n1": "line 3: a second document; one is allowed",
	} {
		path := writeFile(t, content)
		_, err := service.LoadConfig(path, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want %s", content, err, want)
		}
	}
	if _, err := service.LoadConfig("/no/such/file", nil, nil); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConfig_WrongValues(t *testing.T) {
	for key, values := range map[string][]string{
		"service_name":             {"", "..", "a\x00b", strings.Repeat("x", 129)},
		"default_user":             {"."},
		"prefix":                   {"", "a.b", "ä", "a b"},
		"provisioner_vars":         {"x", "[]", "null", "{} {}"},
		"initial_definitions":      {"[]", `{"web": 1}`, `{"web": {"general": null}}`, `{"web": null}`, `{"..": {}}`, `{"": {}}`},
		"initial_domains":          {`{"web": 1}`, `{"web": {"definition": "x", "other": 1}}`, `{"web": {"definition": "x", "config": []}}`},
		"decider_loop_interval":    {"", "0", "-1s", "soon", "NaN", "Inf", "1e300"},
		"lease_ttl":                {"0", "0.5", "1500ms", "-1"},
		"external_decide":          {"perhaps", ""},
		"provisioner":              {"aws"},
		"nats.url":                 {"http://x", "nats://", "nats://a,,b", "a b"},
		"nats.replicas":            {"0", "2", "7", "x"},
		"embedded.listen":          {"4222", "host:x", "host:-2", "host:65536"},
		"embedded.sync":            {"never", "10s"},
		"agent.site":               {""},
		"agent.heartbeat_interval": {"", "0", "-1s", "soon"},
		"mock.delay":               {"-1s"},
		"mock.failure_rate":        {"-0.1", "1.1", "NaN", "x"},
		"mock.seed":                {"-1", "1.5"},
		"log.level":                {"INFO", "trace", "info+1"},
		"log.format":               {"text"},
		"metrics.listen":           {"localhost", "localhost:-1"},
		"nats.uri":                 {"x"},
	} {
		for _, value := range values {
			_, err := service.LoadConfig("", map[string]string{key: value}, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "config: "+key+" ") || !strings.Contains(err.Error(), "(--"+key+")") {
				t.Errorf("--%s=%q: got %v", key, value, err)
			}
		}
	}
	_, err := service.LoadConfig("", nil, []string{"EPUM_LOG_LEVEL=loud"})
	const want = `config: log.level "loud" (EPUM_LOG_LEVEL) must be one of debug, info, warn, error`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// One list of keys is everything: names, variables and documentation.
func TestKeys(t *testing.T) {
	const design = `service_name default_user prefix provisioner_vars initial_definitions initial_domains decider_loop_interval
		doctor_interval reaper_interval record_reaping_max_age retry_interval lease_ttl external_decide provisioner nats.url nats.creds
		nats.replicas embedded.listen embedded.store_dir embedded.sync agent.site agent.types terminate_deadline log.level log.format
		metrics.listen mock.delay mock.jitter mock.failure_rate mock.seed agent.dir agent.heartbeat_interval process
		sensors.timeout sensors.prometheus.url sensors.prometheus.label sensors.opentsdb.url sensors.opentsdb.tag sensors.cloudwatch.region
		sensors.cloudwatch.endpoint`
	variables := map[string]bool{}
	names := map[string]bool{}
	for _, key := range service.Keys {
		names[key.Name] = true
		variables[key.Variable()] = true
		if key.Type == "" || !strings.HasSuffix(key.Doc, ".") {
			t.Errorf("%s: type %q, doc %q", key.Name, key.Type, key.Doc)
		}
	}
	if len(names) != len(service.Keys) || len(variables) != len(service.Keys) {
		t.Errorf("%d keys, %d names, %d variables", len(service.Keys), len(names), len(variables))
	}
	for name := range strings.FieldsSeq(design) {
		if !names[name] {
			t.Errorf("no key %s", name)
		}
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("keys that the design does not have: %v", names)
	}
	if !variables["EPUM_NATS_URL"] || !variables["EPUM_DEFAULT_USER"] {
		t.Error("variables are not EPUM_ and the key in capitals")
	}
}

func TestYAMLToJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"b": 1.0, "a": "\ud83d\ude00"}` + "\n": `{"b": 1.0, "a": "\ud83d\ude00"}`,
		"":                                       "null",
		"5":                                      "5",
		"a: 0x10\nb: 'x'\nc: yes\nd: !!str 5":    `{"a":16,"b":"x","c":"yes","d":5}`,
		"a: \"007\"\nb: 2020-01-01\nc: -1\nd: ~": `{"a":"007","b":"2020-01-01","c":-1,"d":null}`,
		"a: >\n  x\n  y\n":                       `{"a":"x y\n"}`,
	} {
		got, err := service.YAMLToJSON([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s (%v), want %s", in, got, err, want)
		}
	}
}
