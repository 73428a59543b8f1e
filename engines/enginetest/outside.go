package enginetest

import (
	"slices"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// Question is what a program is asked that decides for domains of the engine external,
// with the setting that Keep goes by.
type Question struct {
	engines.WireView
	Settings struct {
		Keep int `json:"keep"`
	} `json:"settings"`
	Instances []struct {
		ID    string               `json:"instance_id"`
		State events.InstanceState `json:"state"`
	} `json:"instances"`
}

// Keep is the decision that keeps as many instances as the settings say.
func (q *Question) Keep() engines.WireDecision {
	d := engines.WireDecision{Target: q.Settings.Keep, State: events.EngineStable, Reason: "as many as the settings say", Terminations: q.Unhealthy}
	var healthy []string
	for _, i := range q.Instances {
		if i.State < events.Terminating && !slices.Contains(q.Unhealthy, i.ID) {
			healthy = append(healthy, i.ID)
		}
	}
	if n := d.Target - len(healthy); n > 0 {
		d.Launches = make([]engines.Launch, n)
	} else {
		d.Terminations = append(d.Terminations, healthy[d.Target:]...)
	}
	return d
}
