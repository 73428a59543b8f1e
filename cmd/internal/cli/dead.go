package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func (a *app) deadCommand() *cobra.Command {
	return group(
		"dead", "Look at, retry and delete messages that nobody could make sense of",
		`A report of an instance, or a durable command, that can never be processed does not hold up the others: it is kept as a
dead letter, with the reason. These commands are the operator's; they need no running service, only its NATS server.`,
		`  epum dead list
  epum dead show 3
  epum dead retry 3`,
		a.deadList(), a.deadShow(), a.deadRetry(), a.deadPurge(),
	)
}

func (a *app) deadList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the dead letters",
		Long:    "List the dead letters, the oldest first. With -o json it is an array.",
		Example: "  epum dead list\n  epum dead list --limit 10 -o json",
		Aliases: []string{"ls"},
		Args:    exactly(0),
		RunE: a.dead(func(d *deadLetters, _ []string) error {
			if limit < 0 {
				return usageError("--limit %d is below zero", limit)
			}
			return d.list(limit)
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many dead letters (0: all)")
	return cmd
}

func (a *app) deadShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show SEQ",
		Short:             "Show a dead letter",
		Long:              "Show where a dead letter was sent to, why it is one, its headers and its body.",
		Example:           "  epum dead show 3\n  epum dead show 3 -o json",
		Args:              exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.dead(func(d *deadLetters, args []string) error {
			seqs, err := sequences(args)
			if err != nil {
				return err
			}
			return d.show(seqs[0])
		}),
	}
}

