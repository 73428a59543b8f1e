package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/engines/shadow"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const shadowLong = `Have a second engine decide on a domain alongside its own, on the log as it grows and on the metrics that the leader
reads. Nothing of what it decides is done: nothing is appended to the log, and no provisioner is asked for anything.

Each of its decisions that is news goes on record in the stream <prefix>_shadow, and is printed beside the domain's own
last one. --engine, --set and --config are laid over the domain's config, as for 'epum backtest'. It runs until Ctrl-C.
One shadow of a domain runs at a time: a second one takes its place. --report compares what is on record.

The shadow sees the instances that the domain's own engine keeps: it says what it would do now, not what would have
become of the domain. It sees those metrics only that the domain's own config has the leader read.`

func (a *app) shadowCommand() *cobra.Command {
	var policy policyInput
	var every time.Duration
	var report bool
	cmd := &cobra.Command{
		Use:   "shadow NAME",
		Short: "Have a second engine decide alongside, without doing anything",
		Long:  shadowLong,
		Example: `  epum shadow shop --engine target_tracking -f policy.yaml
  epum shadow shop --set engine_conf.preserve_n=5
  epum shadow shop --report`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.run(func(ctx context.Context, args []string) error {
			over, err := policy.read(a)
			if err != nil {
				return err
			}
			if every <= 0 {
				return usageError("--every %s is not above zero", every)
			}
			if given := policy.engine != "" || policy.config.given(); given == report {
				return usageError("say what is to decide with --engine, --set or --config, or compare what is on record with --report")
			}
			return a.operate(ctx, func(o *operator) error {
				if report {
					return o.reportShadow(args[0])
				}
				return o.shadow(args[0], over, every)
			})
		}),
	}
	policy.flags(cmd)
	cmd.Flags().DurationVar(&every, "every", 5*time.Second, "time between decisions that nothing calls for (the service's decider_loop_interval)")
	cmd.Flags().BoolVar(&report, "report", false, "compare the shadows' decisions on record with the domain's own")
	return cmd
}

func (o *operator) shadow(name string, over events.Config, every time.Duration) error {
	var broken error // stdout takes nothing more
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	err := shadow.Run(ctx, shadow.Config{
		Domain: events.DomainID{Owner: o.owner, Name: name}, Over: over, Log: o.log, Origin: projections.NewOrigin(o.cell.Purged()), Samples: o.cell.Samples(), Records: o.cell.Shadows(),
		Registry: service.Registry(o.prefix, ""), Ask: o.ask, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Every: every,
		Decided: func(r *shadow.Record, own *events.DecisionMade) {
			if broken = o.app.printShadow(r, own); broken != nil {
				cancel()
			}
		},
		Failed: func(err error) { fmt.Fprintf(o.app.stderr, "epum: %s\n", oneLine(err.Error())) },
	})
	switch {
	case broken != nil:
		return broken
	case errors.Is(err, shadow.ErrNoDomain):
		return &fault{code: exitNotFound, message: fmt.Sprintf("domain %q not found for owner %s; see 'epum domain list'", name, o.owner)}
	case errors.Is(err, shadow.ErrGone):
		fmt.Fprintf(o.app.stderr, "epum: the domain %q is removed, and so is its shadow\n", name)
		return nil
	case errors.Is(err, shadow.ErrReplaced):
		return &fault{code: exitConflict, message: fmt.Sprintf("another shadow of domain %q has begun, this one ends", name)}
	}
	return o.refused(err)
}

// shadowLine is a shadow's decision as JSON.
type shadowLine struct {
	Shadow   *shadow.Record       `json:"shadow"`
	Recorded *events.DecisionMade `json:"recorded"` // the domain's own last one; null: none
}

// printShadow prints a shadow's decision beside the domain's own.
func (a *app) printShadow(r *shadow.Record, own *events.DecisionMade) error {
	if a.output == outputJSON {
		return a.printAs(shadowLine{r, own})
	}
	made := r.DecisionMade
	made.Reason = strings.TrimPrefix(made.Reason, passes.DryRun) // which a shadow's always are
	text := fmt.Sprintf("%s  shadow: %s", r.Now.Format(time.TimeOnly), wishOf(&made))
	if own == nil {
		return a.print(text + "  |  recorded: nothing yet\n")
	}
	return a.print(text + "  |  recorded: " + wishOf(own) + "\n")
}

