package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/projections"
)

// pointHelp says in a flag's help what a point of the log may be.
const pointHelp = "a time (2026-03-01T12:00:00Z), so long ago (90s, 2h, 3d) or a sequence of the log"

// pointFlag is a point of the log as a flag. It is a pflag.Value.
type pointFlag struct {
	text  string
	point projections.Point // zero: not given
}

func (f *pointFlag) String() string { return f.text }
func (f *pointFlag) Type() string   { return "time|duration|seq" }

// Set reads the text. Durations count from now, so that all flags of one command count
// from nearly the same time.
func (f *pointFlag) Set(text string) (err error) {
	f.text = text
	f.point, err = parsePoint(text, time.Now())
	return err
}

// parsePoint reads an RFC 3339 time, a duration before now (with d for days of 24 h), or
// a sequence.
func parsePoint(text string, now time.Time) (projections.Point, error) {
	if seq, err := strconv.ParseUint(text, 10, 64); err == nil && seq > 0 {
		return projections.Point{Seq: seq}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return projections.Point{Time: t.UTC()}, nil
	}
	if d, err := parseAge(text); err == nil && d > 0 {
		return projections.Point{Time: now.Add(-d).UTC()}, nil
	}
	return projections.Point{}, fmt.Errorf("%q is neither %s", text, strings.Replace(pointHelp, " or a sequence", " nor a sequence", 1))
}

// parseAge reads a Go duration that may begin with days: 3d, 1d12h.
func parseAge(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16) // 65,535 days are less than the longest duration
	if err != nil || rest == "" {
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(rest)
	return time.Duration(n)*24*time.Hour + d, err
}
