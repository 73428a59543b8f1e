package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the service is",
		Long: `Show who leads the service, how far its log and its state bucket are, and how many domains and instances of all owners
there are. Any process of the service may answer.`,
		Example: "  epum status\n  epum status -o json",
		Args:    exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.with(ctx, nil, func(s *session) error {
				reply, err := s.call(natsapi.OpStatus, nil)
				if err != nil {
					return err
				}
				if a.output == outputJSON {
					return a.printJSON(reply)
				}
				var status natsapi.Status
				if err := json.Unmarshal(reply, &status); err != nil {
					return fmt.Errorf("the reply cannot be read: %w", err)
				}
				leader := a.paint(yellow, "none")
				if status.Leader != nil {
					leader = fmt.Sprintf("%s (epoch %d)", clean(status.Leader.Process), status.Leader.Epoch)
				}
				fields := []string{
					"Service", clean(status.ServiceName), "Leader", leader,
					"Log", fmt.Sprintf("seq %d, state bucket at %d", status.AppliedSeq, status.CheckpointSeq),
					"Domains", humanize.Comma(int64(status.Domains)), "Instances", counts(status.Instances),
				}
				if n := status.LateTerminations; n > 0 {
					fields = append(fields, "Late", a.paint(yellow, fmt.Sprintf("%s terminating for longer than terminate_deadline", humanize.Comma(int64(n)))))
				}
				return a.printFields(fields...)
			})
		}),
	}
}
