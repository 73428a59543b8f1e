package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/jetstream"
	"github.com/seed-524e47bf/epum/projections"
)

// operator is a session of who may read the cell's streams themselves: NATS
// permissions decide that, and no service has to run.
type operator struct {
	*session
	cell *jetstream.Cell
	log  *jetstream.Log
}

// operate is run for a command of an operator.
func (a *app) operate(ctx context.Context, do func(o *operator) error) error {
	return a.with(ctx, nil, func(s *session) error {
		attach, cancel := context.WithTimeout(s.ctx, a.timeout)
		defer cancel()
		cell, err := jetstream.Attach(attach, s.nc, jetstream.Config{Prefix: s.prefix, Process: "operator"})
		if errors.Is(err, projections.ErrNotFound) {
			return s.neverRan()
		}
		if err != nil {
			return s.readFault("the log", err)
		}
		defer cell.Close()
		return do(&operator{session: s, cell: cell, log: cell.Log()})
	})
}

// readFault explains why the log, or what is made of it, could not be read.
func (s *session) readFault(what string, err error) error {
	if s.ctx.Err() == nil && (errors.Is(err, projections.ErrNoQuorum) || errors.Is(err, events.ErrUnavailable) || errors.Is(err, jetstream.ErrTailBroken)) {
		return &fault{code: exitUnavailable, message: err.Error()}
	}
	return s.fault(what, err)
}

// end is where the log ends.
func (o *operator) end() (projections.Position, error) {
	ctx, cancel := context.WithTimeout(o.ctx, o.app.timeout)
	defer cancel()
	end, err := o.log.End(ctx)
	if err != nil {
		return end, o.readFault("the log", err)
	}
	return end, nil
}

// resolve gives the sequence of the last event at or before a point of the log; it is
// an error of the user where the log does not reach there.
func (o *operator) resolve(flag string, p projections.Point) (uint64, error) {
	ctx, cancel := context.WithTimeout(o.ctx, o.app.timeout)
	defer cancel()
	seq, err := o.log.Resolve(ctx, p)
	switch {
	case err != nil:
		return 0, o.readFault("the log", err)
	case seq < p.Seq:
		return 0, usageError("--%s %d is beyond the log, which ends at %d", flag, p.Seq, seq)
	case seq == 0:
		return 0, &fault{code: exitNotFound, message: fmt.Sprintf("the log has nothing as old as --%s says", flag)}
	}
	return seq, nil
}
