package agent

import (
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// record is what the agent knows of one instance, and all that it needs to go
// on with it after a restart. An empty State means that nothing was ever asked
// of the instance; such a record is never on disk.
type record struct {
	report                   // as last reported
	Type       string        `json:"deployable_type,omitempty"`
	Grace      time.Duration `json:"grace,omitempty"`       // nanoseconds
	StartAfter time.Duration `json:"start_after,omitempty"` // nanoseconds
	Check      *check        `json:"check,omitempty"`       // nil: the type has none
	Process    *process      `json:"process,omitempty"`     // nil: none, or an intent
	Ended      *time.Time    `json:"ended,omitempty"`       // UTC, when it was terminal; nil: it is not
	Settled    bool          `json:"settled,omitempty"`     // its end was acked: this is a tombstone
}

// intent reports whether the process may have been started without the record
// saying so.
func (r record) intent() bool { return r.State == events.Pending && r.Process == nil }

// alive reports whether there is something left to watch or to do.
func (r record) alive() bool { return r.State != "" && !r.State.Terminal() }

// tombstone is what is left of a finished instance.
func (r record) tombstone() record {
	return record{
		report:  report{NodeID: r.NodeID, State: r.State, Site: r.Site, Counter: r.Counter, Error: r.Error},
		Ended:   r.Ended,
		Settled: true,
	}
}
