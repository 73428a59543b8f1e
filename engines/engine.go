// Package engines is the API of decision engines and the registry that knows
// them: what an engine sees (View), what it may ask for (Decision), and how its
// part of a config is checked before anybody stores it. Each engine has a folder
// of its own; engines/passes runs them.
package engines

import (
	"encoding/json"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Engine decides for one domain. The leader makes one for each domain and calls
// it from one goroutine at a time.
type Engine interface {
	// Reconfigure takes a new engine_conf section. An error leaves the engine
	// with the config that it had.
	Reconfigure(conf json.RawMessage) error
	// Decide is a deterministic function of its view, the engine's config and
	// the view's memory: it reads no clock, draws no randomness but from the
	// view's seed, and changes nothing that the view holds. It may be called
	// twice for one decision, with other Spared ones.
	Decide(v *View) (Decision, error)
}

// View is all that an engine sees of its domain.
type View struct {
	Domain events.DomainID
	Seq    uint64    // the last folded log sequence that the view shows
	Now    time.Time // the leader's now (design §2), UTC
	Seed   uint32    // for an engine that draws lots
	// Instances are all that have a record, also ended ones, sorted by id. They
	// are shared with everyone and are not to be changed.
	Instances []*events.Instance
	Memory    json.RawMessage // what the last recorded decision kept; nil: nothing
	// Spared are unhealthy instances that are not to be replaced yet, by their
	// ids: they count as the others do. nil: none. See Unhealthy.
	Spared map[string]bool
	// Policy says which of too many instances go first: one of Policies or
	// PolicyDefault.
	Policy string
	// Readings are what the domain's metrics were when they were last read; nil:
	// nothing was. See Measure.
	Readings Readings
	// Answer is what was answered to the engine's question; nil where its kind asks
	// none.
	Answer *Answer
	// MaxActions is how many launches and terminations, counted together, one
	// decision may ask for; what is above is cut off.
	MaxActions int
}

// Unhealthy reports whether an instance is to be terminated and replaced now.
// It is what an engine asks in place of the instance's own Unhealthy.
func (v *View) Unhealthy(i *events.Instance) bool { return i.Unhealthy() && !v.Spared[i.ID] }

// At is the view of the instances at one site alone, of which a decision may have
// so many actions.
func (v *View) At(site string, maxActions int) *View {
	part := *v
	part.Instances, part.MaxActions = nil, maxActions
	for _, i := range v.Instances {
		if i.Site == site {
			part.Instances = append(part.Instances, i)
		}
	}
	return &part
}

// Answer is what came of an engine's question: a body, or an error that says in
// one clause why there is none.
type Answer struct {
	Body json.RawMessage
	Err  string
}

// Launch asks for one instance.
type Launch struct {
	DeployableType string          `json:"deployable_type"`
	Site           string          `json:"site"`
	Allocation     string          `json:"allocation"`
	ExtraVars      json.RawMessage `json:"extravars,omitempty"` // JSON object; nil: none
}

// Decision is what an engine asks for, and why. An unhealthy instance that is to be
// replaced is terminated in the decision that asks for the launch in its place: one
// that is terminated first would wait for that launch for good.
type Decision struct {
	Launches     []Launch
	Terminations []string // instance ids
	Reason       string   // one sentence
	State        events.EngineState
	Target       int             // wanted instances
	Saw          json.RawMessage // further inputs, a JSON object; nil: none
	Memory       json.RawMessage // at most events.MaxMemoryBytes; nil: nothing to keep
}
