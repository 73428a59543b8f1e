package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	"github.com/seed-524e47bf/epum/projections"
)

func (a *app) archiveCommand() *cobra.Command {
	var before pointFlag
	var dir string
	var purge bool
	cmd := &cobra.Command{
		Use:   "archive --before TIME --to DIR [--purge]",
		Short: "Copy old events into files, and purge them from the log",
		Long: `Copy the events of the log that come before a point into compressed files of CloudEvents, with a manifest and checksums. What the
directory has already is not copied again; so run it every day with the same one. Interrupted in whatever way, the same command goes on
where it was.

With --purge, the events that the archive has are then removed from the log, but for the last one of each domain, instance and so on. It is
refused unless the archive is complete, its checksums hold, and its events are those of the log. A snapshot takes their place, so that a
process can start, the state bucket be made anew, and --as-of go back as far as that. 'epum history --archive DIR' shows what was purged.

It is the operator's command: it reads the log with the permissions of its NATS user, and needs no running service.`,
		Example: `  epum archive --before 30d --to /backup/epum
  epum archive --before 2026-03-01T00:00:00Z --to /backup/epum --purge
  epum archive --before 120000 --to /backup/epum -o json`,
		Args: exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			switch {
			case before.point == (projections.Point{}):
				return usageError("say up to where with --before: %s", pointHelp)
			case dir == "":
				return usageError("say with --to which directory the archive is in")
			}
			return a.operate(ctx, func(o *operator) error { return o.archive(before.point, dir, purge) })
		}),
	}
	cmd.Flags().Var(&before, "before", "only events before "+pointHelp)
	cmd.Flags().StringVar(&dir, "to", "", "directory of the archive; made where there is none")
	cmd.Flags().BoolVar(&purge, "purge", false, "then purge these events from the log")
	must(cmd.MarkFlagDirname("to"))
	must(cmd.RegisterFlagCompletionFunc("before", cobra.NoFileCompletions))
	return cmd
}

func (o *operator) archive(before projections.Point, dir string, purge bool) error {
	bar := o.app.newProgress("", 0, 0)
	job := archive.Job{
		Cell: o.cell, Dir: dir,
		Progress: func(what string, first, last uint64) func(uint64) {
			bar.end()
			bar = o.app.newProgress(what, first, last)
			return bar.at
		},
	}
	result, err := job.Run(o.ctx, before, purge)
	bar.end()
	if err != nil {
		return o.archiveFault(err)
	}
	if o.app.output == outputJSON {
		return o.app.printAs(result)
	}
	text := "the archive is empty: nothing is as old\n"
	if result.Last > 0 {
		text = fmt.Sprintf("archived %s in %s: it has events %d to %d in %s, %s\n", counted(result.Archived, "event"), dir, result.First, result.Last,
			counted(uint64(result.Files), "file"), humanize.IBytes(uint64(result.Bytes)))
	}
	if purge && result.Point > 0 {
		text += fmt.Sprintf("purged the log up to event %d, of %s\n", result.Point, counted(result.Purged, "key"))
	}
	return o.app.print(text)
}

// archiveFault explains why events could not be archived, or not be read from an archive.
func (o *operator) archiveFault(err error) error {
	switch {
	case o.ctx.Err() != nil:
	case errors.Is(err, archive.ErrLocked):
		return &fault{code: exitConflict, message: err.Error()}
	case errors.Is(err, archive.ErrNeeded):
		return &fault{code: exitConflict, message: err.Error()}
	case errors.Is(err, archive.ErrDamaged), errors.Is(err, archive.ErrOtherLog), errors.Is(err, archive.ErrIncomplete):
		return &fault{code: exitOther, message: err.Error()}
	}
	return o.readFault("archive", err)
}

// counted is a number of things: "1 file", "1,234 files".
func counted(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanize.Comma(int64(n)) + " " + what
}
