package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// setter puts a value, as text, into a config. Its error is the end of a
// sentence about the value, such as "must be true or false".
type setter = func(c *Config, text string) error

func text(field func(*Config) *string) setter {
	return func(c *Config, s string) error {
		*field(c) = s
		return nil
	}
}

func name(field func(*Config) *string) setter {
	return func(c *Config, s string) error {
		if err := events.CheckName(s); err != nil {
			_, why, _ := strings.Cut(err.Error(), "bad name: ")
			return fmt.Errorf("must be a name of 1 to %d bytes with no control characters: %s", events.MaxNameBytes, why)
		}
		*field(c) = s
		return nil
	}
}

func oneOf(values []string, field func(*Config) *string) setter {
	return func(c *Config, s string) error {
		if !slices.Contains(values, s) {
			return errors.New("must be one of " + strings.Join(values, ", "))
		}
		*field(c) = s
		return nil
	}
}

func boolean(field func(*Config) *bool) setter {
	return func(c *Config, s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		*field(c) = b
		return nil
	}
}

// durationRule is which durations a key takes.
type durationRule struct {
	allowed string
	ok      func(time.Duration) bool
}

var (
	positive     = durationRule{"above zero", func(d time.Duration) bool { return d > 0 }}
	notNegative  = durationRule{"not negative", func(d time.Duration) bool { return d >= 0 }}
	wholeSeconds = durationRule{"of whole seconds, at least 1s", func(d time.Duration) bool {
		return d >= time.Second && d%time.Second == 0
	}}
)

func duration(rule durationRule, field func(*Config) *time.Duration) setter {
	return func(c *Config, s string) error {
		d, err := parseDuration(s)
		if err != nil || !rule.ok(d) {
			return fmt.Errorf("must be a duration %s, such as 1m30s, or a plain number of seconds", rule.allowed)
		}
		*field(c) = d
		return nil
	}
}

// parseDuration reads a Go duration string or a plain number of seconds.
func parseDuration(s string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return time.ParseDuration(s)
	}
	ns := math.Round(seconds * float64(time.Second))
	if !(math.Abs(ns) < math.MaxInt64) { // also not a number
		return 0, strconv.ErrRange
	}
	return time.Duration(ns), nil
}

// listen takes host:port with a port from the lowest on; "" is none.
func listen(lowest int, field func(*Config) *string) setter {
	return func(c *Config, s string) error {
		_, port, err := net.SplitHostPort(s)
		if n, portErr := strconv.Atoi(port); s != "" && (err != nil || portErr != nil || n < lowest || n > math.MaxUint16) {
			return fmt.Errorf("must be host:port with a port from %d to %d", lowest, math.MaxUint16)
		}
		*field(c) = s
		return nil
	}
}

var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func setPrefix(c *Config, s string) error {
	if !tokenPattern.MatchString(s) {
		return errors.New("must be a word of A-Z a-z 0-9 _ -")
	}
	c.Prefix = events.Prefix(s)
	return nil
}

func setNATSURL(c *Config, s string) error {
	for server := range strings.SplitSeq(s, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as nats.go does
		}
		u, err := url.Parse(server)
		if s != "" && (err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)) {
			return errors.New("must be URLs such as nats://host:4222 (or tls, ws, wss), separated by commas")
		}
	}
	c.NATS.URL = s
	return nil
}

// httpURL is the address of a server that is asked over HTTP.
func httpURL(field func(*Config) *string) setter {
	return func(c *Config, s string) error {
		u, err := url.Parse(s)
		if s != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return errors.New("must be a URL such as http://host:9090")
		}
		*field(c) = s
		return nil
	}
}

func setReplicas(c *Config, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || !slices.Contains([]int{1, 3, 5}, n) {
		return errors.New("must be 1, 3 or 5")
	}
	c.NATS.Replicas = n
	return nil
}

