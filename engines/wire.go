package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/seed-524e47bf/epum/events"
)

// WireView is a view as JSON, for an engine that runs outside. Instances are as
// describe_domain shows them, those that ended included.
type WireView struct {
	Owner      string            `json:"owner"`
	Domain     string            `json:"domain"`
	Seq        uint64            `json:"seq"` // the last log sequence that the view shows
	Now        time.Time         `json:"now"` // UTC
	Seed       uint32            `json:"seed"`
	MaxActions int               `json:"max_actions"`       // launches and terminations, counted together
	Policy     string            `json:"policy,omitempty"`  // general.termination_policy
	Settings   json.RawMessage   `json:"settings"`          // engine_conf.settings; {} where it is not given
	Memory     json.RawMessage   `json:"memory"`            // what the last decision kept; null: nothing
	Spared     []string          `json:"spared,omitempty"`  // unhealthy instances that are not to be replaced yet
	Unhealthy  []string          `json:"unhealthy"`         // those that are to be terminated and replaced
	Readings   Readings          `json:"readings,omitzero"` // nil: nothing is read
	Instances  []json.RawMessage `json:"instances"`         // sorted by id
}

// EncodeView gives a view as JSON, with the settings of its engine.
func EncodeView(v *View, settings json.RawMessage) ([]byte, error) {
	if len(settings) == 0 {
		settings = json.RawMessage(`{}`)
	}
	w := WireView{
		Owner: v.Domain.Owner, Domain: v.Domain.Name, Seq: v.Seq, Now: v.Now.UTC(), Seed: v.Seed, MaxActions: v.MaxActions,
		Policy: v.Policy, Settings: settings, Memory: v.Memory, Readings: v.Readings, Unhealthy: []string{}, Instances: []json.RawMessage{},
	}
	for _, i := range v.Instances {
		if i.Unhealthy() && v.Spared[i.ID] {
			w.Spared = append(w.Spared, i.ID)
		} else if i.Valid() && i.Unhealthy() {
			w.Unhealthy = append(w.Unhealthy, i.ID)
		}
		w.Instances = append(w.Instances, i.AppendShown(nil, nil))
	}
	data, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("engines: encode a view: %w", err)
	}
	return data, nil
}

// WireDecision is what an engine that runs outside answers. An empty site, type or
// allocation of a launch stands for the domain's own.
type WireDecision struct {
	Launches     []Launch           `json:"launches"`
	Terminations []string           `json:"terminations"`
	Reason       string             `json:"reason"` // one sentence, required
	State        events.EngineState `json:"engine_state"`
	Target       int                `json:"target"` // at least as many as there are then, where it launches any
	Memory       json.RawMessage    `json:"memory"`
	Error        string             `json:"error"` // why it does not decide; "": it does
}

// mostReason is how long the reason of an engine that runs outside may be, in bytes.
const mostReason = 1 << 10

// errors of an answer, each one clause.
var (
	errNoReason   = errors.New("it has no reason; give one sentence")
	errLongReason = fmt.Errorf("its reason has more than %d bytes", mostReason)
	errNoState    = errors.New("its engine_state is none of PENDING_DE, STABLE_DE, UNKNOWN, DEVMODE_FAILED_DE")
	errTarget     = errors.New("its target is below 0")
)

// DecodeDecision reads an answer for a view, strictly, and fills in what its
// launches leave out. The error says in one clause what is wrong with it.
func DecodeDecision(v *View, body []byte, like Launch) (Decision, error) {
	var w WireDecision
	if err := jsonv2.Unmarshal(body, &w, jsonv2.RejectUnknownMembers(true)); err != nil {
		return Decision{}, fmt.Errorf("it is no decision: %w", err)
	}
	if w.State == "" {
		w.State = events.EngineUnknown
	}
	switch {
	case w.Error != "":
		return Decision{}, fmt.Errorf("it says: %.200s", w.Error)
	case strings.TrimSpace(w.Reason) == "":
		return Decision{}, errNoReason
	case len(w.Reason) > mostReason:
		return Decision{}, errLongReason
	case !slices.Contains([]events.EngineState{events.EnginePending, events.EngineStable, events.EngineUnknown, events.EngineDevmodeFailed}, w.State):
		return Decision{}, errNoState
	case w.Target < 0:
		return Decision{}, errTarget
	case len(w.Memory) > events.MaxMemoryBytes:
		return Decision{}, fmt.Errorf("its memory has %d bytes, at most %d are kept", len(w.Memory), events.MaxMemoryBytes)
	case len(w.Launches)+len(w.Terminations) > v.MaxActions:
		return Decision{}, fmt.Errorf("it has %d actions, at most %d are allowed", len(w.Launches)+len(w.Terminations), v.MaxActions)
	}
	d := Decision{Terminations: w.Terminations, Reason: w.Reason, State: w.State, Target: w.Target, Memory: w.Memory}
	known := map[string]bool{}
	for _, i := range v.Instances {
		known[i.ID] = true
	}
	for _, id := range w.Terminations {
		if !known[id] {
			return Decision{}, fmt.Errorf("it terminates %.100q, which is no instance of the domain", id)
		}
	}
	for n, l := range w.Launches {
		launch, err := l.filled(like)
		if err != nil {
			return Decision{}, fmt.Errorf("its launch %d: %w", n, err)
		}
		d.Launches = append(d.Launches, launch)
	}
	d.Target = max(d.Target, v.launchedTo(&d))
	return d, nil
}

// launchedTo is how many instances count once a decision that launches is carried out;
// 0 where it launches none. It wants them all: else its launches would be in no ill
// one's place, and no limit of such would hold.
func (v *View) launchedTo(d *Decision) int {
	if len(d.Launches) == 0 {
		return 0
	}
	goes := make(map[string]bool, len(d.Terminations))
	for _, id := range d.Terminations {
		goes[id] = true
	}
	n := len(d.Launches)
	for _, i := range v.Instances {
		if i.Valid() && !goes[i.ID] {
			n++
		}
	}
	return n
}

// filled fills in what a launch leaves out.
func (l Launch) filled(like Launch) (Launch, error) {
	launch := l
	for _, f := range []struct {
		key  string
		into *string
		like string
		may  bool // be empty
	}{
		{"deployable_type", &launch.DeployableType, like.DeployableType, false},
		{"site", &launch.Site, like.Site, false},
		{"allocation", &launch.Allocation, like.Allocation, true},
	} {
		if *f.into == "" {
			*f.into = f.like
		}
		if err := events.CheckName(*f.into); err != nil && (*f.into != "" || !f.may) {
			return launch, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	switch {
	case len(l.ExtraVars) == 0 || string(l.ExtraVars) == "null":
		launch.ExtraVars = nil
	case l.ExtraVars[0] != '{':
		return launch, errors.New("extravars is no JSON object")
	}
	return launch, nil
}
