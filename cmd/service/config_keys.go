package service

import (
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Key is one key of the configuration (design §7). Its flag is --<Name>, and in
// the YAML file each dot of its name is a level of nesting.
type Key struct {
	Name    string
	Type    string   // what a value is: text, duration, number, bool, JSON, path, …
	Default string   // what an absent key means; "": nothing
	Doc     string   // one sentence
	Values  []string // all allowed values; nil: see Type

	derived bool // Default is a rule and not a value; Config.derive follows it
	set     func(c *Config, text string) error
}

// Variable is the name of the key's environment variable.
func (k Key) Variable() string {
	return "EPUM_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys are all keys there are, in the order in which people want to read them.
// Nobody changes it.
var Keys = slices.Concat(serviceKeys, passKeys, natsKeys, provisionerKeys, sensorKeys, processKeys)

var serviceKeys = []Key{
	{
		Name: "service_name", Type: "name", Default: "epum",
		Doc: "Name of the service in status and in what instances are told (heartbeat_dest).",
		set: name(func(c *Config) *string { return &c.ServiceName }),
	},
	{
		Name: "default_user", Type: "name",
		Doc: "Who a caller is that sends the token \"-\", and who owns the initial domains.",
		set: name(func(c *Config) *string { return &c.DefaultUser }),
	},
	{
		Name: "prefix", Type: "token", Default: string(events.DefaultPrefix),
		Doc: "First word of all subjects, streams and buckets; another prefix is another cell.",
		set: setPrefix,
	},
	{
		Name: "process", Type: "name", Default: "the host's name and a random suffix", derived: true,
		Doc: "Id of this process, shown as the leader's name; no two processes may share one.",
		set: name(func(c *Config) *string { return &c.Process }),
	},
	{
		Name: "provisioner_vars", Type: "JSON object",
		Doc: "Variables sent with every launch; a domain's engine_conf.provisioner_vars go on top.",
		set: setProvisionerVars,
	},
	{
		Name: "initial_definitions", Type: "JSON object",
		Doc: "Definitions to add at start: name to config. One that exists already stays as it is.",
		set: setInitialDefinitions,
	},
	{
		Name: "initial_domains", Type: "JSON object",
		Doc: "Domains to add for default_user at start: name to {definition, config}. One that exists already stays as it is.",
		set: setInitialDomains,
	},
}

var passKeys = []Key{
	{
		Name: "decider_loop_interval", Type: "duration", Default: "5s",
		Doc: "Time between two full decide passes; a domain that changed is decided on at once.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.DeciderLoopInterval }),
	},
	{
		Name: "doctor_interval", Type: "duration", Default: "10s",
		Doc: "Time between two doctor passes, which look at the health of instances.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.DoctorInterval }),
	},
	{
		Name: "reaper_interval", Type: "duration", Default: "5m",
		Doc: "Time between two reap passes.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.ReaperInterval }),
	},
	{
		Name: "record_reaping_max_age", Type: "duration", Default: "2h",
		Doc: "Age at which the record of an ended instance goes.",
		set: duration(notNegative, func(c *Config) *time.Duration { return &c.RecordReapingMaxAge }),
	},
	{
		Name: "retry_interval", Type: "duration", Default: "5s",
		Doc: "Time after which a request to a provisioner that shows no effect is sent again.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.RetryInterval }),
	},
	{
		Name: "terminate_deadline", Type: "duration", Default: "10m",
		Doc: "Time that a termination may take before it is reported as stuck.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.TerminateDeadline }),
	},
	{
		Name: "lease_ttl", Type: "duration", Default: "5s, or 15s where nats.replicas is above 1", derived: true,
		Doc: "Lifetime of the leader's lease, in whole seconds; another process takes over at the latest after it.",
		set: duration(wholeSeconds, func(c *Config) *time.Duration { return &c.LeaseTTL }),
	},
	{
		Name: "external_decide", Type: "bool", Default: "false", Values: []string{"true", "false"},
		Doc: "No pass starts by itself, only by run_pass.",
		set: boolean(func(c *Config) *bool { return &c.ExternalDecide }),
	},
}

var natsKeys = []Key{
	{
		Name: "nats.url", Type: "URL", Default: "an embedded server", derived: true,
		Doc: "NATS servers with JetStream, separated by commas.",
		set: setNATSURL,
	},
	{
		Name: "nats.creds", Type: "path",
		Doc: "NATS credentials file.",
		set: text(func(c *Config) *string { return &c.NATS.Creds }),
	},
	{
		Name: "nats.replicas", Type: "number", Default: "1", Values: []string{"1", "3", "5"},
		Doc: "Copies of each stream and bucket.",
		set: setReplicas,
	},
	{
		Name: "embedded.listen", Type: "host:port", Default: "127.0.0.1:4222",
		Doc: "Where the embedded server listens; port -1 picks a free one.",
		set: listen(-1, func(c *Config) *string { return &c.Embedded.Listen }),
	},
	{
		Name: "embedded.store_dir", Type: "path", Default: "./epum-data",
		Doc: "Where the embedded server keeps its streams.",
		set: text(func(c *Config) *string { return &c.Embedded.StoreDir }),
	},
	{
		Name: "embedded.sync", Type: "text", Default: SyncAlways, Values: []string{SyncAlways, SyncDefault},
		Doc: "When the embedded server syncs writes to disk; with \"default\" a power cut can lose acknowledged ones.",
		set: oneOf([]string{SyncAlways, SyncDefault}, func(c *Config) *string { return &c.Embedded.Sync }),
	},
}

var provisioners = []string{ProvisionerNATS, ProvisionerMock, ProvisionerProcess}

var provisionerKeys = []Key{
	{
		Name: "provisioner", Type: "text", Values: provisioners, derived: true,
		Default: "process with the embedded server, else nats",
		Doc:     "Who launches: programs on NATS, a simulation, or this process's own agent.",
		set:     oneOf(provisioners, func(c *Config) *string { return &c.Provisioner }),
	},
	{
		Name: "agent.site", Type: "name", Default: "local",
		Doc: "Site that the built-in agent serves.",
		set: name(func(c *Config) *string { return &c.Agent.Site }),
	},
	{
		Name: "agent.types", Type: "path", Default: "the built-in types", derived: true,
		Doc: "File that says which command each deployable type runs.",
		set: text(func(c *Config) *string { return &c.Agent.Types }),
	},
	{
		Name: "agent.dir", Type: "path", Default: "agent in embedded.store_dir", derived: true,
		Doc: "Where the built-in agent keeps its records and the output of its processes.",
		set: text(func(c *Config) *string { return &c.Agent.Dir }),
	},
	{
		Name: "agent.heartbeat_interval", Type: "duration", Default: "5s",
		Doc: "Time between two heartbeats of an instance of the built-in agent or of the mock, and between two health checks.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.Agent.HeartbeatInterval }),
	},
	{
		Name: "mock.delay", Type: "duration", Default: "500ms",
		Doc: "With provisioner mock: time from one state of an instance to the next.",
		set: duration(notNegative, func(c *Config) *time.Duration { return &c.Mock.Delay }),
	},
	{
		Name: "mock.jitter", Type: "duration", Default: "0s",
		Doc: "With provisioner mock: most that is added to the delay at random.",
		set: duration(notNegative, func(c *Config) *time.Duration { return &c.Mock.Jitter }),
	},
	{
		Name: "mock.failure_rate", Type: "number", Default: "0",
		Doc: "With provisioner mock: part of the launches that fail, 0 to 1.",
		set: setFailureRate,
	},
	{
		Name: "mock.seed", Type: "number", Default: "1",
		Doc: "With provisioner mock: seed of its random numbers.",
		set: setSeed,
	},
}

var sensorKeys = []Key{
	{
		Name: "sensors.timeout", Type: "duration", Default: "5s",
		Doc: "Time that one request to a source of metrics may take.",
		set: duration(positive, func(c *Config) *time.Duration { return &c.Sensors.Timeout }),
	},
	{
		Name: "sensors.prometheus.url", Type: "URL",
		Doc: "Prometheus server for domains with sensor_type prometheus.",
		set: httpURL(func(c *Config) *string { return &c.Sensors.Prometheus.URL }),
	},
	{
		Name: "sensors.prometheus.label", Type: "label", Default: "instance_id",
		Doc: "Label that says which instance a series is of.",
		set: text(func(c *Config) *string { return &c.Sensors.Prometheus.Label }),
	},
	{
		Name: "sensors.opentsdb.url", Type: "URL",
		Doc: "OpenTSDB server for domains with sensor_type opentsdb.",
		set: httpURL(func(c *Config) *string { return &c.Sensors.OpenTSDB.URL }),
	},
	{
		Name: "sensors.opentsdb.tag", Type: "tag", Default: "instance_id",
		Doc: "Tag that says which instance a series is of.",
		set: text(func(c *Config) *string { return &c.Sensors.OpenTSDB.Tag }),
	},
	{
		Name: "sensors.cloudwatch.region", Type: "text",
		Doc: "AWS region for domains with sensor_type cloudwatch; credentials are found as the AWS SDK does.",
		set: text(func(c *Config) *string { return &c.Sensors.CloudWatch.Region }),
	},
	{
		Name: "sensors.cloudwatch.endpoint", Type: "URL", Default: "Amazon's", derived: true,
		Doc: "Another service that speaks the CloudWatch API.",
		set: httpURL(func(c *Config) *string { return &c.Sensors.CloudWatch.Endpoint }),
	},
}

var logFormats = []string{LogTint, LogJSON}

var processKeys = []Key{
	{
		Name: "log.level", Type: "text", Default: "info", Values: logLevels,
		Doc: "What is logged: this level and those above it.",
		set: setLogLevel,
	},
	{
		Name: "log.format", Type: "text", Values: logFormats, derived: true,
		Default: "tint on a terminal, else json",
		Doc:     "How the log on stderr looks: for people or for machines.",
		set:     oneOf(logFormats, func(c *Config) *string { return &c.Log.Format }),
	},
	{
		Name: "metrics.listen", Type: "host:port",
		Doc: "Where metrics are served; port 0 picks a free one. Nothing: no metrics.",
		set: listen(0, func(c *Config) *string { return &c.Metrics.Listen }),
	},
}

// lookupKey gives a key by its name.
func lookupKey(name string) (Key, bool) {
	n := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
	if n < 0 {
		return Key{}, false
	}
	return Keys[n], true
}

func keyOfVariable(variable string) (Key, bool) {
	n := slices.IndexFunc(Keys, func(k Key) bool { return k.Variable() == variable })
	if n < 0 {
		return Key{}, false
	}
	return Keys[n], true
}