func setFailureRate(c *Config, s string) error {
	rate, err := strconv.ParseFloat(s, 64)
	if err != nil || !(rate >= 0 && rate <= 1) {
		return errors.New("must be a number from 0 to 1")
	}
	c.Mock.FailureRate = rate
	return nil
}

func setSeed(c *Config, s string) error {
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return errors.New("must be an integer from 0 to 2^64-1")
	}
	c.Mock.Seed = seed
	return nil
}

var logLevels = []string{"debug", "info", "warn", "error"}

func setLogLevel(c *Config, s string) error {
	if !slices.Contains(logLevels, s) {
		return errors.New("must be one of " + strings.Join(logLevels, ", "))
	}
	return c.Log.Level.UnmarshalText([]byte(s))
}

func setProvisionerVars(c *Config, s string) error {
	return decodeObject(s, &c.ProvisionerVars)
}

func setInitialDefinitions(c *Config, s string) error {
	var definitions map[string]json.RawMessage
	if err := decodeObject(s, &definitions); err != nil {
		return err
	}
	c.InitialDefinitions = make(map[string]events.Config, len(definitions))
	for id, raw := range definitions {
		config, err := decodeConfig(raw)
		if err == nil {
			err = checkID(id)
		}
		if err != nil {
			return fmt.Errorf("is wrong at %q: %w", id, err)
		}
		c.InitialDefinitions[id] = config
	}
	return nil
}

func setInitialDomains(c *Config, s string) error {
	var domains map[string]json.RawMessage
	if err := decodeObject(s, &domains); err != nil {
		return err
	}
	c.InitialDomains = make(map[string]InitialDomain, len(domains))
	for id, raw := range domains {
		domain, err := decodeInitialDomain(raw)
		if err == nil {
			err = checkID(id)
		}
		if err != nil {
			return fmt.Errorf("is wrong at %q: %w", id, err)
		}
		c.InitialDomains[id] = domain
	}
	return nil
}

func checkID(id string) error {
	if err := events.CheckName(id); err != nil {
		_, why, _ := strings.Cut(err.Error(), "bad name: ")
		return fmt.Errorf("it is no name: %s", why)
	}
	return nil
}

func decodeInitialDomain(raw json.RawMessage) (InitialDomain, error) {
	var domain struct {
		Definition *string         `json:"definition"`
		Config     json.RawMessage `json:"config"`
	}
	if err := decodeStrictly(raw, &domain); err != nil || domain.Definition == nil {
		return InitialDomain{}, errors.New("it must be an object with definition (a definition's name) and config, and nothing else")
	}
	if len(domain.Config) == 0 || string(domain.Config) == "null" {
		return InitialDomain{Definition: *domain.Definition}, nil
	}
	config, err := decodeConfig(domain.Config)
	return InitialDomain{Definition: *domain.Definition, Config: config}, err
}

// decodeConfig reads a config of up to three sections, each kept as it is.
func decodeConfig(raw json.RawMessage) (events.Config, error) {
	var sections map[string]map[string]json.RawMessage
	wrong := errors.New("it must be an object with the sections general, engine_conf and health, each an object")
	if err := json.Unmarshal(raw, &sections); err != nil || sections == nil {
		return events.Config{}, wrong
	}
	for section, content := range sections {
		if !slices.Contains([]string{"general", "engine_conf", "health"}, section) || content == nil {
			return events.Config{}, fmt.Errorf("%w; %s is none", wrong, section)
		}
	}
	var config events.Config
	err := json.Unmarshal(raw, &config)
	return config, err
}

// decodeObject reads a JSON object; an empty text says nothing.
func decodeObject[V any](s string, object *map[string]V) error {
	if s == "" {
		return nil
	}
	if err := decodeStrictly([]byte(s), object); err != nil || *object == nil {
		return errors.New("must be a JSON object")
	}
	return nil
}

// decodeStrictly takes no unknown field and nothing behind the value.
func decodeStrictly(data []byte, v any) error {
	if !json.Valid(data) {
		return errors.New("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
