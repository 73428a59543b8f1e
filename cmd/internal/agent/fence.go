package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// errDeposed is returned for a request of a leader that has had a successor.
var errDeposed = errors.New("agent: a later leader has been heard")

// term names a leader's term; a later one has the later Time, and at the same
// Time (of a restored log) the higher Epoch.
type term struct {
	Time  time.Time `json:"time"`
	Epoch uint64    `json:"epoch"`
}

func (t term) before(u term) bool {
	return t.Time.Before(u.Time) || t.Time.Equal(u.Time) && t.Epoch < u.Epoch
}

// fence keeps out the requests of deposed leaders. One goroutine uses it.
type fence struct {
	path   string // where newest is kept; "": in memory only
	newest term   // the latest heard; zero: none
}

func openFence(path string) (*fence, error) {
	f := &fence{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := json.Unmarshal(data, &f.newest); err != nil {
		return nil, fmt.Errorf("agent: read %s: %w", path, err)
	}
	return f, nil
}

// admit checks a request's headers, and remembers its term where it is new
// before the request is obeyed. Requests without the headers come from a
// person, and pass. The error wraps errDeposed where a later term is known.
func (f *fence) admit(h nats.Header) error {
	when, epoch := h.Get(events.HeaderTime), h.Get(events.HeaderEpoch)
	if when == "" && epoch == "" {
		return nil
	}
	var t term
	var err error
	if t.Time, err = time.Parse(time.RFC3339Nano, when); err != nil {
		return fmt.Errorf("header %s: %w", events.HeaderTime, err)
	}
	if t.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
		return fmt.Errorf("header %s: %w", events.HeaderEpoch, err)
	}
	if t.before(f.newest) {
		return fmt.Errorf("%w: epoch %d of %s, this is epoch %d of %s", errDeposed,
			f.newest.Epoch, f.newest.Time.Format(time.RFC3339Nano), t.Epoch, when)
	}
	if !f.newest.before(t) {
		return nil
	}
	if f.path != "" {
		data, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if err := writeDurably(f.path, data); err != nil {
			return err
		}
	}
	f.newest = t
	return nil
}
