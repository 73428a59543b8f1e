package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/backtest"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// policyInput is how a command is given another policy for a domain.
type policyInput struct {
	config configInput
	engine string // "": the one that is recorded
}

func (p *policyInput) flags(cmd *cobra.Command) {
	p.config.flags(cmd)
	cmd.Flags().StringVar(&p.engine, "engine", "", "engine to decide with, as general.engine_class names it (default: the recorded one)")
	must(cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(
		service.Registry(events.DefaultPrefix, "").Names(), cobra.ShellCompDirectiveNoFileComp,
	)))
}

// read gives what is to be laid over the domain's config.
func (p *policyInput) read(a *app) (events.Config, error) {
	over, err := p.config.read(a.stdin)
	if err != nil || p.engine == "" {
		return over, err
	}
	general, err := json.Marshal(map[string]string{"engine_class": p.engine})
	if err != nil {
		return over, err
	}
	return over.Merge(events.Config{General: general})
}

// backtesting is what a backtest is told.
type backtesting struct {
	domain   string
	policy   policyInput
	from, to pointFlag
	simulate bool
	every    time.Duration
	seed     uint64
	svg      string // file; "": none
}

const backtestLong = `Run an engine over a domain's recorded history, as fast as it can, and compare: decisions, launches, terminations,
instance-hours (each instance from RUNNING to its end) and the time with less RUNNING than wanted.

With the recorded engine and config every recorded decision is made again, by the code that the leader runs, on what the
log showed at its input sequence. All of them come out the same; one that does not is shown, and the exit code is 1.

With --engine, --set or --config the other policy is simulated. Its config is laid over the recorded one, key by key;
with another engine, engine_conf is what you give alone. From the history come: reconfigures (but for the keys that you
give), removal, and readings of metrics; launch latencies, drawn from the recorded ones; and failures and illness, at the
recorded rates. --seed draws others.

What a backtest cannot know:
- A metric between two decision records. The log holds readings only in decision records; each is held until the next.
- How the load would have answered. A metric of instances counts as a load that those that run share evenly: its
  average, times the instances that ran, stays as recorded. A metric of the domain stays as recorded.
- When a site or an instance would have failed: that falls where chance has it, also for what failed all at once.
- A metric that the recorded policy did not read.
- What was purged from the log: the range then begins there, with the domain as it was.
--simulate runs the recorded policy through the same simulation: how far that is from what was recorded is how far
these rules carry.`

