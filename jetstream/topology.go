package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// DefaultLeaseTTL is the lease of a cell that names none (design §7).
	DefaultLeaseTTL = 5 * time.Second
	// ReplicatedLeaseTTL is that of a replicated cell: a lost stream leader
	// costs 4 to 6 s, and the lease must outlive it.
	ReplicatedLeaseTTL = 15 * time.Second
	// shortestDuplicates is the smallest window the server allows. Nothing here
	// relies on it: the guards do the work.
	shortestDuplicates = 100 * time.Millisecond
	// keptFor is how long the outcomes of durable commands and notifications are
	// kept for whoever was away (design §4).
	keptFor = 24 * time.Hour
	// samplesKept is how long pushed samples, and what was last read of a domain,
	// are kept: as long as the longest sample_period.
	samplesKept = 24 * time.Hour
	// mostSamples is how many pushed samples of one series are kept: as many as
	// whoever leads holds in memory.
	mostSamples = 200
	// mostSampleBytes is the largest pushed sample, its headers counted.
	mostSampleBytes = 4 << 10
	// mostShadows is how many decisions of shadows are kept of a domain. None goes by its
	// age, since the last one holds for as long as a shadow wants the same; and there is no
	// limit in bytes: the server would set that much room aside, which a small one does
	// not have.
	mostShadows = 10_000
	// leaseMarkerTTL is how long the marker of an expired lease stays. The
	// server allows no less.
	leaseMarkerTTL = time.Second
)

// Config says which cell is opened, and how.
type Config struct {
	Prefix   events.Prefix // "": events.DefaultPrefix
	Process  string        // this process's id; it is in the ce-source of every event
	Replicas int           // of every stream and bucket; 0: 1. Streams that have more keep them
	LeaseTTL time.Duration // whole seconds; 0: DefaultLeaseTTL, or ReplicatedLeaseTTL with replicas
	Logger   *slog.Logger  // nil: slog.Default()
}

// Cell is one cell: its log, its state bucket, its lease and its inbox (design
// §5 and §8). It is safe for concurrent use.
type Cell struct {
	cfg     Config
	nc      *nats.Conn
	js      natsjs.JetStream
	pub     *publisher
	streams streamConfigs
}

// streamConfigs are the streams of a cell, as they should be.
type streamConfigs struct {
	events, inbox, results, notify, dead, sensor, shadow, state, leases, samples, purged natsjs.StreamConfig
}

func (s streamConfigs) all() []natsjs.StreamConfig {
	return []natsjs.StreamConfig{s.events, s.inbox, s.results, s.notify, s.dead, s.sensor, s.shadow, s.state, s.leases, s.samples, s.purged}
}

// Open creates what is missing of a cell's streams, buckets and durable consumers,
// and updates what can be updated. It deletes nothing: the error says what differs
// where a stream cannot be made what it should be. Several processes may do so at
// once. The connection stays the caller's.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Cell, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := natsjs.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: open: %w", err)
	}
	c := &Cell{cfg: cfg, nc: nc, js: js, streams: topology(cfg)}
	for _, want := range c.streams.all() {
		if err := reconcile(ctx, js, want, cfg.Logger); err != nil {
			return nil, err
		}
	}
	warnIfLenient(ctx, nc, c.streams.events.Name, cfg.Logger)
	if err := c.Notices().open(ctx); err != nil {
		return nil, err
	}
	if c.pub, err = newPublisher(nc); err != nil {
		return nil, err
	}
	return c, nil
}

