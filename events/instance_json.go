package events

import (
	"encoding/json"
	"errors"
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
	HealthyTime *time.Time `json:"healthy_time,omitempty"`
	Unwanted    bool       `json:"unwanted,omitempty"`
	Replacement bool       `json:"replacement,omitempty"`
}

// AppendJSON implements Document: the shown form and, where there is any, what
// is only the service's own.
func (i *Instance) AppendJSON(b []byte) []byte { return i.appendJSON(b, nil, true) }

// AppendShown appends the instance as describe_domain shows it (design §5), with
// what its metrics are; nil: nothing is said of them.
func (i *Instance) AppendShown(b []byte, sensorData json.RawMessage) []byte {
	return i.appendJSON(b, sensorData, false)
}

func (i *Instance) appendJSON(b []byte, sensorData json.RawMessage, internal bool) []byte {
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
	if sensorData != nil {
		b = append(b, `,"sensor_data":`...)
		b = append(b, sensorData...)
	}
	for _, f := range i.Fields {
		b = append(b, ',')
		b = appendString(b, f.Name)
		b = append(b, ':')
		b = append(b, f.Value...)
	}
	if internal {
		b = i.appendInternal(b)
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, i.Seq, 10)
	return append(b, '}')
}

// appendInternal appends what is only the service's own, if there is any.
func (i *Instance) appendInternal(b []byte) []byte {
	if i.Attempt == 0 && i.RunningTime.IsZero() && i.HealthyTime.IsZero() && !i.Unwanted && !i.Replacement {
		return b
	}
	own := instanceInternal{Attempt: i.Attempt, Unwanted: i.Unwanted, Replacement: i.Replacement}
	if !i.RunningTime.IsZero() {
		own.RunningTime = &i.RunningTime
	}
	if !i.HealthyTime.IsZero() {
		own.HealthyTime = &i.HealthyTime
	}
	b = append(b, `,"`+internalField+`":`...)
	return appendJSON(b, own)
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

// instanceDoc reads an instance's document, member by member: by exact names,
// which encoding/json does not (a report may well have a field named "State"), and
// as fast as a start and describe_domain want it.
type instanceDoc struct {
	Instance
	word func(string) string
}

func (d *instanceDoc) read(name string, value []byte) (err error) {
	switch name {
	case "instance_id":
		if n := len(value) - 1; n > 0 && string(value[1:n]) == d.ID {
			return nil // as it nearly always stands there
		}
		var id string
		if id, err = text(value); err == nil && id != d.ID {
			err = errOthers
		}
	case "launch_id":
		d.LaunchID, err = text(value)
	case "deployable_type":
		d.DeployableType, err = d.shared(value)
	case "site":
		d.Site, err = d.shared(value)
	case "allocation":
		d.Allocation, err = d.shared(value)
	case "extravars":
		if string(value) != "{}" && string(value) != "null" {
			d.ExtraVars = slices.Clone(value)
		}
	case "seq":
		d.Seq, err = strconv.ParseUint(string(value), 10, 64)
	default:
		if !ownFields[name] {
			d.Fields = append(d.Fields, Field{Name: d.word(name), Value: slices.Clone(value)})
			return nil
		}
		return d.readCondition(name, value)
	}
	return err
}

// readCondition reads what changes over an instance's life.
func (d *instanceDoc) readCondition(name string, value []byte) (err error) {
	switch name {
	case "state":
		var state string
		state, err = text(value)
		n := slices.Index(InstanceStates, InstanceState(state))
		if n < 0 && err == nil {
			return fmt.Errorf("unknown state %q", state)
		}
		d.State = InstanceStates[max(n, 0)]
	case "state_time":
		err = d.StateTime.UnmarshalJSON(value)
	case "health":
		var health string
		health, err = d.shared(value)
		d.Health = Health(health)
	case "errors":
		if string(value) != "[]" {
			err = json.Unmarshal(value, &d.Errors)
		}
	case "error_time":
		if string(value) != "null" {
			err = json.Unmarshal(value, &d.ErrorTime)
		}
	case internalField:
		var own instanceInternal
		err = json.Unmarshal(value, &own)
		d.Attempt, d.Unwanted, d.Replacement = own.Attempt, own.Unwanted, own.Replacement
		if own.RunningTime != nil {
			d.RunningTime = *own.RunningTime
		}
		if own.HealthyTime != nil {
			d.HealthyTime = *own.HealthyTime
		}
	}
	return err
}

func (d *instanceDoc) shared(value []byte) (string, error) {
	s, err := text(value)
	return d.word(s), err
}

func decodeInstance(domain DomainID, id string, data []byte, word func(string) string) (*Instance, error) {
	d := &instanceDoc{word: word, Instance: Instance{
		ID: strings.Clone(id), Domain: DomainID{Owner: word(domain.Owner), Name: word(domain.Name)},
	}}
	err := members(data, func(name, value []byte) error {
		if err := d.read(fieldName(name), value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d.State == "" {
		return nil, errors.New("it has no state")
	}
	d.Fields = SortedFields(d.Fields)
	i := d.Instance
	return &i, nil
}
