package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	progressAfter = time.Second            // what takes less needs none
	progressEvery = 100 * time.Millisecond // an eye sees no more
	progressWidth = 30                     // of the bar, in characters
)

// progress shows on a terminal how far something has got that takes over a second. It is
// for one goroutine.
type progress struct {
	w           io.Writer // nil: there is no terminal
	what        string
	first, last uint64
	began       time.Time
	drawn       time.Time // zero: never
	calls       int
}

// newProgress is the progress of what reads the log's events from one sequence to
// another. end has to be called.
func (a *app) newProgress(what string, first, last uint64) *progress {
	p := &progress{what: what, first: first, last: last, began: time.Now()}
	if isTerminal(a.stderr) {
		p.w = a.stderr
	}
	return p
}

// at says that the event at seq has been read. It costs nearly nothing.
func (p *progress) at(seq uint64) {
	const rarely = 256 // calls for one look at the clock
	if p.calls++; p.w == nil || p.calls%rarely != 0 {
		return
	}
	p.show(seq, time.Now())
}

func (p *progress) show(seq uint64, now time.Time) {
	if now.Sub(p.began) < progressAfter || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn = now
	fmt.Fprintf(p.w, "\r%s\x1b[K", p.line(seq, now))
}

func (p *progress) line(seq uint64, now time.Time) string {
	done := 1.0
	if p.last > p.first {
		done = min(float64(max(seq, p.first)-p.first)/float64(p.last-p.first), 1)
	}
	full := int(done * progressWidth)
	rate := float64(max(seq, p.first)-p.first) / now.Sub(p.began).Seconds()
	return fmt.Sprintf("%s [%s%s] %3.0f%%  event %s of %s, %s/s", p.what, strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), 100*done,
		humanize.Comma(int64(seq)), humanize.Comma(int64(p.last)), humanize.Comma(int64(rate)))
}

// end takes the bar away, so that what is printed next stands at the line's start.
func (p *progress) end() {
	if p.w != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// waiting says on a terminal, once a second has passed, for how long an answer has been
// waited for; stop takes that away again.
func (a *app) waiting(what string) (stop func()) {
	if !isTerminal(a.stderr) {
		return func() {}
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressAfter)
		defer tick.Stop()
		shown := false
		for began := time.Now(); ; shown = true {
			select {
			case <-tick.C:
				fmt.Fprintf(a.stderr, "\r%s: the service is at it, for %s\x1b[K", what, time.Since(began).Round(time.Second))
			case <-ended:
				if shown {
					fmt.Fprint(a.stderr, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return func() { close(ended); <-done }
}
