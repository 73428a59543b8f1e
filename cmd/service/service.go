// Package service is the process of `epum serve`: its configuration, and the
// wiring of its parts. A Go program that wants a running epum of its own, a test
// for instance, calls Start.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// Version is the version of the program.
const Version = "0.1.0"

const (
	openTimeout = 30 * time.Second // for the streams and buckets; a new cluster needs some
	stopTimeout = 5 * time.Second  // for what is under way when the process stops
)

// Service is a running process of the service.
type Service struct {
	cfg    Config
	log    *slog.Logger
	server *jetstream.Server // nil: the NATS server is not ours
	nc     *nats.Conn
	cell   *jetstream.Cell
	// What was is read on a connection of its own: what the server sends ahead of a reading,
	// 32 MiB for each subject, would stand before all else, and where it is more than the
	// server lets wait it ends the connection.
	pastNC *nats.Conn
	past   *jetstream.Cell

	events  *jetstream.Log
	bucket  *jetstream.Bucket
	replica *projections.Replica
	reader  *projections.Reader
	engines *engines.Registry
	sources sensors.Sources
	handler *commands.Handler
	api     *natsapi.API
	url     string

	parts  []part
	duties sync.WaitGroup // what a leader does beside the passes
	fatal  chan error     // what ended a part that never should
}

// part is something that runs until its context ends. The parts are stopped in
// the reverse of the order in which they were started.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// Run starts a process of the service, prints the line that says it is ready,
// and keeps it running until ctx ends. Then it stops cleanly.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	s, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Stop()
	_, err = fmt.Fprintf(out, "epum ready nats=%s process=%s\n", jetstream.Redacted(s.url), cfg.Process)
	if err != nil {
		return fmt.Errorf("say that the service is ready: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.fatal:
		return err
	}
}

// Start starts a process of the service and returns once it answers requests
// and has caught up with the log. ctx bounds the start alone; Stop ends the
// process.
func Start(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, log: cfg.Logger, fatal: make(chan error, 1)}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// URL is where the NATS server is.
func (s *Service) URL() string { return s.url }

// Stop ends the process cleanly: the lease is released first, so that another
// process takes over at once, requests under way are finished, and the log and
// the instances stay.
func (s *Service) Stop() {
	for _, p := range slices.Backward(s.parts) {
		p.cancel()
		select {
		case <-p.done:
		case <-time.After(stopTimeout):
			s.log.Warn("part does not stop", "part", p.name)
		}
	}
	s.parts = nil
	if s.past != nil {
		s.past.Close()
	}
	if s.pastNC != nil {
		s.pastNC.Close()
	}
	if s.cell != nil {
		s.cell.Close()
	}
	if s.nc != nil {
		_ = s.nc.FlushTimeout(time.Second) // the last requests to provisioners; they are sent again anyway
		s.nc.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
	}
}

