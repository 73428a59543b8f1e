package natsapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// The operations that are no commands (design §3).
const (
	OpListDomains        = "list_domains"
	OpDescribeDomain     = "describe_domain"
	OpListDefinitions    = "list_domain_definitions"
	OpDescribeDefinition = "describe_domain_definition"
	OpStatus             = "status"
	OpRunPass            = "run_pass"
)

const (
	// serviceName is what $SRV.INFO knows the endpoints by (design §3).
	serviceName = "epum"
	// queueGroup is the one of all processes (design §3).
	queueGroup = "epum"
	// requestTimeout bounds one request: what commands retry for, and as much again.
	requestTimeout = 2 * commands.RetryFor
	// lane is how many requests of one operation are worked on at a time; more
	// wait in the subscription.
	lane = 1024
	// pendingMsgs and pendingBytes are what may wait in one subscription.
	pendingMsgs  = 1 << 20
	pendingBytes = 512 << 20
	// flushTimeout bounds the wait for the server to know new subscriptions.
	flushTimeout = 5 * time.Second
)

// Reader answers the reads, as projections.Reader. Each answer shows all that
// was acknowledged before.
type Reader interface {
	// ListDomains gives an owner's domains, sorted by name; next is the last one
	// given where there are more.
	ListDomains(ctx context.Context, owner, after string, limit int) (names []string, next string, err error)
	// DescribeDomain gives the domain document as JSON; projections.ErrNotFound
	// where there is no such domain.
	DescribeDomain(ctx context.Context, id events.DomainID, after string, limit int) ([]byte, error)
	// ListDefinitions gives the definitions, as ListDomains.
	ListDefinitions(ctx context.Context, after string, limit int) (names []string, next string, err error)
	// DescribeDefinition gives a definition; projections.ErrNotFound where there
	// is none.
	DescribeDefinition(ctx context.Context, name string) (*events.Definition, error)
}

// Config is what the endpoints need.
type Config struct {
	Prefix      events.Prefix // "": events.DefaultPrefix
	Version     string        // of the program, semantic; "": 0.0.0
	DefaultUser string        // who the caller token "-" means; "": nobody
	Handler     *commands.Handler
	Reads       Reader
	Past        *projections.Chronicle
	Samples     projections.Samples // what was last read of the metrics; nil: not known
	Engines     *engines.Registry   // documents the engines of definitions
	Status      func(context.Context) (Status, error)
	Logger      *slog.Logger // nil: slog.Default()
}

// API is the endpoints of one process.
type API struct {
	nc       *nats.Conn
	conf     Config
	replies  replies
	service  micro.Service
	ctx      context.Context // ends when Stop gives up waiting
	cancel   context.CancelFunc
	running  sync.WaitGroup
	begun    atomic.Uint64 // requests taken so far
	readings *gate
	stats    map[string]*opStats
}

