package events

import (
	"strconv"
	"time"
)

// Recorded is a message of the log as the log holds it, and what it says.
type Recorded struct {
	Envelope // Seq and Time are the log's; the rest is zero where the message is a Foreign
	Event    Event
	Subject  string
	Header   map[string][]string // all of them, as stored; shared with the envelope: not to be changed
	Body     []byte              // as stored; not to be changed
}

// Record reads a message of the log. It is total, as Decode is. A copy (HeaderStream) is
// no event, and neither is what a consumer of another stream delivered into the log: it
// keeps the subject that it has there.
func (p Prefix) Record(subject string, seq uint64, stored time.Time, headers map[string][]string, body []byte) Recorded {
	key, own := p.EventKey(subject), headers
	if key == "" || Copied(headers) {
		own = nil
	}
	typ := Header(own, HeaderType)
	return Recorded{
		Envelope: Envelope{
			Key:         key,
			Type:        typ,
			Seq:         seq,
			Time:        stored,
			ID:          Header(own, HeaderID),
			Actor:       Header(own, HeaderActor),
			CausationID: Header(own, HeaderCausation),
			Epoch:       ParseEpoch(Header(own, HeaderCEEpoch)),
		},
		Event:   Decode(typ, body),
		Subject: subject,
		Header:  headers,
		Body:    body,
	}
}

// Sealed reports whether the message, whose Header was read, has a seal, and whether that
// is its own: it is as it was when it was appended.
func (r *Recorded) Sealed(h *Headers) (has, intact bool) {
	if len(h.Seal) != 1 {
		return len(h.Seal) > 0, false
	}
	seal := sealOf(r.Subject, h, r.Header, r.Body)
	return true, h.Seal[0] == string(seal[:])
}

// Header is a header's first value; "" where there is none. Unlike a nats.Header's Get it
// leaves the case of the name alone.
func Header(headers map[string][]string, name string) string {
	if values := headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// ParseEpoch reads the value of a ce-epoch. It is 0 for what is no number: then no
// leader of ours wrote it.
func ParseEpoch(text string) uint64 {
	if text == "" {
		return 0
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}
