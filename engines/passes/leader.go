// Package passes is the leader: it campaigns for the lease, and for as long as
// it holds it runs the passes that keep domains as their policies ask for.
//
// Every pass has the same shape: what is due → drafts → one fenced append →
// requests to provisioners, sent from what the log then says. What guards it:
// the fence (no append lands after a later election), the guard of each draft
// (no decision overtakes a reconfigure, no launch happens twice), and that a
// domain is decided on again only when the leader's own last append is folded.
package passes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Log is the event log as a leader uses it.
type Log interface {
	// Append appends one guarded event and gives its sequence.
	Append(ctx context.Context, draft events.Draft) (uint64, error)
	// AppendFenced appends the pass event and the drafts, at most 999, as one
	// atomic batch behind the fence of the epoch, and gives the last sequence.
	// It fails with events.ErrDeposed after a later election, and with an
	// *events.ConflictError where a guard did not hold.
	AppendFenced(ctx context.Context, epoch uint64, pass events.Draft, drafts []events.Draft) (uint64, error)
	// Last gives the last event of an aggregate; projections.ErrNotFound where
	// there is none.
	Last(ctx context.Context, key events.Key) (projections.LastEvent, error)
}

// Lease says who may campaign.
type Lease interface {
	// WaitFree returns when nobody holds the lease.
	WaitFree(ctx context.Context) error
	// Take takes the lease and renews it while healthy says so. held ends when
	// the lease is given up or lost; release gives it up at once. It fails with
	// events.ErrLeaseHeld where somebody else has it.
	Take(ctx context.Context, process string, healthy func() bool) (held context.Context, release func(), err error)
}

// Sender sends one message without waiting for anybody to hear it.
type Sender interface {
	// Send gives the message to the network. An error means that it did not get
	// that far; nil does not mean that it was heard.
	Send(subject string, headers map[string][]string, body []byte) error
}

// Config is what a Leader needs. All fields are required unless they say so.
type Config struct {
	Prefix          events.Prefix
	Process         string                     // this process's id, shown as the leader
	ServiceName     string                     // told to instances as heartbeat_dest
	ProvisionerVars map[string]json.RawMessage // laid under every launch's vars; nil: none
	Log             Log
	Lease           Lease
	Replica         *projections.Replica
	Projector       func() *projections.Projector // makes one for each term
	Engines         *engines.Registry
	Sender          Sender
	Asker           Asker               // nil: engines that run outside get no answer
	Sources         sensors.Sources     // nil: none
	Pushed          projections.Pushed  // for the source nats; nil: there is none
	Samples         projections.Samples // nil: what was read is not kept
	NewID           func() string       // unique ids, later ones sort higher
	Logger          *slog.Logger
	Clock           func() time.Time // nil: time.Now

	DecideInterval time.Duration // between full decide passes
	DecideTimeout  time.Duration // for one engine's decide; 0: 1 s
	DoctorInterval time.Duration // between doctor passes
	ReapInterval   time.Duration // between reaper passes
	ReapAge        time.Duration // of an ended instance's record before it is reaped
	RetryInterval  time.Duration // between re-sends of a request
	TerminateLate  time.Duration // how long a termination may take before it is late: logged, and asked for less often
	LeaseTTL       time.Duration
	ExternalDecide bool // no pass and no re-send starts by itself

	// OnTerm is called when a term begins; what it gives is called when the
	// term ends. nil: nothing.
	OnTerm func(*Term) (end func(), err error)
}

// Leader campaigns and, once elected, leads. Run may be called once.
type Leader struct{ Config }

// NewLeader makes a leader that Run sets to work.
func NewLeader(c Config) *Leader {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.DecideTimeout == 0 {
		c.DecideTimeout = time.Second
	}
	return &Leader{Config: c}
}

// How long a process waits that cannot lead just now, and one that never can
// with this log.
const (
	campaignPause = 250 * time.Millisecond
	unknownPause  = time.Minute
)

var errUnknownEvents = errors.New("passes: the log has events that this version does not know: a newer one has to lead")

// Run campaigns and leads, term after term, until ctx ends. On a clean stop it
// releases the lease.
func (l *Leader) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := l.campaign(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, events.ErrLeaseHeld), errors.Is(err, events.ErrDeposed):
			l.Logger.Info("not leading", "reason", err.Error())
		case errors.Is(err, errUnknownEvents):
			l.Logger.Error("not leading", "reason", err.Error())
			pause(ctx, unknownPause)
		case err != nil:
			l.Logger.Warn("term ended", "error", err)
			pause(ctx, campaignPause)
		}
	}
	return ctx.Err()
}

// campaign waits for the lease, stands for election and serves the term.
func (l *Leader) campaign(ctx context.Context) error {
	if err := l.Lease.WaitFree(ctx); err != nil {
		return fmt.Errorf("wait for the lease: %w", err)
	}
	var unknown bool
	l.Replica.View(func(s *events.State) { unknown = s.HasUnknown() })
	if unknown {
		return errUnknownEvents
	}
	// Read before the lease is taken: whoever is elected from here on makes
	// this election fail on its guard.
	last, err := l.Log.Last(ctx, events.LeaderKey)
	if err != nil && !errors.Is(err, projections.ErrNotFound) {
		return fmt.Errorf("read the last election: %w", err)
	}
	term := newTerm(l)
	held, release, err := l.Lease.Take(ctx, l.Process, term.healthy)
	if err != nil {
		return fmt.Errorf("take the lease: %w", err)
	}
	defer release()
	epoch, err := l.Log.Append(held, events.Draft{
		ID: l.NewID(), Key: events.LeaderKey, Event: events.LeaderElected{Process: l.Process},
		Guard: events.Guard{Key: events.LeaderKey, Seq: last.Seq}, Actor: l.actor(),
	})
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	return term.serve(held, epoch, release)
}

func (l *Leader) actor() string { return "leader/" + l.Process }

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
