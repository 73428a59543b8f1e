package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/jetstream"
)

// writing is how a command that changes something is sent.
type writing struct {
	id    string // the command's; "": a fresh one
	async bool   // leave it in the inbox
}

func (w *writing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.id, "command-id", "", "id of this command: repeated with the same id within two minutes it happens once")
	cmd.Flags().BoolVar(&w.async, "async", false, "leave the command to be carried out as soon as a service is up; 'epum result' shows its outcome")
	must(cmd.RegisterFlagCompletionFunc("command-id", cobra.NoFileCompletions))
}

// write sends a command and prints its sequence; done says what has happened, for
// a person.
func (s *session) write(cmd commands.Command, how writing, done string) error {
	if how.id == "" {
		how.id = uuid.Must(uuid.NewV7()).String()
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.app.timeout)
	defer cancel()
	if how.async {
		return s.leave(ctx, cmd, how.id)
	}
	seq, err := s.client.Do(ctx, cmd, natsapi.WithCommandID(how.id))
	if err != nil {
		return s.unsure(cmd, how.id, err)
	}
	if s.app.output == outputJSON {
		return s.app.print(fmt.Sprintf("{\"seq\":%d}\n", seq))
	}
	return s.app.print(fmt.Sprintf("%s (seq %d)\n", done, seq))
}

// leave leaves a command in the inbox and prints how its outcome can be seen.
func (s *session) leave(ctx context.Context, cmd commands.Command, id string) error {
	_, err := s.client.DoAsync(ctx, cmd, natsapi.WithCommandID(id))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return s.neverRan()
	case err != nil:
		return s.unsure(cmd, id, err)
	}
	if s.app.output == outputJSON {
		return s.app.printAs(map[string]string{"command_id": id})
	}
	return s.app.print(fmt.Sprintf("left as command %s; see its outcome with: epum result --wait --as %s %s\n", quoted(id), quoted(s.owner), quoted(id)))
}

// unsure explains a failed write; where nobody knows whether it happened, it says
// how to repeat it.
func (s *session) unsure(cmd commands.Command, id string, err error) error {
	f := s.fault(cmd.Op(), err)
	if f.code == exitUnavailable && !errors.Is(err, nats.ErrNoResponders) || f.code == exitInterrupted {
		f.message += "; to repeat it safely add --command-id " + id
	}
	return f
}

// neverRan is a server without the streams of the service.
func (s *session) neverRan() error {
	return &fault{
		code:    exitUnavailable,
		message: fmt.Sprintf("no epum service has ever run on %s; start one with 'epum serve'", jetstream.Redacted(s.nc.ConnectedUrl())),
	}
}