func (s *Service) start(ctx context.Context) error {
	if s.cfg.Metrics.Listen != "" {
		return errors.New("metrics.listen: this version has no metrics endpoint yet; leave it out")
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.engines = s.cfg.registry()
	var err error
	if s.sources, err = s.cfg.sources(ctx); err != nil {
		return err
	}
	s.replica = projections.NewReplica(s.events, s.bucket, s.cell.Purged(), s.log)
	s.reader = projections.NewReader(s.replica, s.bucket, s.cell.Samples())
	s.handler = &commands.Handler{Log: s.events, Replica: s.replica, Engines: s.engines, NewID: newID}

	caughtUp := make(chan struct{})
	s.run("replica", func(ctx context.Context) error {
		return s.replica.Run(ctx, func() { close(caughtUp) })
	})
	select {
	case <-caughtUp:
	case err := <-s.fatal:
		return err
	case <-ctx.Done():
		return fmt.Errorf("catch up with the log: %w", ctx.Err())
	}
	if err := s.serveAPI(); err != nil {
		return err
	}
	reporter := &commands.Reporter{
		Log: s.events, Replica: s.replica, NewID: newID, Logger: s.log,
		Orphan: natsapi.ReportOrphan(s.nc, s.cfg.Prefix),
	}
	s.run("inbox", func(ctx context.Context) error {
		return s.cell.Inbox().Consume(ctx, func() jetstream.ReportHandler { return reporter.Lane() })
	})
	if err := s.runProvisioner(); err != nil {
		return err
	}
	if err := s.addInitial(ctx); err != nil {
		return err
	}
	s.run("leader", func(ctx context.Context) error {
		defer s.duties.Wait()
		return s.lead().Run(ctx)
	})
	return nil
}

func (s *Service) connect(ctx context.Context) error {
	s.url = s.cfg.NATS.URL
	if s.url == "" {
		server, err := jetstream.StartServer(jetstream.EmbeddedConfig{
			Listen: s.cfg.Embedded.Listen, StoreDir: s.cfg.Embedded.StoreDir,
			SyncAlways: s.cfg.Embedded.Sync != SyncDefault, Logger: s.log,
		})
		if err != nil {
			return err
		}
		s.server, s.url = server, server.ClientURL()
	}
	var err error
	if s.nc, err = s.dial(""); err != nil {
		return err
	}
	openCtx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s.cell, err = jetstream.Open(openCtx, s.nc, jetstream.Config{
		Prefix: s.cfg.Prefix, Process: s.cfg.Process, Replicas: s.cfg.NATS.Replicas, LeaseTTL: s.cfg.LeaseTTL, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.events, s.bucket = s.cell.Log(), s.cell.State()
	if s.pastNC, err = s.dial(" history"); err != nil {
		return err
	}
	s.past, err = jetstream.Attach(openCtx, s.pastNC, jetstream.Config{Prefix: s.cfg.Prefix, Process: s.cfg.Process, Logger: s.log})
	return err
}

// dial opens a connection; more follows the process in its name.
func (s *Service) dial(more string) (*nats.Conn, error) {
	return jetstream.Connect(jetstream.ConnectConfig{
		URL: s.url, Creds: s.cfg.NATS.Creds, Name: "epum " + s.cfg.Process + more, Logger: s.log,
		// Whoever lives on without it would be mute for ever; the next one is not.
		Closed: func(reason error) { s.end(fmt.Errorf("the connection to NATS was closed for good: %w", reason)) },
	})
}

func (s *Service) serveAPI() error {
	var err error
	s.api, err = natsapi.Serve(s.nc, natsapi.Config{
		Prefix: s.cfg.Prefix, Version: Version, DefaultUser: s.cfg.DefaultUser,
		Handler: s.handler, Reads: s.reader, Past: projections.NewChronicle(s.past.Log(), s.past.Purged()), Samples: s.cell.Samples(), Engines: s.engines, Status: s.status, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.run("endpoints", func(ctx context.Context) error {
		<-ctx.Done()
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return s.api.Stop(stopCtx)
	})
	return s.nc.FlushTimeout(openTimeout) // from here on the server knows the endpoints
}

func (s *Service) lead() *passes.Leader {
	return passes.NewLeader(passes.Config{
		Prefix: s.cfg.Prefix, Process: s.cfg.Process, ServiceName: s.cfg.ServiceName, ProvisionerVars: s.cfg.ProvisionerVars,
		Log: s.events, Lease: s.cell.Lease(), Replica: s.replica, Engines: s.engines, Sender: sender{s.nc}, NewID: newID,
		Asker: s.cell, Sources: s.sources, Pushed: s.cell.Sensor(), Samples: s.cell.Samples(),
		Projector: func() *projections.Projector {
			return projections.NewProjector(s.replica, s.events, s.bucket, s.log)
		},
		Logger:         s.log,
		DecideInterval: s.cfg.DeciderLoopInterval, DoctorInterval: s.cfg.DoctorInterval,
		ReapInterval: s.cfg.ReaperInterval, ReapAge: s.cfg.RecordReapingMaxAge,
		RetryInterval: s.cfg.RetryInterval, TerminateLate: s.cfg.TerminateDeadline, LeaseTTL: s.cfg.LeaseTTL, ExternalDecide: s.cfg.ExternalDecide,
		OnTerm: s.onTerm,
	})
}

// onTerm starts what a leader does beside the passes. What ends it does not wait,
// for the next leader does: two that overlap do no harm.
func (s *Service) onTerm(t *passes.Term) (end func(), err error) {
	calls := natsapi.LeaderCalls{Run: runPass(t), Orphan: t.Orphan, Heartbeat: t.Heartbeat, Failure: failure(t), Logger: s.log}
	stop, err := natsapi.ServeLeader(s.nc, s.cfg.Prefix, calls)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	notifier := projections.NewNotifier(s.replica, s.events, s.cell.Notices(), s.log)
	s.duties.Go(func() { _ = notifier.Run(ctx, t.Epoch()) })                       // what ends it ends the term, too
	s.duties.Go(func() { _ = s.cell.Inbox().ConsumeCommands(ctx, s.api.Durable) }) // ends with ctx alone
	return func() {
		cancel()
		stop()
	}, nil
}

// runPass answers run_pass from a term.
func runPass(t *passes.Term) func(context.Context, string) (natsapi.PassResult, error) {
	return func(ctx context.Context, pass string) (natsapi.PassResult, error) {
		r, err := t.Run(ctx, pass)
		return natsapi.PassResult{
			Pass: pass, Domains: r.Domains, Launched: r.Launched, Terminated: r.Terminated, Changed: r.Changed,
			Errors: r.Errors, Seq: r.Seq, DurationMS: r.Duration.Milliseconds(),
		}, err
	}
}

// failure tells how engines have failed in a term.
func failure(t *passes.Term) func(events.DomainID) *explain.Failure {
	return func(id events.DomainID) *explain.Failure {
		f, failed := t.Failure(id)
		if !failed {
			return nil
		}
		line, _, _ := strings.Cut(f.Err.Error(), "\n") // without the stack of a panic, which the log has
		return &explain.Failure{Time: f.Time, Error: line}
	}
}

// run starts a part. One that ends by itself ends the process.
func (s *Service) run(name string, work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := part{name: name, cancel: cancel, done: make(chan struct{})}
	s.parts = append(s.parts, p)
	go func() {
		defer close(p.done)
		err := work(ctx)
		if ctx.Err() == nil {
			s.end(fmt.Errorf("%s ended: %w", name, err))
		}
	}()
}

// end ends the process with its first error.
func (s *Service) end(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

func (s *Service) status(ctx context.Context) (natsapi.Status, error) {
	counts := s.reader.Counts(s.cfg.TerminateDeadline)
	status := natsapi.Status{
		ServiceName: s.cfg.ServiceName, AppliedSeq: s.replica.Applied(), CheckpointSeq: s.reader.CheckpointSeq(ctx),
		Domains: counts.Domains, Instances: counts.Instances, LateTerminations: counts.LateTerminations,
	}
	holder, err := s.cell.Lease().Holder(ctx)
	if errors.Is(err, projections.ErrNotFound) {
		return status, nil
	}
	if err != nil {
		return status, err
	}
	s.replica.View(func(st *events.State) {
		if l := st.Leader(); l.Process == holder {
			status.Leader = &natsapi.LeaderStatus{Process: l.Process, Epoch: l.Epoch}
		}
	})
	return status, nil
}

// sender sends requests to provisioners over core NATS.
type sender struct{ nc *nats.Conn }

// Send implements passes.Sender.
func (s sender) Send(subject string, headers map[string][]string, body []byte) error {
	if err := events.CheckSubject(subject); err != nil {
		return err
	}
	return s.nc.PublishMsg(&nats.Msg{Subject: subject, Header: headers, Data: body})
}

// A pool of random bytes makes an id five times as cheap; a pass needs thousands.
func init() { uuid.EnableRandPool() }

// newID gives a UUID of version 7: a later one sorts higher.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
