package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

func (a *app) rebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild",
		Short: "Make the state bucket anew from the log",
		Long: `Have the state bucket made anew from the log, while the service works on: for when 'epum verify' has found that it is wrong. The
checkpoint is marked, so that nobody reads the bucket any more; every process folds the whole log anew beside what it has, and takes that
in its place if it differs; then the leader writes the bucket. Meanwhile reads are answered by the processes themselves.

It waits until the bucket is ready, however long that takes. Interrupted, or without a leader within --timeout, the question stays: the
leader, or the next one, answers it.`,
		Example: "  epum rebuild\n  epum rebuild -o json",
		Args:    exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.operate(ctx, func(o *operator) error { return o.rebuild() })
		}),
	}
}

func (o *operator) rebuild() error {
	bucket, id := o.cell.State(), uuid.NewString()
	ask, cancel := context.WithTimeout(o.ctx, o.app.timeout)
	defer cancel()
	switch err := projections.AskRebuild(ask, bucket, id); {
	case errors.Is(err, projections.ErrNotFound):
		return &fault{code: exitNotFound, message: "the state bucket has no checkpoint: the next leader writes it from the log anyway"}
	case err != nil:
		return o.readFault("rebuild", err)
	}
	stop := o.app.waiting("rebuild")
	c, err := o.awaitRebuild(bucket, id)
	stop()
	if err != nil {
		return err
	}
	if o.app.output == outputJSON {
		return o.app.printAs(map[string]any{"rebuild": id, "seq": c.Seq})
	}
	return o.app.print(fmt.Sprintf("the state bucket is made anew from the log (seq %d)\n", c.Seq))
}

// awaitRebuild waits until the bucket is the fold of the log again.
func (o *operator) awaitRebuild(bucket *jetstream.Bucket, id string) (projections.Checkpoint, error) {
	const look = 50 * time.Millisecond
	led := time.Now() // or asked
	for {
		ctx, cancel := context.WithTimeout(o.ctx, o.app.timeout)
		c, done, err := projections.RebuildProgress(ctx, bucket, id)
		cancel()
		switch {
		case errors.Is(err, projections.ErrNotFound):
			return c, &fault{code: exitOther, message: "the state bucket was deleted, or a process of another version has written it; stop that one, and ask again"}
		case err != nil && !errors.Is(err, projections.ErrNoQuorum):
			return c, o.readFault("rebuild", err)
		case done:
			return c, nil
		case time.Since(led) > o.app.timeout:
			if !o.leads() {
				return c, &fault{code: exitUnavailable, message: "the rebuild is asked for, but no process of the service leads; the next leader does it"}
			}
			led = time.Now()
		}
		select {
		case <-time.After(look):
		case <-o.ctx.Done():
			return c, o.fault("rebuild", o.ctx.Err())
		}
	}
}

// leads reports whether a process of the service says that somebody leads.
func (o *operator) leads() bool {
	ctx, cancel := context.WithTimeout(o.ctx, o.app.timeout)
	defer cancel()
	status, err := o.client.Status(ctx)
	return err == nil && status.Leader != nil
}