func (a *app) deadRetry() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry {SEQ... | --all}",
		Short: "Send dead letters again",
		Long: `Send dead letters again to where they were sent to, with a message id of their own, and then delete them: for when what was
wrong is put right. What is refused again is a new dead letter. A durable command is carried out under its new id, see 'epum result'. One
whose body was too long to be kept as a whole stays as it is.`,
		Example:           "  epum dead retry 3 4\n  epum dead retry --all",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.dead(func(d *deadLetters, args []string) error {
			return d.each(args, all, d.retry)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that are there now")
	return cmd
}

func (a *app) deadPurge() *cobra.Command {
	var all, yes bool
	cmd := &cobra.Command{
		Use:               "purge {SEQ... | --all} --yes",
		Short:             "Delete dead letters for good",
		Long:              "Delete dead letters. They are gone for good, so it asks for --yes.",
		Example:           "  epum dead purge 3 --yes\n  epum dead purge --all --yes",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.dead(func(d *deadLetters, args []string) error {
			if !yes {
				return usageError("dead letters are deleted for good; say --yes if you mean it")
			}
			return d.each(args, all, d.purge)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that are there now")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// deadLetters is a session with the dead letters of its cell.
type deadLetters struct {
	*session
	store *jetstream.Dead
}

// dead is run for a command about dead letters.
func (a *app) dead(do func(d *deadLetters, args []string) error) func(*cobra.Command, []string) error {
	return a.run(func(ctx context.Context, args []string) error {
		return a.with(ctx, nil, func(s *session) error {
			return do(&deadLetters{s, jetstream.NewDead(s.nc, s.prefix)}, args)
		})
	})
}

func sequences(args []string) ([]uint64, error) {
	seqs := make([]uint64, len(args))
	for n, arg := range args {
		var err error
		if seqs[n], err = strconv.ParseUint(arg, 10, 64); err != nil {
			return nil, usageError("%q is no number of a dead letter; see 'epum dead list'", arg)
		}
	}
	return seqs, nil
}

// timed bounds one request.
func (d *deadLetters) timed() (context.Context, context.CancelFunc) {
	return context.WithTimeout(d.ctx, d.app.timeout)
}

// explain gives the user's form of an error about a dead letter.
func (d *deadLetters) explain(seq uint64, err error) error {
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return &fault{code: exitNotFound, message: fmt.Sprintf("there is no dead letter %d; see 'epum dead list'", seq)}
	case errors.Is(err, jetstream.ErrTruncated):
		return &fault{code: exitOther, message: fmt.Sprintf("dead letter %d was too long to be kept as a whole, so it cannot be sent again; its sender has to", seq)}
	case d.ctx.Err() == nil && (errors.Is(err, projections.ErrNoQuorum) || errors.Is(err, events.ErrUnavailable)):
		return &fault{code: exitUnavailable, message: err.Error()}
	}
	return d.fault("dead", err)
}

// all gives the dead letters, at most limit (0: all); more is how many follow.
func (d *deadLetters) all(limit int) (letters []jetstream.DeadLetter, more int, err error) {
	ctx, cancel := d.timed()
	defer cancel()
	letters, more, err = d.store.List(ctx, limit)
	if errors.Is(err, projections.ErrNotFound) {
		return nil, 0, d.neverRan()
	}
	if err != nil {
		return nil, 0, d.explain(0, err)
	}
	return letters, more, nil
}

func (d *deadLetters) list(limit int) error {
	letters, more, err := d.all(limit)
	if err != nil {
		return err
	}
	if d.app.output == outputJSON {
		docs := make([]shownLetter, len(letters))
		for n, l := range letters {
			docs[n] = shownLetter{DeadLetter: l}
		}
		return d.app.printAs(docs)
	}
	if len(letters) == 0 {
		fmt.Fprintln(d.app.stderr, "epum: no dead letters")
		return nil
	}
	rows := make([][]string, len(letters))
	for n, l := range letters {
		rows[n] = []string{
			fmt.Sprint(l.Seq), l.Arrived.Local().Format(time.DateTime), short(clean(l.Subject), 80), humanize.IBytes(uint64(l.Size)), short(clean(l.Reason), 100),
		}
	}
	if err := d.app.printTable([]string{"SEQ", "ARRIVED", "SUBJECT", "SIZE", "REASON"}, rows); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(d.app.stderr, "epum: %d more follow\n", more)
	}
	return nil
}

// shownLetter is a dead letter with -o json: its body stands in body if it is
// JSON, else in body_base64.
type shownLetter struct {
	jetstream.DeadLetter
	Headers map[string][]string `json:"headers,omitempty"`
	Body    json.RawMessage     `json:"body,omitempty"`
	Base64  []byte              `json:"body_base64,omitempty"`
}

func (d *deadLetters) show(seq uint64) error {
	ctx, cancel := d.timed()
	defer cancel()
	l, err := d.store.Get(ctx, seq)
	if err != nil {
		return d.explain(seq, err)
	}
	if d.app.output == outputJSON {
		doc := shownLetter{DeadLetter: l, Headers: l.Headers}
		if json.Valid(l.Body) {
			doc.Body = l.Body
		} else {
			doc.Base64 = l.Body
		}
		return d.app.printAs(doc)
	}
	size := humanize.IBytes(uint64(l.Size))
	if l.Truncated {
		size += fmt.Sprintf(", of which the first %s were kept", humanize.IBytes(uint64(len(l.Body))))
	}
	fields := []string{
		"Dead letter", fmt.Sprint(l.Seq), "Arrived", l.Arrived.Local().Format(time.DateTime), "Subject", clean(l.Subject),
		"Reason", clean(l.Reason), "Size", size,
	}
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		fields = append(fields, clean(name), clean(strings.Join(l.Headers[name], ", ")))
	}
	if err := d.app.printFields(fields...); err != nil || len(l.Body) == 0 {
		return err
	}
	var pretty bytes.Buffer
	body := cleanLines(strings.ToValidUTF8(string(l.Body), "\uFFFD"))
	if json.Indent(&pretty, l.Body, "", "  ") == nil {
		body = cleanLines(pretty.String())
	}
	return d.app.print("\n" + strings.TrimSpace(body) + "\n")
}

// each does one thing to the dead letters that are named, or to all. Of all, those
// that cannot be sent again stay, with a note.
func (d *deadLetters) each(args []string, all bool, do func(ctx context.Context, seq uint64) error) error {
	seqs, err := sequences(args)
	switch {
	case err != nil:
		return err
	case all != (len(seqs) == 0):
		return usageError("name dead letters by their numbers, or say --all; see 'epum dead list'")
	}
	if all {
		letters, _, err := d.all(0)
		if err != nil {
			return err
		}
		for _, l := range letters {
			seqs = append(seqs, l.Seq)
		}
	}
	for _, seq := range seqs {
		ctx, cancel := d.timed()
		err := do(ctx, seq)
		cancel()
		switch {
		case err == nil:
		case all && errors.Is(err, jetstream.ErrTruncated):
			fmt.Fprintf(d.app.stderr, "epum: %s\n", d.explain(seq, err))
		case all && errors.Is(err, projections.ErrNotFound): // somebody else was first
		default:
			return d.explain(seq, err)
		}
	}
	return nil
}

func (d *deadLetters) retry(ctx context.Context, seq uint64) error {
	id, err := d.store.Retry(ctx, seq)
	if err != nil {
		return err
	}
	if d.app.output == outputJSON {
		return d.app.printAs(map[string]any{"seq": seq, "message_id": id})
	}
	return d.app.print(fmt.Sprintf("dead letter %d is sent again, as %s\n", seq, id))
}

func (d *deadLetters) purge(ctx context.Context, seq uint64) error {
	if err := d.store.Delete(ctx, seq); err != nil {
		return err
	}
	if d.app.output == outputJSON {
		return d.app.printAs(map[string]any{"seq": seq})
	}
	return d.app.print(fmt.Sprintf("dead letter %d is deleted\n", seq))
}
