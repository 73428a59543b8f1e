package jetstream

import (
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// The headers of JetStream that are written here.
const (
	headerMsgID       = "Nats-Msg-Id"
	headerRollup      = "Nats-Rollup"
	headerTTL         = "Nats-TTL"
	headerKVOperation = "KV-Operation"
	headerMarker      = "Nats-Marker-Reason"
	headerStalled     = "Nats-Consumer-Stalled" // in a heartbeat: where to answer flow control
)

// headers builds a nats.Header with two allocations, whatever their number, and
// with the names in the case in which they are given.
type headers struct {
	header nats.Header
	values []string
	size   int // bytes of names and values
}

func newHeaders(n int) *headers {
	return &headers{header: make(nats.Header, n), values: make([]string, 0, n)}
}

func (h *headers) set(name, value string) {
	h.values = append(h.values, value)
	n := len(h.values)
	h.header[name] = h.values[n-1 : n : n]
	h.size += len(name) + len(value) + 4 // ": " and the line's end
}

// answerCopied is events.Copied for the answer to a direct get, which names the stream once
// more.
func answerCopied(h nats.Header) bool { return len(h[events.HeaderStream]) > 1 }

// answerHeader is a header that the server has added to the answer to a direct get:
// it comes behind what the message has of that name.
func answerHeader(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// own gives the headers of a message as it is stored; none where it is a copy, whose
// headers are another message's.
func own(h nats.Header) nats.Header {
	if events.Copied(h) {
		return nil
	}
	return h
}
