package verify

import "fmt"

// Kind is what a finding is about.
type Kind string

// The kinds of findings.
const (
	KindGap        Kind = "gap"        // sequences that the log does not have
	KindSeal       Kind = "seal"       // a message that is not as it was appended
	KindDoubled    Kind = "doubled"    // an event that is there twice
	KindDecode     Kind = "decode"     // an event that cannot be read
	KindGuard      Kind = "guard"      // a guard that is missing, or that does not hold where the event stands
	KindBatch      Kind = "batch"      // an atomic batch that is not whole
	KindEpoch      Kind = "epoch"      // an event of a leader outside of its term
	KindDecision   Kind = "decision"   // an action that no decision asked for, or one that is missing
	KindTransition Kind = "transition" // an event that cannot happen to its aggregate as it was
	KindForeign    Kind = "foreign"    // a message that is no event
	KindHeader     Kind = "header"     // a header that epum does not write
	KindTime       Kind = "time"       // timestamps that go back
	KindBucket     Kind = "bucket"     // the state bucket is not what the log adds up to
)

// Finding is one thing that is wrong with the log or the bucket.
type Finding struct {
	Kind    Kind   `json:"kind"`
	Warning bool   `json:"warning,omitempty"` // it changes nothing of what the log adds up to
	Seq     uint64 `json:"seq,omitempty"`     // where in the log; 0: it is of no one message
	Subject string `json:"subject,omitempty"` // the message's, or the key of the document
	What    string `json:"what"`
	Do      string `json:"do"`
}

// What to do about it, by kind. There is only ever one log, so what is wrong with it can
// be put right from a backup alone.
const (
	restore  = "the log was changed behind epum: restore the stream from a backup, then run 'epum rebuild'"
	upgrade  = "verify with the version of epum that wrote it"
	rebuild  = "run 'epum rebuild'; readers may have been given wrong answers"
	harmless = "nothing: no fold reads it; see who may publish to the log's subjects"
)

func finding(kind Kind, seq uint64, subject, do, format string, args ...any) Finding {
	return Finding{Kind: kind, Seq: seq, Subject: subject, What: fmt.Sprintf(format, args...), Do: do}
}
