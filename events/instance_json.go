package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// instanceInternal is the part of an instance's document that readers are not
// shown, under the name internalField.
type instanceInternal struct {
	Attempt     int        `json:"attempt,omitempty"`
	RunningTime *time.Time `json:"running_time,omitempty"`
}

// AppendJSON implements Document: the shown form and, where there is any, what
// is only the service's own.
func (i *Instance) AppendJSON(b []byte) []byte { return i.appendJSON(b, true) }

// AppendShown appends the instance as describe_domain shows it (design §5).
func (i *Instance) AppendShown(b []byte) []byte { return i.appendJSON(b, false) }

func (i *Instance) appendJSON(b []byte, internal bool) []byte {
	b = append(b, `{"instance_id":`...)
	b = appendString(b, i.ID)
	b = append(b, `,"launch_id":`...)
	b = appendString(b, i.LaunchID)
	b = append(b, `,"deployable_type":`...)
	b = appendString(b, i.DeployableType)
	b = append(b, `,"site":`...)
	b = appendString(b, i.Site)
	b = append(b, `,"allocation":`...)
	b = appendString(b, i.Allocation)
	b = append(b, `,"state":"`...)
	b = append(b, i.State...)
	b = append(b, `","state_time":"`...)
	b = appendUTC(b, i.StateTime)
	b = append(b, `","health":`...)
	b = appendString(b, string(i.Health))
	b = append(b, `,"errors":[`...)
	for n, e := range i.Errors {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	b = append(b, `],"error_time":`...)
	if i.ErrorTime == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = appendUTC(b, *i.ErrorTime)
		b = append(b, '"')
	}
	b = append(b, `,"extravars":`...)
	if i.ExtraVars == nil {
		b = append(b, "{}"...)
	} else {
		b = append(b, i.ExtraVars...)
	}
	for _, f := range i.Fields {
		b = append(b, ',')
		b = appendString(b, f.Name)
		b = append(b, ':')
		b = append(b, f.Value...)
	}
	if internal && (i.Attempt > 0 || !i.RunningTime.IsZero()) {
		own := instanceInternal{Attempt: i.Attempt}
		if !i.RunningTime.IsZero() {
			own.RunningTime = &i.RunningTime
		}
		b = append(b, `,"`+internalField+`":`...)
		b = appendJSON(b, own)
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, i.Seq, 10)
	return append(b, '}')
}

// appendUTC appends a time as RFC 3339 in UTC. A time at the very ends of the
// format, which in UTC has a year that the format does not, keeps its own zone.
func appendUTC(b []byte, t time.Time) []byte {
	if utc := t.UTC(); utc.Year() >= 0 && utc.Year() <= 9999 {
		t = utc
	}
	return t.AppendFormat(b, time.RFC3339Nano)
}

// appendString quotes s as JSON; the plain text that names and ids mostly are
// is copied as it is.
func appendString(b []byte, s string) []byte {
	for n := range len(s) {
		if c := s[n]; c < 0x20 || c > 0x7E || c == '"' || c == '\\' {
			return appendJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// instanceDoc is what an instance's document says of its own, see ownFields.
type instanceDoc struct {
	LaunchID, DeployableType, Site, Allocation string

	State     InstanceState
	StateTime time.Time
	Health    Health
	Errors    []json.RawMessage
	ErrorTime *time.Time
	ExtraVars json.RawMessage
	Internal  instanceInternal
	Seq       uint64
}

// read takes the document's members by their exact names. Struct tags would not
// do: encoding/json matches them in any case, and a report may well have a field
// named "State".
func (d *instanceDoc) read(members map[string]json.RawMessage) error {
	for _, m := range [...]struct {
		name string
		into any
	}{
		{"launch_id", &d.LaunchID},
		{"deployable_type", &d.DeployableType},
		{"site", &d.Site},
		{"allocation", &d.Allocation},
		{"state", &d.State},
		{"state_time", &d.StateTime},
		{"health", &d.Health},
		{"errors", &d.Errors},
		{"error_time", &d.ErrorTime},
		{"extravars", &d.ExtraVars},
		{internalField, &d.Internal},
		{"seq", &d.Seq},
	} {
		if value, ok := members[m.name]; ok {
			if err := json.Unmarshal(value, m.into); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	return nil
}

func decodeInstance(domain DomainID, id string, data []byte, word func(string) string) (*Instance, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	var d instanceDoc
	if err := d.read(all); err != nil {
		return nil, err
	}
	state := slices.Index(InstanceStates, d.State)
	if state < 0 {
		return nil, fmt.Errorf("unknown state %q", d.State)
	}
	i := &Instance{
		ID: strings.Clone(id), Domain: DomainID{Owner: word(domain.Owner), Name: word(domain.Name)},
		LaunchID: d.LaunchID, DeployableType: word(d.DeployableType), Site: word(d.Site), Allocation: word(d.Allocation),
		State: InstanceStates[state], StateTime: d.StateTime, Attempt: d.Internal.Attempt,
		Health: Health(word(string(d.Health))), ErrorTime: d.ErrorTime, Seq: d.Seq,
	}
	if len(d.Errors) > 0 {
		i.Errors = d.Errors
	}
	if string(d.ExtraVars) != "{}" {
		i.ExtraVars = present(d.ExtraVars)
	}
	if d.Internal.RunningTime != nil {
		i.RunningTime = *d.Internal.RunningTime
	}
	fields := make(map[string]json.RawMessage, len(all))
	for name, value := range all {
		if !ownFields[name] {
			fields[name] = value
		}
	}
	i.Fields = i.withFields(fields, word)
	return i, nil
}
