package engines

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// mostWhole bounds what is computed from readings and percentages.
const mostWhole = math.MaxInt32

// Scaled is what an engine remembers that has a cool-down for each direction.
type Scaled struct {
	Wanted int       `json:"wanted"`
	OutAt  time.Time `json:"out_at,omitzero"` // when it last scaled out; zero: never
	InAt   time.Time `json:"in_at,omitzero"`  // when it last scaled in; zero: never
}

// OutFrom is when it may scale out: a cool-down after it last did.
func (s *Scaled) OutFrom(cooldown time.Duration) time.Time { return after(s.OutAt, cooldown) }

// InFrom is when it may scale in: a cool-down after its last change.
func (s *Scaled) InFrom(cooldown time.Duration) time.Time {
	if s.OutAt.After(s.InAt) {
		return after(s.OutAt, cooldown)
	}
	return after(s.InAt, cooldown)
}

// after is when a cool-down is over; zero: it never began.
func after(t time.Time, cooldown time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(cooldown)
}

// Amount is by how much a step changes a domain: a number of instances, or a part
// of those that are wanted.
type Amount struct {
	N       float64
	Percent bool
}

// ParseAmount reads an amount from a config: an integer of at least 1, or a string
// such as "50%"; nil where it is absent or null. It fails with a *FieldError.
func ParseAmount(key string, given json.RawMessage) (*Amount, error) {
	if len(given) == 0 || bytes.Equal(given, []byte("null")) {
		return nil, nil //nolint:nilnil // it is not given
	}
	var text string
	if json.Unmarshal(given, &text) == nil {
		if number, ok := strings.CutSuffix(text, "%"); ok {
			n, err := strconv.ParseFloat(number, 64)
			if err == nil && n > 0 && n <= mostWhole {
				return &Amount{N: n, Percent: true}, nil
			}
		}
	}
	var n int32
	if json.Unmarshal(given, &n) == nil && n >= 1 {
		return &Amount{N: float64(n)}, nil
	}
	return nil, RefuseEngineConf(key, `must be an integer of at least 1, or a percentage above 0 such as "50%"`)
}

// Of is the amount for so many wanted instances, at least 1; a part of an instance
// is rounded by a function such as math.Ceil.
func (a *Amount) Of(wanted int, round func(float64) float64) int {
	n := a.N
	if a.Percent {
		n = round(n * float64(wanted) / 100)
	}
	return int(max(1, min(n, mostWhole)))
}

// WholeInstances is the number of instances that do the work of n: n rounded up,
// apart from what the floating point adds; 0 where n is below.
func WholeInstances(n float64) int {
	const slack = 1e-9
	return int(max(0, min(math.Ceil(n*(1-slack)), mostWhole)))
}

// MissingClause says how many readings are missing, as a clause for the end of a
// reason; "" where none is. Whose they are is in what a decision saw.
func (m *Measured) MissingClause() string {
	if m.Missing == 0 {
		return ""
	}
	clause := fmt.Sprintf("; %d of %d readings of %s are missing", m.Missing, m.Missing+m.Fresh, m.Metric)
	if m.Stale > 0 {
		clause += fmt.Sprintf(", %d of them too old", m.Stale)
	}
	return clause
}