// wishOf says what a decision wants, and why.
func wishOf(made *events.DecisionMade) string {
	saw, err := passes.DecodeSaw(made.Saw)
	if err != nil {
		return clean(made.Reason)
	}
	return fmt.Sprintf("wants %d: %s", saw.Target, clean(made.Reason))
}

// shadowReport is a report as JSON.
type shadowReport struct {
	Owner    string        `json:"owner"`
	Domain   string        `json:"domain"`
	Engine   string        `json:"engine"`
	From     time.Time     `json:"from"`
	To       time.Time     `json:"to"`
	Runs     int           `json:"runs"`
	Unended  int           `json:"runs_without_end"`
	Watched  float64       `json:"watched_seconds"`
	Same     float64       `json:"same_seconds"`
	More     float64       `json:"more_seconds"`
	Fewer    float64       `json:"fewer_seconds"`
	Recorded tallyDocument `json:"recorded"`
	Shadow   tallyDocument `json:"shadow"`
}

type tallyDocument struct {
	Decisions   int     `json:"decisions"`
	WantedHours float64 `json:"wanted_instance_hours"`
	MostWanted  int     `json:"most_wanted"`
}

func (o *operator) reportShadow(name string) error {
	domain := events.DomainID{Owner: o.owner, Name: name}
	end, err := o.end()
	if err != nil {
		return err
	}
	var since time.Time
	until := time.Now()
	if end.Time.After(until) { // clocks differ a little
		until = end.Time
	}
	var r *shadow.Report
	origin := projections.NewOrigin(o.cell.Purged())
	err = origin.Hold(o.ctx, end.Created, func(point projections.PurgePoint) (err error) {
		since = point.Time // of a decision before, only the last one is in the log
		r, err = shadow.Compare(o.ctx, domain, o.log, o.cell.Shadows(), since, until)
		return err
	})
	if err != nil {
		return o.readFault("the records of shadows", err)
	}
	if !since.IsZero() {
		fmt.Fprintf(o.app.stderr, "epum: what was decided before %s was purged from the log: nothing is compared before\n", stamp(since))
	}
	if r.Runs == 0 {
		return &fault{code: exitNotFound, message: fmt.Sprintf("no shadow of domain %q of owner %s has ever decided; start one with 'epum shadow %s --engine …'", name, o.owner, name)}
	}
	if o.app.output == outputJSON {
		return o.app.printAs(shadowReport{
			Owner: domain.Owner, Domain: domain.Name, Engine: r.Engine, From: r.From, To: r.To, Runs: r.Runs, Unended: r.Unended,
			Watched: r.Watched.Seconds(), Same: r.Same.Seconds(), More: r.More.Seconds(), Fewer: r.Fewer.Seconds(),
			Recorded: tallyDocument(r.Recorded), Shadow: tallyDocument(r.Shadow),
		})
	}
	return o.app.printShadowReport(domain, r)
}

func (a *app) printShadowReport(domain events.DomainID, r *shadow.Report) error {
	round := func(d time.Duration) string { return d.Round(time.Second).String() }
	runs := strconv.Itoa(r.Runs)
	if r.Unended > 0 {
		runs += fmt.Sprintf(", of which %d left no end: one runs still, or was killed", r.Unended)
	}
	err := a.printFields(
		"Domain", clean(domain.Name), "Owner", clean(domain.Owner), "Shadow", clean(r.Engine), "Runs", runs,
		"Range", r.From.Format(time.RFC3339)+" to "+r.To.Format(time.RFC3339), "Watched", round(r.Watched),
		"Same wish", round(r.Same), "More", round(r.More)+" in which the shadow wanted more", "Fewer", round(r.Fewer)+" in which it wanted fewer",
	)
	if err != nil {
		return err
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	row := func(name string, of func(*shadow.Tally) string) []string {
		return []string{name, of(&r.Recorded), of(&r.Shadow)}
	}
	return a.printTable([]string{"", "RECORDED", "SHADOW"}, [][]string{
		row("decisions", func(t *shadow.Tally) string { return strconv.Itoa(t.Decisions) }),
		row("wanted instance-hours", func(t *shadow.Tally) string { return strconv.FormatFloat(t.WantedHours, 'f', 2, 64) }),
		row("most wanted", func(t *shadow.Tally) string { return strconv.Itoa(t.MostWanted) }),
	})
}