// Serve starts the endpoints and returns when requests reach them. They answer
// until Stop; the connection stays the caller's.
func Serve(nc *nats.Conn, conf Config) (*API, error) {
	if conf.Prefix == "" {
		conf.Prefix = events.DefaultPrefix
	}
	if conf.Version == "" {
		conf.Version = "0.0.0"
	}
	if conf.Logger == nil {
		conf.Logger = slog.Default()
	}
	a := &API{nc: nc, conf: conf, replies: replies{nc, conf.Prefix, conf.Logger}, stats: map[string]*opStats{}, readings: newGate()}
	for op := range a.operations() {
		a.stats[op] = &opStats{}
	}
	service, err := micro.AddService(nc, micro.Config{
		StatsHandler: a.shown,
		Name:         serviceName, Version: conf.Version, QueueGroup: queueGroup,
		Description: "Elastic domains on NATS JetStream",
		Metadata:    map[string]string{"prefix": string(conf.Prefix)},
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			conf.Logger.Error("endpoint fault", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("add the service %s: %w", serviceName, err)
	}
	a.service = service
	a.ctx, a.cancel = context.WithCancel(context.Background())
	for op, answer := range a.operations() {
		err := service.AddEndpoint(op, a.endpoint(op, answer),
			micro.WithEndpointSubject(string(conf.Prefix)+".cmd.*."+op),
			micro.WithEndpointPendingLimits(pendingMsgs, pendingBytes))
		if err != nil {
			a.cancel()
			return nil, errors.Join(fmt.Errorf("add the endpoint %s: %w", op, err), service.Stop())
		}
	}
	// The server knows the subscriptions when it has answered.
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		a.cancel()
		return nil, errors.Join(fmt.Errorf("start the service %s: %w", serviceName, err), service.Stop())
	}
	return a, nil
}

// answer works one request out: the reply's body, or an error.
type answer func(ctx context.Context, r *request) ([]byte, error)

func (a *API) operations() map[string]answer {
	ops := map[string]answer{
		OpListDomains:        a.listDomains,
		OpDescribeDomain:     a.describeDomain,
		OpListDefinitions:    a.listDefinitions,
		OpDescribeDefinition: a.describeDefinition,
		OpStatus:             a.status,
		OpRunPass:            a.runPass,
		OpHistory:            a.history,
		OpExplain:            a.explainOp,
	}
	for _, op := range commands.Ops {
		ops[op] = a.command
	}
	return ops
}

// endpoint hands each request over to a goroutine of its own, at most lane at a
// time. Workers that are used again were measured to spare nothing (30,000
// add_domain, 128 at a time: 2.9 s of CPU each way).
func (a *API) endpoint(op string, work answer) micro.Handler {
	free := make(chan struct{}, lane)
	return micro.HandlerFunc(func(msg micro.Request) {
		free <- struct{}{}
		a.running.Add(1)
		a.begun.Add(1)
		go func() {
			a.serve(op, work, msg)
			a.running.Done()
			<-free
		}()
	})
}

func (a *API) serve(op string, work answer, msg micro.Request) {
	start := time.Now()
	limit := requestTimeout
	if op == OpRunPass {
		limit = passTimeout + leaderWait
	}
	ctx, cancel := context.WithTimeout(a.ctx, limit)
	defer cancel()
	body, err := a.try(ctx, op, work, incoming{subject: msg.Subject(), header: nats.Header(msg.Headers()), body: msg.Data()})
	code := 200
	if err == nil {
		err = a.replies.send(msg.Reply(), &nats.Msg{Data: body})
	}
	if err != nil {
		code = a.refuse(op, msg, err)
	}
	a.stats[op].add(code, time.Since(start))
}

// try reads the request and works it out; a panic is an internal fault of this
// request alone.
func (a *API) try(ctx context.Context, op string, work answer, in incoming) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	r, err := readRequest(a.conf.Prefix, op, a.conf.DefaultUser, in)
	if err != nil {
		return nil, err
	}
	return work(ctx, r)
}

// refuse answers with an error and gives its code.
func (a *API) refuse(op string, msg micro.Request, err error) int {
	told := a.told(op, msg.Subject(), err)
	if errors.Is(told, commands.ErrUnavailable) {
		a.conf.Logger.Warn("request not answered for sure", "op", op, "subject", msg.Subject(), "error", err)
	}
	if err := a.replies.refuse(msg.Reply(), told); err != nil {
		a.conf.Logger.Error("reply failed", "op", op, "subject", msg.Subject(), "error", err)
	}
	return told.Code
}

// told is what the caller is told of an error; the log is told all of a fault.
func (a *API) told(op, subject string, err error) *commands.Error {
	told := commands.AsError(err)
	if errors.Is(told, commands.ErrInternal) {
		a.conf.Logger.Error("request failed", "op", op, "subject", subject, "error", err)
	}
	return told
}

// Stop takes no further requests, works off those that have arrived, and
// returns when they are answered, or with ctx's error. Without a deadline in
// ctx it waits as long as a request may take.
func (a *API) Stop(ctx context.Context) error {
	defer a.cancel()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout) // a flush needs one
		defer cancel()
	}
	if err := a.service.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop the service %s: %w", serviceName, err)
	}
	// What the server has sent is in the subscriptions after a flush; they are
	// empty when nothing comes out of them any more.
	flushErr := a.nc.FlushWithContext(ctx)
	for before := a.begun.Load() + 1; before != a.begun.Load(); {
		before = a.begun.Load()
		done := make(chan struct{})
		go func() { a.running.Wait(); close(done) }()
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("stop the service %s: %w", serviceName, ctx.Err())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if flushErr != nil && !errors.Is(flushErr, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop the service %s: %w", serviceName, flushErr)
	}
	return a.flushReplies(ctx)
}

func (a *API) flushReplies(ctx context.Context) error {
	if err := a.nc.FlushWithContext(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("send the last replies: %w", err)
	}
	return nil
}
