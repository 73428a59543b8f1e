package projections

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Pushed is the stream of pushed samples.
type Pushed interface {
	// Follow calls apply with every sample pushed since a time that the stream still
	// has, and then with each as it comes: in order, and from the calling goroutine.
	// It gets over whatever breaks, and ends with ctx's error.
	Follow(ctx context.Context, since time.Time, apply func(events.Sample)) error
}

// Samples is the bucket of what was last read of each domain's metrics: a JSON
// document a domain, kept for a day. Only the leader writes. It is safe for
// concurrent use.
type Samples interface {
	// Put writes a domain's document in a term. It fails with events.ErrDeposed,
	// and writes nothing, where a later term has written one.
	Put(ctx context.Context, epoch uint64, domain events.DomainID, data []byte) error
	// Delete drops a domain's document, on the same terms as Put.
	Delete(ctx context.Context, epoch uint64, domain events.DomainID) error
	// Get gives a domain's document, which may be some writes old; ErrNotFound where
	// there is none.
	Get(ctx context.Context, domain events.DomainID) ([]byte, error)
	// All calls each with every document, in no order.
	All(ctx context.Context, each func(domain events.DomainID, data []byte) error) error
}
