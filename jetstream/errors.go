package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/projections"
)

var (
	// ErrIncompatible is returned by Open where a stream or bucket exists that
	// cannot be made what it should be. The text says what differs.
	ErrIncompatible = errors.New("jetstream: incompatible stream")
	// ErrBucketGone is returned by Bucket and Samples where their bucket was
	// deleted. It wraps projections.ErrNotFound; their Ensure creates it again.
	ErrBucketGone = fmt.Errorf("jetstream: the bucket is gone: %w", projections.ErrNotFound)
	// ErrTailBroken is returned by a tail whose consumer is gone, silent, or has
	// lost messages: open it anew behind the last event that was applied.
	ErrTailBroken = errors.New("jetstream: the tail broke")
	// ErrRefused is returned for a write that breaks a rule before it is sent, or
	// that the server refuses for good; nothing was written and no repeat helps.
	ErrRefused = errors.New("jetstream: refused")
)

// errCopy is why a copy (events.HeaderStream) counts for nothing.
var errCopy = errors.New("a copy that the server made of another message, sent here by who read that one")

// Error codes of the server (nats-server 2.15, server/errors.json).
const (
	codeAccountResources   = 10002
	codeClusterUnavailable = 10008
	codeNotLeader          = 10009
	codeNoPeers            = 10005
	codeInsufficient       = 10023
	codeNoMessage          = 10037
	codeStorageExceeded    = 10047
	codeStreamNameInUse    = 10058
	codeStreamNotFound     = 10059
	codeWrongLastSeq       = 10071 // a guard does not hold
	codeStoreFailed        = 10077
	codeConsumerExists     = 10148 // with other settings
	codeDuplicateInFlight  = 10158 // nothing is decided yet
	codeGuardNotReady      = 10163 // nothing is decided yet
	codeGuardInFlight      = 10164 // nothing is decided yet
	codeTooManyRequests    = 10167
	codeBatchIncomplete    = 10176 // part of a batch was lost, or too many are in flight
	codeBatchesInFlight    = 10210
	codeReconfiguring      = 10226
)

// noAnswer tells whether a request failed since nobody answered in time, or
// nobody is there.
func noAnswer(err error) bool {
	for _, target := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
		nats.ErrConnectionClosed, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
