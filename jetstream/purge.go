package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

const (
	// purgePatience bounds one purge: the server walks through what lies between the
	// first and the last event of a key.
	purgePatience = time.Minute
	// purgeAgain is after how long without an answer a purge is asked for again: where the
	// stream's leader was lost, the next one knows nothing of it. To do again what is done
	// costs the server nothing.
	purgeAgain = 2 * time.Second
	// purgeShare is how long the server is left to others after a purge, as a multiple
	// of what that took: it holds up every write to the log.
	purgeShare = 1
)

// LastOf is the last event of a key up to some sequence, and how many there are.
type LastOf struct{ Seq, Count uint64 }

// Lasts gives the last event of each key in the log up to a sequence; it reads headers
// only, and needs some 200 bytes a key. The error wraps projections.ErrNoQuorum or
// ErrTailBroken, or is ctx's.
func (l *Log) Lasts(ctx context.Context, upTo uint64, progress func(seq uint64)) (map[events.Key]LastOf, error) {
	lasts := map[events.Key]LastOf{}
	err := l.walk(ctx, 0, upTo, func(seq uint64, key events.Key) {
		if key != "" {
			lasts[key] = LastOf{Seq: seq, Count: lasts[key].Count + 1}
		}
		progress(seq)
	})
	return lasts, err
}

// PurgeBefore removes the events of a key that come before a sequence. It returns only
// once the server has had as long for others as that took. It gets over the loss of the
// stream's leader; the error wraps projections.ErrNoQuorum where nobody answers for a
// minute: then it may have been done.
func (l *Log) PurgeBefore(ctx context.Context, key events.Key, seq uint64) error {
	if seq < 2 { // to the server, 0 is all of them
		return nil
	}
	request := struct {
		Filter string `json:"filter"`
		Before uint64 `json:"seq"`
	}{l.prefix.Event(key), seq}
	took, err := l.purge(ctx, request)
	if err != nil {
		return fmt.Errorf("purge %s before %d: %w", key, seq, err)
	}
	if took > time.Millisecond && !sleep(ctx, purgeShare*took) {
		return ctx.Err()
	}
	return nil
}

// purge sends a request for a purge until it is answered, and gives how long the server
// took, from when it was first asked and did not refuse.
func (l *Log) purge(ctx context.Context, request any) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, purgePatience)
	defer cancel()
	pause := newPause(50*time.Millisecond, time.Second)
	began := time.Now()
	for {
		var answer struct {
			Error *apiError `json:"error"`
		}
		err := askAPIFor(ctx, purgeAgain, l.nc, "STREAM.PURGE."+l.stream, request, &answer)
		if api := answer.Error; err == nil && api != nil {
			if err = api; api.ErrCode == codeClusterUnavailable || api.ErrCode == codeNotLeader {
				err = fmt.Errorf("%w: %w", projections.ErrNoQuorum, api)
			}
		}
		if !noQuorum(err) || !pause.wait(ctx) {
			return time.Since(began), err
		}
		if answer.Error != nil { // it was not even begun
			began = time.Now()
		}
	}
}

// Untold gives the first event that subscribers may still have to be told of; 0: there
// is none. Where the queue is gone there is none either. The error wraps
// projections.ErrNoQuorum where nobody answers.
func (n *Notices) Untold(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	// How many are pending is no measure: the consumer hears late of what has come.
	last, err := readStored(ctx, n.nc, get{stream: n.stream, Last: n.config().FilterSubject})
	if notFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up the last event that concerns subscribers: %w", err)
	}
	c, err := n.js.Consumer(ctx, n.stream, notifyConsumer)
	if errors.Is(err, natsjs.ErrConsumerNotFound) {
		return 0, nil
	}
	if err != nil && passing(err) {
		err = fmt.Errorf("%w: %w", projections.ErrNoQuorum, err)
	}
	if err != nil {
		return 0, fmt.Errorf("look up the consumer of notifications: %w", err)
	}
	floor := c.CachedInfo().AckFloor.Stream
	if floor >= last.Seq {
		return 0, nil
	}
	return floor + 1, nil
}
