package service

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// The values of Config.Provisioner.
const (
	ProvisionerNATS    = "nats"    // programs outside serve the sites
	ProvisionerMock    = "mock"    // instances are only simulated, by this process
	ProvisionerProcess = "process" // this process's agent runs instances as processes
)

// The values of LogConfig.Format.
const (
	LogTint = "tint" // for people
	LogJSON = "json" // for machines
)

// The values of EmbeddedConfig.Sync.
const (
	SyncAlways  = "always"  // a write is on disk before it is acknowledged
	SyncDefault = "default" // the server syncs at times; a power cut can lose acknowledged writes
)

// How long a lease lasts where lease_ttl is not given (design §6, Lease).
const (
	leaseTTL           = 5 * time.Second
	leaseTTLReplicated = 15 * time.Second // a replicated lease survives an election of its stream's leader
)

// Config is everything that a process of the service can be told (design §7).
// LoadConfig makes it; each field is documented under its key in Keys.
type Config struct {
	ServiceName        string
	DefaultUser        string // plain name; "": callers have to name themselves
	Prefix             events.Prefix
	Process            string                     // shown as the leader's name; unique per process
	ProvisionerVars    map[string]json.RawMessage // nil: none
	InitialDefinitions map[string]events.Config   // definition → config; nil: none
	InitialDomains     map[string]InitialDomain   // domain → what to add it with; nil: none

	DeciderLoopInterval time.Duration
	DoctorInterval      time.Duration
	ReaperInterval      time.Duration
	RecordReapingMaxAge time.Duration
	RetryInterval       time.Duration
	LeaseTTL            time.Duration // whole seconds
	TerminateDeadline   time.Duration
	ExternalDecide      bool

	Provisioner string // one of the Provisioner… constants
	NATS        NATSConfig
	Embedded    EmbeddedConfig
	Agent       AgentConfig
	Mock        MockConfig
	Sensors     SensorsConfig
	Log         LogConfig
	Metrics     MetricsConfig

	// What follows are no keys: whoever loads the config sets them.

	Logger  *slog.Logger   // nil means slog.Default()
	Engines []engines.Kind // further engines, beside the ones that epum has; nil: none
}

// InitialDomain is a domain that is added for the default user at start.
type InitialDomain struct {
	Definition string
	Config     events.Config
}

// NATSConfig says where NATS is.
type NATSConfig struct {
	URL      string // servers, separated by commas; "": start an embedded one
	Creds    string // path; "": none
	Replicas int    // of each stream and bucket: 1, 3 or 5
}

// EmbeddedConfig is for the embedded server, where NATSConfig.URL is "".
type EmbeddedConfig struct {
	Listen   string // host:port; port -1 picks a free one
	StoreDir string
	Sync     string // one of the Sync… constants
}

// AgentConfig is for the built-in process agent. HeartbeatInterval is for the
// simulated provisioner too.
type AgentConfig struct {
	Site  string // plain name
	Types string // path of a file; "": the built-in types
	Dir   string // state directory

	HeartbeatInterval time.Duration // between two heartbeats of an instance
}

// MockConfig is for the simulated provisioner.
type MockConfig struct {
	Delay       time.Duration // from one state of an instance to the next
	Jitter      time.Duration // added to Delay at random, [0, Jitter)
	FailureRate float64       // part of the launches that fail, [0, 1]
	Seed        uint64
}

// SensorsConfig says where metrics are read; a source whose place is "" is not
// configured.
type SensorsConfig struct {
	Timeout    time.Duration // of one request
	Prometheus PrometheusConfig
	OpenTSDB   OpenTSDBConfig
	CloudWatch CloudWatchConfig
}

// PrometheusConfig is for the source prometheus.
type PrometheusConfig struct {
	URL   string
	Label string // that says whose a series is
}

// OpenTSDBConfig is for the source opentsdb.
type OpenTSDBConfig struct {
	URL string
	Tag string // that says whose a series is
}

