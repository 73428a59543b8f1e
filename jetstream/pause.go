package jetstream

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// pause is a growing, jittered pause between attempts.
type pause struct{ policy *backoff.ExponentialBackOff }

func newPause(first, longest time.Duration) *pause {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval, p.Multiplier, p.RandomizationFactor = first, longest, 2, 0.5
	p.Reset()
	return &pause{p}
}

// wait pauses; false says that ctx ended.
func (p *pause) wait(ctx context.Context) bool { return sleep(ctx, p.policy.NextBackOff()) }

// sleep waits for d; false says that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
