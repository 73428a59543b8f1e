//go:build !sabotage

package jetstream

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// A build with the tag sabotage can leave out what keeps the log right, one
// thing at a time, so that tests can show that they would notice. This is every
// other build: nothing is left out.

// unguarded reports whether a draft is sent without its guard.
func unguarded(events.Draft) bool { return false }

// anew turns a message whose outcome is unknown into a new one, with another id
// and behind a new guard, and reports whether it did.
func (*Log) anew(context.Context, *nats.Msg) bool { return false }