func (a *app) backtestCommand() *cobra.Command {
	var b backtesting
	cmd := &cobra.Command{
		Use:   "backtest --domain NAME",
		Short: "Ask what another policy would have done in a domain's history",
		Long:  backtestLong,
		Example: `  epum backtest --domain shop
  epum backtest --domain shop --from 7d --set engine_conf.preserve_n=5 --svg shop.svg
  epum backtest --domain shop --engine target_tracking -f policy.yaml -o json`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			if b.domain == "" {
				return usageError("say which domain with --domain; see 'epum domain list'")
			}
			over, err := b.policy.read(a)
			if err != nil {
				return err
			}
			return a.operate(ctx, func(o *operator) error { return o.backtest(&b, over) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&b.domain, "domain", "", "domain whose history it is")
	flags.Var(&b.from, "from", "where to begin: "+pointHelp+" (default: with the domain)")
	flags.Var(&b.to, "to", "where to end, likewise (default: now)")
	b.policy.flags(cmd)
	flags.BoolVar(&b.simulate, "simulate", false, "simulate also the recorded policy")
	flags.DurationVar(&b.every, "every", 5*time.Second, "time between full decide passes of a simulation (the service's decider_loop_interval)")
	flags.Uint64Var(&b.seed, "seed", 1, "seed of what chance decides in a simulation: the same seed gives the same")
	flags.StringVar(&b.svg, "svg", "", "file to draw wanted and running instances over time into, recorded and not")
	must(cmd.RegisterFlagCompletionFunc("domain", a.completeDomain))
	must(cmd.MarkFlagFilename("svg", "svg"))
	return cmd
}

func (o *operator) backtest(b *backtesting, over events.Config) error {
	if b.every <= 0 {
		return usageError("--every %s is not above zero", b.every)
	}
	c := backtest.Config{
		Domain: events.DomainID{Owner: o.owner, Name: b.domain}, From: b.from.point, Over: over,
		Engines:  func(site string) *engines.Registry { return service.Registry(o.prefix, site) },
		Simulate: b.simulate, Every: b.every, Seed: b.seed,
		Ask: o.ask,
	}
	created, err := o.span(&c, b.to.point)
	if err != nil {
		return err
	}
	r, err := o.tried(&c, b, created)
	if err != nil {
		return err
	}
	if b.svg != "" {
		if err := writePlot(b.svg, backtestTitle(r), backtestCurves(r)); err != nil {
			return err
		}
	}
	if err := o.app.printBacktest(r); err != nil {
		return err
	}
	if r.Replayed != nil && r.Replayed.Differing > 0 {
		return &fault{code: exitOther, message: fmt.Sprintf("%d of %d recorded decisions come out otherwise", r.Replayed.Differing, r.Recorded.Decisions)}
	}
	return nil
}

// span says where a backtest ends, and gives when the log was created.
func (o *operator) span(c *backtest.Config, to projections.Point) (created time.Time, err error) {
	end, err := o.end()
	if err != nil {
		return created, err
	}
	if to == (projections.Point{}) {
		c.To, c.Until = end.Seq, end.Time
		return end.Created, nil
	}
	if c.To, err = o.resolve("to", to); err != nil {
		return created, err
	}
	if c.Until = to.Time; c.Until.After(end.Time) {
		c.Until = end.Time
	}
	return end.Created, nil
}

// tried runs a backtest, with progress, and explains why it could not be.
func (o *operator) tried(c *backtest.Config, b *backtesting, created time.Time) (r *backtest.Result, err error) {
	shown := &shownHistory{app: o.app, history: o.log, steps: []string{"reading", "deciding"}, last: c.To}
	c.History = shown
	origin := projections.NewOrigin(o.cell.Purged())
	err = origin.Hold(o.ctx, created, func(point projections.PurgePoint) (err error) {
		if c.Known, err = origin.Documents(o.ctx, point, c.Domain.Keys()...); err == nil {
			r, err = backtest.Run(o.ctx, *c)
		}
		return err
	})
	shown.end()
	purged, isPurged := errors.AsType[*backtest.PurgedError](err)
	switch {
	case err == nil:
		return r, nil
	case isPurged:
		return nil, &fault{code: exitNotFound, message: fmt.Sprintf(
			"the history of domain %q up to event %d (%s) was purged from the log, and that range is not behind it; leave --from away to begin there",
			b.domain, purged.Seq, purged.Time.Format(time.RFC3339Nano))}
	case errors.Is(err, backtest.ErrNoHistory):
		return nil, &fault{code: exitNotFound, message: fmt.Sprintf("the log has nothing of domain %q of owner %s in that range", b.domain, o.owner)}
	}
	return nil, o.refused(err)
}

// refused explains an error of a config as the service does, and any other.
func (o *operator) refused(err error) error {
	if field, ok := errors.AsType[*engines.FieldError](err); ok {
		return commands.RefusedConfig(field)
	}
	return o.readFault("the log", err)
}

// ask puts the question of an engine that runs outside, as the leader would.
func (o *operator) ask(q engines.Question, body []byte) *engines.Answer {
	ctx, cancel := context.WithTimeout(o.ctx, q.Timeout)
	defer cancel()
	told, err := o.cell.Ask(ctx, q.Subject, body)
	if err != nil {
		return &engines.Answer{Err: err.Error()}
	}
	return &engines.Answer{Body: told}
}

// shownHistory shows on a terminal how far each reading of a history has got.
type shownHistory struct {
	app     *app
	history projections.History
	steps   []string // what the first reading is for, the second, …
	last    uint64
	bar     *progress
}

// History implements projections.History.
func (h *shownHistory) History(ctx context.Context, q projections.Query, each func(*events.Recorded) error) error {
	h.end()
	h.bar = h.app.newProgress(h.steps[0], 1, h.last)
	if len(h.steps) > 1 {
		h.steps = h.steps[1:]
	}
	return h.history.History(ctx, q, func(r *events.Recorded) error {
		h.bar.at(r.Seq)
		return each(r)
	})
}

// end takes the last bar away.
func (h *shownHistory) end() {
	if h.bar != nil {
		h.bar.end()
	}
}
