// Package verify judges a log by itself, and a state bucket by the log: it folds all
// events as the replica does, looks at each before it is folded, and compares what they
// add up to with the bucket, key by key.
//
// What a message says of itself is checked by its seal, its place by the guard that its
// append stated, what stands together by the atomic batch it came in. What the events say
// is checked against the fold before them: whose term it is, which decision asked for an
// action, and whether the aggregate can go from where it was to there.
//
// A message that is no event, put into the log by whoever can have a server or a service
// answer there (events.Foreign, events.Copied), is a warning and no finding: every fold
// ignores it, guards count it, and nothing that epum wrote is missing or changed by it.
package verify
