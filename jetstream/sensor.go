package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// badSampleEvery is how often it is said that pushed samples cannot be read.
const badSampleEvery = time.Minute

// Sensor is the stream of pushed samples. It is safe for concurrent use.
type Sensor struct {
	nc     *nats.Conn
	stream string
	prefix events.Prefix
	log    *slog.Logger
	ensure func(ctx context.Context) error
	bad    *seldom
}

var _ projections.Pushed = (*Sensor)(nil)

// Sensor is the cell's stream of pushed samples.
func (c *Cell) Sensor() *Sensor {
	return &Sensor{
		nc: c.nc, stream: c.streams.sensor.Name, prefix: c.cfg.Prefix, log: c.cfg.Logger,
		ensure: func(ctx context.Context) error { return reconcile(ctx, c.js, c.streams.sensor, c.cfg.Logger) },
		bad:    &seldom{every: badSampleEvery},
	}
}

// Follow calls apply with every sample that was pushed since a time and that the
// stream still has, then with each as it comes. A reader that breaks is opened again
// where it was, and a stream that was deleted is created again. It ends with ctx's
// error. Messages that are no samples are dropped with a warning.
func (s *Sensor) Follow(ctx context.Context, since time.Time, apply func(events.Sample)) error {
	at := samplePosition{time: since}
	pause := newPause(50*time.Millisecond, time.Second)
	for {
		read, err := s.follow(ctx, &at, apply)
		if ctx.Err() != nil {
			return fmt.Errorf("follow the pushed samples: %w", ctx.Err())
		}
		s.log.Warn("the reader of pushed samples broke and is opened again", "stream", s.stream, "error", err)
		if api, ok := errors.AsType[*apiError](err); ok && api.ErrCode == codeStreamNotFound {
			if err := s.ensure(ctx); err != nil {
				s.log.Error("the stream of pushed samples is gone and cannot be created", "stream", s.stream, "error", err)
			}
		}
		if read {
			pause = newPause(50*time.Millisecond, time.Second)
		}
		if !pause.wait(ctx) {
			return fmt.Errorf("follow the pushed samples: %w", ctx.Err())
		}
	}
}

// samplePosition is how far the stream was read. A stream that was made anew has
// other sequences, but no earlier times.
type samplePosition struct {
	time time.Time
	seq  uint64
}

// follow is one life of a reader; read says that something came.
func (s *Sensor) follow(ctx context.Context, at *samplePosition, apply func(events.Sample)) (read bool, err error) {
	start := at.time
	f, err := openFeed(ctx, s.nc, s.stream, natsjs.ConsumerConfig{DeliverPolicy: natsjs.DeliverByStartTimePolicy, OptStartTime: &start}, feedBuffer)
	if err != nil {
		return false, err
	}
	defer f.close()
	for {
		m, info, err := f.read(ctx)
		if err != nil {
			return read, err
		}
		if info.seq <= at.seq && !info.time.After(at.time) {
			continue // again, since the reader was opened at a time
		}
		read = true
		*at = samplePosition{time: info.time, seq: info.seq}
		sample, err := s.prefix.DecodeSample(m.Subject, m.Data, info.time)
		if events.Copied(m.Header) {
			err = errCopy
		}
		if err != nil {
			if held, ok := s.bad.now(); ok {
				s.log.Warn("pushed sample dropped", "subject", m.Subject, "error", err, "more_dropped", held)
			}
			continue
		}
		apply(sample)
	}
}
