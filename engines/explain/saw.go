package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// saw is what a decision's record says that was seen, as far as it is told of.
type saw struct {
	Counts map[events.InstanceState]int `json:"counts"`
	Target *int                         `json:"target"`
	Engine json.RawMessage              `json:"engine"`
	DryRun *struct {
		Launches     []json.RawMessage `json:"launches"`
		Terminations []string          `json:"terminations"`
	} `json:"dry_run"`
}

func seen(record json.RawMessage) (s saw) {
	_ = json.Unmarshal(record, &s) // what cannot be read says nothing
	return s
}

// shownSaw is what was seen without what makes it long.
func shownSaw(record json.RawMessage) json.RawMessage {
	if len(record) <= mostSaw { // as nearly always
		return record
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(record, &all) != nil {
		return nil
	}
	var leftOut []string
	for _, name := range []string{"readings", "dry_run", "engine"} { // the longest first, the arithmetic last
		if size(all) > mostSaw {
			delete(all, name)
			leftOut = append(leftOut, name)
		}
	}
	if len(leftOut) > 0 {
		all["left_out"], _ = json.Marshal(leftOut)
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return data
}

func size(all map[string]json.RawMessage) (n int) {
	for _, value := range all {
		n += len(value)
	}
	return n
}

// measured finds the metrics in what an engine saw, however deep: an engine may
// hold another's figures.
func measured(figures json.RawMessage) (all []engines.Measured) {
	var m engines.Measured
	var members map[string]json.RawMessage
	if json.Unmarshal(figures, &members) != nil {
		return nil
	}
	if members["metric"] != nil && members["fresh"] != nil && json.Unmarshal(figures, &m) == nil {
		return []engines.Measured{m}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		all = append(all, measured(members[name])...)
	}
	return all
}

// missing says which readings a decision lacked; nil: none.
func missing(record json.RawMessage) (clauses []string) {
	for _, m := range measured(seen(record).Engine) {
		if m.Missing == 0 {
			continue
		}
		clause := fmt.Sprintf("%d of %d readings of %s were missing", m.Missing, m.Missing+m.Fresh, m.Metric)
		if m.Stale > 0 {
			clause += fmt.Sprintf(", %d of them too old", m.Stale)
		}
		if m.OnMissing != "" {
			clause += fmt.Sprintf(" (on_missing %s)", m.OnMissing)
		}
		clauses = append(clauses, clause)
	}
	return clauses
}