// CloudWatchConfig is for the source cloudwatch.
type CloudWatchConfig struct {
	Region   string
	Endpoint string // URL; "": Amazon's
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  slog.Level
	Format string // LogTint, LogJSON, or "": LogTint on a terminal, else LogJSON
}

// MetricsConfig is for the metrics endpoint.
type MetricsConfig struct {
	Listen string // host:port; "": none
}

// LoadConfig gives the config that the four sources say together: flags (key →
// text, only those that were given) go before environ (as of os.Environ; an
// empty variable is none), that before the YAML file at path ("": none), that
// before the defaults. The error is a ConfigErrors with everything wrong, or
// says why the file could not be read.
func LoadConfig(path string, flags map[string]string, environ []string) (Config, error) {
	given, err := fileSettings(path)
	if err != nil {
		return Config{}, err
	}
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if key, ok := keyOfVariable(name); ok && text != "" {
			given[key.Name] = setting{source: name, text: text}
		}
	}
	var wrong ConfigErrors
	for name, text := range flags {
		if _, ok := lookupKey(name); !ok {
			wrong = append(wrong, &ConfigError{Key: name, Source: "--" + name, Allowed: "is not a known key"})
		}
		given[name] = setting{source: "--" + name, text: text}
	}
	var cfg Config
	for _, key := range Keys {
		s, ok := given[key.Name]
		if !ok {
			if key.derived || key.Default == "" {
				continue
			}
			s = setting{source: "default", text: key.Default}
		}
		if err := key.set(&cfg, s.text); err != nil {
			wrong = append(wrong, &ConfigError{Key: key.Name, Source: s.source, Value: s.text, Allowed: err.Error()})
		}
	}
	if len(wrong) == 0 {
		cfg.derive(given)
		wrong = cfg.check(given)
	}
	if len(wrong) > 0 {
		return Config{}, wrong
	}
	return cfg, nil
}

// derive fills in what was not given and depends on something else.
func (c *Config) derive(given map[string]setting) {
	if _, ok := given["lease_ttl"]; !ok {
		c.LeaseTTL = leaseTTL
		if c.NATS.Replicas > 1 {
			c.LeaseTTL = leaseTTLReplicated
		}
	}
	if c.Provisioner == "" {
		c.Provisioner = ProvisionerNATS
		if c.NATS.URL == "" {
			c.Provisioner = ProvisionerProcess
		}
	}
	c.Agent.Dir = cmp.Or(c.Agent.Dir, filepath.Join(c.Embedded.StoreDir, "agent"))
	if c.Process == "" {
		c.Process = newProcess()
	}
}

// check looks at keys that depend on each other.
func (c *Config) check(given map[string]setting) (wrong ConfigErrors) {
	refuse := func(key, allowed string) {
		s := given[key]
		wrong = append(wrong, &ConfigError{Key: key, Source: s.source, Value: s.text, Allowed: allowed})
	}
	if c.NATS.URL == "" {
		if c.NATS.Replicas > 1 {
			refuse("nats.replicas", "needs a cluster: set nats.url, or leave it 1 for the embedded server")
		}
		if c.NATS.Creds != "" {
			refuse("nats.creds", "needs nats.url: the embedded server takes no credentials")
		}
	}
	if len(c.InitialDomains) > 0 && c.DefaultUser == "" {
		refuse("initial_domains", "needs default_user, who will own them")
	}
	return wrong
}

// newProcess makes up a process id that no other process has.
func newProcess() string {
	const longest = 100 // bytes of the host's name, which leaves room in a name's 128
	host, err := os.Hostname()
	if err != nil || events.CheckName(host) != nil {
		host = "epum"
	}
	if len(host) > longest {
		host = host[:longest]
	}
	var id [4]byte // one in four billion, among a few processes a host
	_, _ = rand.Read(id[:])
	return host + "-" + hex.EncodeToString(id[:])
}
