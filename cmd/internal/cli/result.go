package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
)

func (a *app) resultCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "result ID",
		Short: "Show the outcome of a command that was left with --async",
		Long: `Show what became of a command that you left with --async; its outcome is kept for a day. A command that was refused ends
with the exit code that it would have had at once. Where there is no outcome yet (or none any more) the exit code is 6; with --wait it is
waited for, without --timeout for ever.`,
		Example:           "  epum result 0198a1c2-7d3e-7000-8000-000000000001\n  epum result --wait nightly-17 -o json",
		Args:              exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the outcome")
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		if wait && !cmd.Flags().Changed("timeout") {
			a.timeout = time.Duration(1<<63 - 1)
		}
		return a.with(ctx, nil, func(s *session) error { return s.result(args[0], wait) })
	})
	return cmd
}

// shownResult is a command's outcome with -o json.
type shownResult struct {
	CommandID string          `json:"command_id"`
	Seq       uint64          `json:"seq,omitempty"`
	Error     *commands.Error `json:"error,omitempty"`
	Time      time.Time       `json:"time"`
}

func (s *session) result(id string, wait bool) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.app.timeout)
	defer cancel()
	ask := s.client.Result
	if wait {
		ask = s.client.WaitResult
	}
	r, err := ask(ctx, id)
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrNoResponders):
		return s.neverRan()
	case errors.Is(err, commands.ErrNotFound), wait && s.ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return &fault{
			code:    exitUnavailable,
			message: fmt.Sprintf("command %s of owner %s has no outcome yet, or none any more; --wait waits for it", quoted(id), s.owner),
		}
	default:
		return s.fault("result", err)
	}
	return s.showResult(id, r)
}

func (s *session) showResult(id string, r natsapi.AsyncResult) error {
	var err error
	switch {
	case s.app.output == outputJSON:
		err = s.app.printAs(shownResult{CommandID: id, Seq: r.Seq, Error: r.Err, Time: r.Time})
	case r.Err == nil:
		err = s.app.print(fmt.Sprintf("command %s is done (seq %d, %s ago)\n", quoted(id), r.Seq, age(r.Time, time.Now())))
	}
	if err != nil || r.Err == nil {
		return err
	}
	return explain(s.ctx, r.Err)
}

// quoted is a text as one word of a shell's line.
func quoted(text string) string {
	text = clean(text)
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@:"
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
