// Package events is the pure core of epum: what can happen (the event types and
// their codec), what it happens to (names, keys and subjects), and what it adds
// up to (State, folded by Apply). It does no I/O, reads no clock and knows
// nothing of NATS, so every replay of a log gives the same state.
package events
