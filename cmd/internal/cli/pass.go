package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
)

// passTimeout is how long a pass is waited for: the service gives it a minute,
// after up to five seconds for a leader.
const passTimeout = 70 * time.Second

func (a *app) passCommand() *cobra.Command {
	do := a.run(func(ctx context.Context, args []string) error {
		return a.with(ctx, nil, func(s *session) error { return s.pass(args[0]) })
	})
	return &cobra.Command{
		Use:   "pass {decide|doctor|reap}",
		Short: "Have the leader run a pass now",
		Long: `Have the leader run a pass over all domains now, and wait until what it decided is in the log and its requests are sent:
decide asks the engines for launches and terminations, doctor looks at the health of instances, reap drops the records of instances that
ended long ago. Without --timeout it waits up to ` + passTimeout.String() + ".",
		Example:   "  epum pass decide\n  epum pass reap -o json",
		Args:      oneOf(natsapi.Passes),
		ValidArgs: natsapi.Passes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("timeout") {
				a.timeout = passTimeout
			}
			return do(cmd, args)
		},
	}
}

func (s *session) pass(pass string) error {
	reply, err := s.call(natsapi.OpRunPass, map[string]string{"pass": pass})
	if err != nil {
		return err
	}
	if s.app.output == outputJSON {
		return s.app.printJSON(reply)
	}
	var r natsapi.PassResult
	if err := json.Unmarshal(reply, &r); err != nil {
		return fmt.Errorf("the reply cannot be read: %w", err)
	}
	return s.app.printTable(
		[]string{"PASS", "DOMAINS", "LAUNCHED", "TERMINATED", "CHANGED", "ERRORS", "SEQ", "TOOK"},
		[][]string{{
			clean(r.Pass), fmt.Sprint(r.Domains), fmt.Sprint(r.Launched), fmt.Sprint(r.Terminated), fmt.Sprint(r.Changed),
			fmt.Sprint(r.Errors), fmt.Sprint(r.Seq), fmt.Sprintf("%d ms", r.DurationMS),
		}},
	)
}
