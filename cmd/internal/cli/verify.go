package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/projections"
	"github.com/seed-524e47bf/epum/projections/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var sealedFrom uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the log, and the state bucket against it",
		Long: `Read the whole log, check each event and its place in it, and compare what they add up to with the state bucket, key by key, while
the service works on. It prints a line for each finding: where it is, what is wrong and what to do; then a summary. It needs no running
service, only its NATS server, and the permission to read the streams. It changes nothing.

The log: no sequence and no event of a batch may be missing; each event has to be as it was appended, by its seal, and where it was, by
the event that it expected in front of it; it must be readable, there once, of the leader of its time, asked for by a decision where it is
an action, and possible for its aggregate. Messages that are no event, as anybody can have put there who may ask a server for something,
are warnings: nothing reads them.

Events of a version of epum that wrote no seals count as they are, up to the first sealed one. --sealed-from 1 says that there are none.

Exit codes: 0 there is no finding, or there are only warnings; 1 there are findings; others as in 'epum --help'.`,
		Example: "  epum verify\n  epum verify --sealed-from 1 -o json",
		Args:    exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			if limit < 0 {
				return usageError("--limit %d is below zero", limit)
			}
			return a.operate(ctx, func(o *operator) error { return o.verify(sealedFrom, limit) })
		}),
	}
	cmd.Flags().Uint64Var(&sealedFrom, "sealed-from", 0, "sequence from which on every event has to have a seal (default: the first that has one)")
	cmd.Flags().IntVar(&limit, "limit", 1000, "print at most this many findings, and count the others (0: print all)")
	return cmd
}

func (o *operator) verify(sealedFrom uint64, limit int) error {
	bar := o.app.newProgress("verify", 0, 0)
	defer bar.end()
	told := 0
	s, err := verify.Run(o.ctx, verify.Config{
		Log: o.log, Bucket: o.cell.State(), Origin: projections.NewOrigin(o.cell.Purged()), SealedFrom: sealedFrom,
		Report: func(f verify.Finding) error {
			if told++; limit > 0 && told > limit {
				return nil
			}
			bar.end()
			return o.app.printFinding(f)
		},
		Progress: func(seq, last uint64) {
			bar.last = last
			bar.at(seq)
		},
	})
	bar.end()
	if err != nil {
		return o.readFault("verify", err)
	}
	if err := o.app.printSummary(s, told-limit); err != nil {
		return err
	}
	if s.Findings > 0 {
		return &fault{code: exitOther} // all is said
	}
	return nil
}

func (a *app) printFinding(f verify.Finding) error {
	if a.output == outputJSON {
		return a.printAs(f)
	}
	where := clean(f.Subject)
	if f.Seq > 0 {
		where = strings.TrimSpace(fmt.Sprintf("event %d %s", f.Seq, where))
	}
	kind := a.paint(red, string(f.Kind))
	if f.Warning {
		kind = a.paint(yellow, "warning, "+string(f.Kind))
	}
	return a.print(fmt.Sprintf("%s: %s: %s. To do: %s\n", kind, where, clean(f.What), f.Do))
}

// printSummary prints what was verified; so many findings were not printed.
func (a *app) printSummary(s verify.Summary, hidden int) error {
	if a.output == outputJSON {
		doc, err := json.Marshal(map[string]verify.Summary{"summary": s})
		if err != nil {
			return err
		}
		return a.printJSON(doc)
	}
	bucket := "the state bucket could not be compared"
	if s.Compared {
		bucket = fmt.Sprintf("%s documents at event %d", humanize.Comma(int64(s.Documents)), s.Checkpoint)
	}
	text := fmt.Sprintf("%s events up to %d, %s: %s, %s", humanize.Comma(int64(s.Events)), s.Seq, bucket, plural(s.Findings, "finding"), plural(s.Warnings, "warning"))
	if s.Purged > 0 {
		text += fmt.Sprintf("; most events up to %d were purged, their snapshot is where it began", s.Purged)
	}
	if s.Unsealed > 0 {
		text += fmt.Sprintf("; %s without a seal, of an older epum", plural(int(s.Unsealed), "event"))
	}
	if hidden > 0 {
		text += fmt.Sprintf("; %s not printed, see --limit", humanize.Comma(int64(hidden)))
	}
	return a.print(text + "\n")
}

// plural is a number and what it counts.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
}
