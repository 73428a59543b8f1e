package passes

import (
	"context"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// silent is a stream to which nothing is pushed.
type silent struct{ followed chan struct{} }

// Follow implements projections.Pushed.
func (s silent) Follow(ctx context.Context, _ time.Time, _ func(events.Sample)) error {
	close(s.followed)
	<-ctx.Done()
	return ctx.Err()
}

// TestInputs_FollowWhileNoting has a domain be added while a term begins to follow
// what is pushed. The race detector sees it.
func TestInputs_FollowWhileNoting(t *testing.T) {
	b, s := newBench(t), silent{make(chan struct{})}
	b.term.Pushed = s
	in := newInputs(t.Context(), b.term)
	b.fold(dom.Key(), events.DomainAdded{})
	in.note(map[events.Key]uint64{dom.Key(): 1})
	select {
	case <-s.followed:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody follows what is pushed")
	}
}
