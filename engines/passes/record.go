package passes

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// news reports whether a decision that does nothing says something that the
// last record (nil: none) did not: another reason, apart from its figures,
// another engine state or other memory (design §6).
func news(last *events.Decision, refusedSeq uint64, reason string, d *engines.Decision) bool {
	return last == nil ||
		last.EngineState != d.State ||
		last.RefusedSeq != refusedSeq ||
		!sameMemory(last.Memory, d.Memory) ||
		!sameReason(last.Reason, reason)
}

// sameMemory compares what the log has with what the engine gave: the log keeps
// JSON without white space, and a null as nothing.
func sameMemory(logged, given json.RawMessage) bool {
	if bytes.Equal(logged, given) {
		return true
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, given); err != nil { // nil, as check refuses what is no JSON
		return len(logged) == 0
	}
	if compact.String() == "null" {
		return len(logged) == 0
	}
	return bytes.Equal(logged, compact.Bytes())
}

// sameReason compares two sentences without their figures: each run of digits,
// with the signs inside it, counts as one.
func sameReason(a, b string) bool {
	if a == b {
		return true
	}
	return withoutFigures(a) == withoutFigures(b)
}

func withoutFigures(reason string) string {
	var b strings.Builder
	inFigure := false
	for i := range len(reason) {
		c := reason[i]
		figure := c >= '0' && c <= '9' || inFigure && (c == '.' || c == ':') && i+1 < len(reason) && reason[i+1] >= '0' && reason[i+1] <= '9'
		if figure && !inFigure {
			b.WriteByte('#')
		} else if !figure {
			b.WriteByte(c)
		}
		inFigure = figure
	}
	return b.String()
}

// News reports whether a decision that does nothing says something that the last
// record of its engine (nil: none) did not, as the leader sees it.
func News(last *events.Decision, made *events.DecisionMade) bool {
	return news(last, made.RefusedSeq, made.Reason, &engines.Decision{State: made.EngineState, Memory: made.Memory})
}
