package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	explainer "github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/projections"
)

// explainRequest is the request of the operation explain.
type explainRequest struct {
	DomainID   string `json:"domain_id,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	AsOf       any    `json:"as_of,omitempty"`
}

func (a *app) explainCommand() *cobra.Command {
	var asOf pointFlag
	cmd := &cobra.Command{
		Use:   "explain {DOMAIN | INSTANCE}",
		Short: "Explain why a domain or an instance is as it is",
		Long: `Explain a domain or an instance of yours by the chain of its causes: which command led to which decision, what that saw and
why it was made, what was launched, what was reported since, how healthy it was, and why it was terminated, with the times
between. Then it says what the domain does now, or why it does nothing: the target is met, a cool-down or back-off holds,
launches have yet to run, a replacement has to wait, a metric is missing, its engine fails, nobody leads.

A name that is a domain's is taken for the domain; else it is an instance's id, also of one whose record is gone.`,
		Example:           "  epum explain shop\n  epum explain 01a20569-d60e-739f-833b-5e7e952822b5\n  epum explain shop --as-of 2h -o json",
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.run(func(ctx context.Context, args []string) error {
			return a.with(ctx, nil, func(s *session) error { return s.explain(args[0], asOf.point) })
		}),
	}
	asOf.flag(cmd)
	return cmd
}

// flag adds --as-of to a command.
func (f *pointFlag) flag(cmd *cobra.Command) {
	cmd.Flags().Var(f, "as-of", "as it was at "+pointHelp)
	must(cmd.RegisterFlagCompletionFunc("as-of", cobra.NoFileCompletions))
}

func (s *session) explain(name string, p projections.Point) error {
	stop := s.app.waiting("explain")
	reply, err := s.explanation(name, p)
	stop()
	if err != nil {
		return err
	}
	if s.app.output == outputJSON {
		return s.app.printJSON(reply)
	}
	var e explainer.Explanation
	if err := json.Unmarshal(reply, &e); err != nil {
		return fmt.Errorf("the reply cannot be read: %w", err)
	}
	return s.app.printExplanation(&e)
}

// explanation is the service's, of a domain or, where there is none, an instance.
func (s *session) explanation(name string, p projections.Point) (json.RawMessage, error) {
	reply, err := s.call(natsapi.OpExplain, explainRequest{DomainID: name, AsOf: natsapi.PointJSON(p)})
	if !isAbsent(err) {
		return reply, err
	}
	reply, err = s.call(natsapi.OpExplain, explainRequest{InstanceID: name, AsOf: natsapi.PointJSON(p)})
	if isAbsent(err) {
		err = &fault{code: exitNotFound, message: fmt.Sprintf("owner %s had neither a domain nor an instance %q then; see 'epum domain list'", s.owner, name)}
	}
	return reply, err
}

func isAbsent(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.code == exitNotFound
}

func (a *app) printExplanation(e *explainer.Explanation) error {
	leftOut := ""
	if e.LeftOut > 0 {
		leftOut = fmt.Sprintf("%d earlier steps are left out; see 'epum history'", e.LeftOut)
	}
	err := a.printFields("Domain", clean(e.DomainID), "Owner", clean(e.Owner), "Instance", clean(e.InstanceID),
		"As of", fmt.Sprintf("event %d (%s)", e.AsOf.Seq, e.AsOf.Time.UTC().Format(time.RFC3339)), "Now", oneLine(e.Now), "Before", leftOut)
	if err != nil {
		return err
	}
	var b strings.Builder
	for n := range e.Steps {
		b.WriteString("\n" + toldStep(&e.Steps[n], e.InstanceID))
	}
	return a.print(b.String())
}

// toldStep is a step on a few lines; of an instance's explanation it does not say of
// whom it is.
func toldStep(s *explainer.Step, instance string) string {
	seq := fmt.Sprint(s.Seq)
	if s.ToSeq > 0 {
		seq += fmt.Sprint("-", s.ToSeq)
	}
	line := fmt.Sprintf("%s  %-11s  event %s", stamp(s.Time), s.Kind, seq)
	if !slices.Contains(s.Instances, s.Who) { // its agent or provisioner reports in its name
		line += ", " + clean(s.Who)
	}
	if s.CommandID != "" {
		line += ", command " + clean(s.CommandID)
	}
	if s.Follows > 0 {
		line += fmt.Sprintf("  (%s after event %d)", time.Duration(s.After*float64(time.Second)).Round(time.Millisecond), s.Follows)
	} else if s.After > 0 {
		line += fmt.Sprintf("  (up to %s after what they follow)", time.Duration(s.After*float64(time.Second)).Round(time.Millisecond))
	}
	add := func(label, text string) {
		if text != "" {
			line += fmt.Sprintf("\n    %-5s %s", label, oneLine(text))
		}
	}
	what := s.What
	if s.Count > 1 {
		what = fmt.Sprintf("%d instances: %s", s.Count, what)
	}
	add("what", what)
	add("why", s.Why)
	add("saw", string(s.Saw))
	if len(s.Instances) > 0 && instance == "" {
		who := strings.Join(s.Instances, " ")
		if s.Count > len(s.Instances) {
			who += " …"
		}
		add("of", who)
	}
	return line + "\n"
}

// stamp is a time of the log for people, in their zone.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }
