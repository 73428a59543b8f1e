// Package shadow lets a second engine decide alongside a domain's own, on what the
// log and the leader's readings show, and does nothing of what it decides: its
// decisions go on record in a stream of their own. It appends nothing to the log and
// asks no provisioner for anything.
//
// It sees the instances that the domain's own engine keeps. So it says at each time
// what it would do now, not what would have become of the domain: a backtest does that.
package shadow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

var (
	// ErrNoDomain is returned where there is no such domain, or it is removed.
	ErrNoDomain = errors.New("shadow: there is no such domain")
	// ErrReplaced is returned when another shadow of the domain has begun: there is one
	// at a time.
	ErrReplaced = errors.New("shadow: another shadow of this domain has begun")
	// ErrGone is returned when the domain was removed.
	ErrGone = errors.New("shadow: the domain is removed")
)

// Log is the event log as a shadow reads it.
type Log interface {
	projections.History
	// End is projections.Source's.
	End(ctx context.Context) (projections.Position, error)
}

// Samples is what the leader last read of each domain's metrics, as a shadow reads it.
type Samples interface {
	// Follow calls apply with a domain's document, and with each that replaces it,
	// until ctx ends. It gets over whatever breaks.
	Follow(ctx context.Context, domain events.DomainID, apply func(data []byte)) error
}

// Records is the stream of what shadows decided.
type Records interface {
	// Append appends a domain's record behind the last one (0: there is none), and
	// gives its sequence. It fails with an *events.ConflictError where another one was
	// first, and where there is none any more: then the error's Got is 0.
	Append(ctx context.Context, domain events.DomainID, id string, body []byte, after uint64) (uint64, error)
	// Last gives the sequence and the body of a domain's last record;
	// projections.ErrNotFound where there is none.
	Last(ctx context.Context, domain events.DomainID) (uint64, []byte, error)
	// Read calls each with all records of a domain that there are, in order: the newest.
	Read(ctx context.Context, domain events.DomainID, each func(stored time.Time, body []byte) error) error
}

// Record is what a shadow decided: the body of a decision record and what it was
// decided with. What it would do is what a dry run would (passes.Saw).
type Record struct {
	events.DecisionMade
	Config events.Config `json:"config"`
	Run    string        `json:"run"`             // of the shadow: its first record is the first of its run
	Ended  bool          `json:"ended,omitempty"` // the run ends here, with what was decided last
}

// Config is what a shadow needs. All fields are required unless they say so.
type Config struct {
	Domain   events.DomainID
	Over     events.Config // laid over the domain's config
	Log      Log
	Origin   *projections.Origin // of the log
	Samples  Samples
	Records  Records
	Registry *engines.Registry
	Ask      func(q engines.Question, body []byte) *engines.Answer // nil: engines that run outside fail
	NewID    func() string
	Every    time.Duration    // between decisions that nothing calls for
	Clock    func() time.Time // nil: time.Now
	// Decided hears each decision that goes on record, with the domain's own last one;
	// nil: there is none.
	Decided func(r *Record, own *events.DecisionMade)
	// Failed hears what went wrong without ending the shadow.
	Failed func(error)
}

