package sensors

import (
	"encoding/json"

	"github.com/seed-524e47bf/epum/events"
)

// LabelOf is how a source names an instance: what the instance has reported in a
// field, as iaas_id or hostname, and its id where field is "" or it has reported
// no text there.
func LabelOf(i *events.Instance, field string) string {
	var label string
	if field == "" || json.Unmarshal(i.Fields.Get(field), &label) != nil || label == "" {
		return i.ID
	}
	return label
}