// Attach is Open for an operator's program: it creates and changes nothing. The error
// wraps projections.ErrNotFound where the server has no log of this cell, and
// projections.ErrNoQuorum where nobody answers.
func Attach(ctx context.Context, nc *nats.Conn, cfg Config) (*Cell, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cell{cfg: cfg, nc: nc, streams: topology(cfg)}
	info, err := streamInfo(ctx, nc, c.streams.events.Name)
	if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeStreamNotFound {
		return nil, fmt.Errorf("jetstream: stream %s: %w", c.streams.events.Name, projections.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("jetstream: attach: %w", err)
	}
	c.cfg.Replicas = info.Config.Replicas // whatever it may have to make again is like the log
	c.streams = topology(c.cfg)
	if c.js, err = natsjs.New(nc); err != nil {
		return nil, fmt.Errorf("jetstream: attach: %w", err)
	}
	if c.pub, err = newPublisher(nc); err != nil {
		return nil, err
	}
	return c, nil
}

// Close lets go of what the cell holds on the connection. What is under way
// fails with events.ErrUnavailable.
func (c *Cell) Close() { c.pub.close() }

// Prefix is the cell's prefix.
func (c *Cell) Prefix() events.Prefix { return c.cfg.Prefix }

// LeaseTTL is how long a lease lasts that is not renewed.
func (c *Cell) LeaseTTL() time.Duration { return c.cfg.LeaseTTL }

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = events.DefaultPrefix
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = DefaultLeaseTTL
		if cfg.Replicas > 1 {
			cfg.LeaseTTL = ReplicatedLeaseTTL
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	switch {
	case cfg.Process == "":
		return cfg, errors.New("jetstream: open: the process has no id")
	case cfg.LeaseTTL < time.Second || cfg.LeaseTTL%time.Second != 0:
		return cfg, fmt.Errorf("jetstream: open: lease_ttl is %s, it must be whole seconds, at least one", cfg.LeaseTTL)
	}
	return cfg, nil
}

func topology(cfg Config) streamConfigs {
	p := cfg.Prefix
	stream := func(name string) natsjs.StreamConfig { return plainStream(cfg, p.Stream(name)) }
	log := stream(events.StreamEvents)
	log.Description = "epum: the event log"
	log.Subjects = []string{p.AllEvents()}
	log.AllowAtomicPublish = true
	log.DenyDelete = true
	log.Duplicates = shortestDuplicates

	inbox := stream(events.StreamInbox)
	inbox.Description = "epum: reports and durable commands to be handled"
	inbox.Subjects = []string{string(p) + ".node.*." + events.OpInstanceInfo, string(p) + ".inbox.*.*"}
	inbox.Retention = natsjs.WorkQueuePolicy
	// A command's id is its caller's own, but the window is everybody's: a longer
	// one would swallow what two callers give the same id.
	inbox.Duplicates = shortestDuplicates

	results := stream(events.StreamResults)
	results.Description = "epum: outcomes of durable commands"
	results.Subjects = []string{string(p) + ".result.*.*"}
	results.MaxAge = keptFor
	results.MaxMsgsPerSubject = 1

	notify := stream(events.StreamNotify)
	notify.Description = "epum: notifications to subscribers"
	notify.Subjects = []string{string(p) + ".notify.*.*"}
	notify.MaxAge = keptFor

	dead := stream(events.StreamDead)
	dead.Description = "epum: what could not be processed"
	dead.Subjects = []string{string(p) + ".dead.>"}

	sensor := stream(events.StreamSensor)
	sensor.Description = "epum: pushed samples"
	sensor.Subjects = []string{p.AllSensors()}
	sensor.MaxAge = samplesKept
	sensor.MaxMsgsPerSubject, sensor.MaxMsgSize = mostSamples, mostSampleBytes

	shadow := stream(events.StreamShadow)
	shadow.Description = "epum: what second engines have decided alongside"
	shadow.Subjects = []string{p.AllShadows()}
	shadow.MaxMsgsPerSubject = mostShadows

	state := bucketStream(cfg, events.BucketState)
	state.Description = "epum: the documents"
	state.AllowAtomicPublish = true

	leases := bucketStream(cfg, events.BucketLeases)
	leases.Description = "epum: who leads"
	leases.MaxAge = cfg.LeaseTTL
	leases.SubjectDeleteMarkerTTL = leaseMarkerTTL

	samples := bucketStream(cfg, events.BucketSamples)
	samples.Description = "epum: the last samples of each domain"
	samples.MaxAge = samplesKept

	purged := bucketStream(cfg, events.BucketPurged)
	purged.Description, purged.AllowAtomicPublish = "epum: the snapshot that stands for purged events", true
	return streamConfigs{
		events: log, inbox: inbox, results: results, notify: notify, dead: dead, sensor: sensor,
		shadow: shadow, state: state, leases: leases, samples: samples, purged: purged,
	}
}

// plainStream is what the streams have in common.
func plainStream(cfg Config, name string) natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name:              name,
		Storage:           natsjs.FileStorage,
		Retention:         natsjs.LimitsPolicy,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Replicas:          cfg.Replicas,
		AllowDirect:       true,
	}
}

// bucketStream is the stream of a bucket.
func bucketStream(cfg Config, name string) natsjs.StreamConfig {
	b := plainStream(cfg, cfg.Prefix.Stream(name))
	b.Subjects = []string{"$KV." + b.Name + ".>"}
	b.Name = "KV_" + b.Name
	b.MaxMsgsPerSubject = 1
	b.Discard = natsjs.DiscardNew
	b.AllowRollup = true
	b.DenyDelete = true
	b.AllowMsgTTL = true
	b.Duplicates = shortestDuplicates
	return b
}