// Run runs a shadow until ctx ends, or it is replaced (ErrReplaced), or the domain is
// removed (ErrGone). It fails with ErrNoDomain, and with a *engines.FieldError where
// the service would refuse the domain's config with the other one laid over it.
func Run(ctx context.Context, c Config) error {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	s := &shadow{Config: c, run: c.NewID(), own: events.NewState()}
	var err error
	if s.overlay, err = engines.NewOverlay(c.Registry, c.Over); err != nil {
		return err
	}
	s.evaluator = passes.NewEvaluator(c.Registry, c.NewID, c.Ask)
	end, err := s.catchUp(ctx)
	if err != nil {
		return err
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	defer s.end()
	return s.follow(ctx, end)
}

// shadow is one run. Its goroutine decides; others tell its sight what has changed.
type shadow struct {
	Config
	run       string
	sight     *sight
	overlay   *engines.Overlay
	evaluator *passes.Evaluator

	own      *events.State // the fold of its own decisions alone
	last     *Record       // its last one; nil: none in this run
	lastSaw  passes.Saw
	lastSeq  uint64 // in the stream of records
	wake     time.Time
	replaced bool
	refused  uint64 // the config of the domain that the other one cannot be laid over
}

// catchUp folds the domain's history, and checks that there is something to do.
func (s *shadow) catchUp(ctx context.Context) (uint64, error) {
	end, err := s.Log.End(ctx)
	if err != nil {
		return 0, err
	}
	q := projections.Query{Keys: s.Domain.Keys(), To: projections.Point{Seq: end.Seq}}
	err = s.Origin.Hold(ctx, end.Created, func(point projections.PurgePoint) error {
		known, err := s.Origin.Documents(ctx, point, q.Keys...)
		if err != nil {
			return err
		}
		s.sight = newSight(s.Domain, known)
		return s.Log.History(ctx, q, s.sight.fold)
	})
	if err != nil {
		return 0, err
	}
	seen := s.sight.look()
	if seen.Domain == nil || seen.Domain.Removed {
		return 0, ErrNoDomain
	}
	_, err = s.overlay.Domain(seen.Domain)
	return end.Seq, err
}

// recall goes on with the memory of the run before, as the next leader does.
func (s *shadow) recall(ctx context.Context) error {
	seq, body, err := s.Records.Last(ctx, s.Domain)
	if errors.Is(err, projections.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.lastSeq = seq
	var last Record
	if err := json.Unmarshal(body, &last); err != nil {
		s.Failed(fmt.Errorf("the last record of a shadow cannot be read, and is not gone on with: %w", err))
		return nil
	}
	s.remember(&last, "")
	return nil
}

// remember folds a decision of its own.
func (s *shadow) remember(r *Record, id string) {
	events.Apply(s.own, events.Envelope{
		Key: s.Domain.DecisionKey(), Type: events.TypeDecisionMade, Seq: s.own.Seq + 1, Time: r.Now, ID: id,
	}, r.DecisionMade)
}

// follow decides whenever the leader would.
func (s *shadow) follow(ctx context.Context, end uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		q := projections.Query{Keys: s.Domain.Keys(), From: projections.Point{Seq: end + 1}, Follow: true}
		cancel(s.Log.History(ctx, q, s.sight.fold))
	}()
	go func() {
		_ = s.Samples.Follow(ctx, s.Domain, func(data []byte) { // it ends with ctx
			snapshot, err := sensors.DecodeSnapshot(data)
			if err == nil {
				s.sight.read(snapshot.Readings)
			}
		})
	}()
	for {
		if err := s.decide(ctx); err != nil {
			return err
		}
		pause := s.Every
		if !s.wake.IsZero() {
			pause = max(min(pause, s.wake.Sub(s.now())), 0)
		}
		timer := time.NewTimer(pause)
		select {
		case <-s.sight.changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// now is this machine's time, never below the last folded timestamp.
func (s *shadow) now() time.Time {
	now, folded := s.Clock().UTC(), s.sight.time()
	if now.Before(folded) {
		return folded
	}
	return now
}

// dry has nothing done.
var dry = events.Config{General: json.RawMessage(`{"dry_run":true}`)}

// decide decides on the domain as it is now, and records what is news.
func (s *shadow) decide(ctx context.Context) error {
	seen := s.sight.look()
	if seen.Domain == nil || seen.Domain.Removed {
		return ErrGone
	}
	laid, err := s.lay(seen.Domain)
	if err != nil {
		return err
	}
	draft, ok := s.evaluate(seen.Scene, laid)
	if !ok {
		return nil
	}
	made, ok := draft.Event.(events.DecisionMade)
	if !ok {
		return fmt.Errorf("shadow: %T instead of a decision", draft.Event)
	}
	saw, err := passes.DecodeSaw(made.Saw)
	if err != nil {
		return err
	}
	if s.last != nil && !passes.News(s.own.Decision(s.Domain), &made) && sameWish(&s.lastSaw, &saw) {
		return nil
	}
	r := &Record{DecisionMade: made, Config: laid.Config, Run: s.run}
	if err := s.record(ctx, r, draft.ID); err != nil {
		return err
	}
	s.last, s.lastSaw = r, saw
	s.remember(r, draft.ID)
	s.Decided(r, seen.own)
	return nil
}

// lay gives the domain with the other config; where the service would refuse that on
// top of a new one of the domain, with the last one that it would not.
func (s *shadow) lay(d *events.Domain) (*events.Domain, error) {
	laid, err := s.overlay.Domain(d)
	if laid == nil {
		return nil, err
	}
	if err != nil && s.refused != d.ConfigSeq {
		s.refused = d.ConfigSeq
		s.Failed(fmt.Errorf("on top of the domain's new config the service would refuse this one, so it stays with the one before: %w", err))
	}
	return laid, nil
}

// evaluate has the engine decide, with nothing done; false: it could not.
func (s *shadow) evaluate(scene passes.Scene, laid *events.Domain) (made events.Draft, ok bool) {
	rehearsed := *laid
	var err error
	if rehearsed.Config, err = laid.Config.Merge(dry); err != nil {
		s.Failed(err)
		return made, false
	}
	scene.Domain, scene.Decision, scene.Now = &rehearsed, s.own.Decision(s.Domain), s.now()
	if !s.wake.After(scene.Now) {
		s.wake = time.Time{}
	}
	e, err := s.evaluator.Evaluate(&scene, nil, true)
	if err != nil || len(e.Drafts) == 0 {
		if err != nil {
			s.Failed(err)
		}
		return made, false
	}
	s.wake = e.Wake
	return e.Drafts[0], true
}

// sameWish reports whether two decisions want the same: of a dry run, figures alone may
// say that they do not.
func sameWish(a, b *passes.Saw) bool {
	launchesA, terminationsA := Wish(a)
	launchesB, terminationsB := Wish(b)
	return a.Target == b.Target && launchesA == launchesB && terminationsA == terminationsB
}

// Wish is how many launches and terminations a shadow's decision would ask for.
func Wish(saw *passes.Saw) (launches, terminations int) {
	if saw.DryRun == nil {
		return 0, 0
	}
	return len(saw.DryRun.Launches), len(saw.DryRun.Terminations)
}

// record appends a record.
func (s *shadow) record(ctx context.Context, r *Record, id string) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("shadow: encode a record: %w", err)
	}
	seq, err := s.Records.Append(ctx, s.Domain, id, body, s.lastSeq)
	conflict, ok := errors.AsType[*events.ConflictError](err)
	if ok && conflict.Got == 0 && s.lastSeq > 0 { // somebody has purged them
		seq, err = s.Records.Append(ctx, s.Domain, id, body, 0)
		_, ok = errors.AsType[*events.ConflictError](err)
	}
	if ok {
		s.replaced = true
		return ErrReplaced
	}
	if err != nil {
		return err
	}
	s.lastSeq = seq
	return nil
}

// end puts the run's end on record.
func (s *shadow) end() {
	const patience = 5 * time.Second
	if s.last == nil || s.replaced {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last := *s.last
	last.Ended = true
	if err := s.record(ctx, &last, s.NewID()); err != nil && !errors.Is(err, ErrReplaced) {
		s.Failed(fmt.Errorf("the end is not on record: %w", err))
	}
}
