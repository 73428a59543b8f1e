package cli

import (
	"io"
	"time"

	"github.com/seed-524e47bf/epum/projections"
)

// ParsePoint is how a flag's point of the log is read.
func ParsePoint(text string, now time.Time) (projections.Point, error) { return parsePoint(text, now) }

// Progress draws a progress on w as a terminal: at each time the sequence read then.
func Progress(w io.Writer, what string, first, last uint64, began time.Time, at map[time.Time]uint64, order []time.Time) {
	p := &progress{w: w, what: what, first: first, last: last, began: began}
	for _, now := range order {
		p.show(at[now], now)
	}
	p.end()
}
