package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Sample is one measurement that was pushed. It is no event: only the decisions
// that it leads to are.
type Sample struct {
	Domain   DomainID
	Instance string // its id; "": of the domain as a whole
	Metric   string
	Time     time.Time // UTC
	Value    float64
}

// aheadOfTime is how far a clock that measures may be ahead of the server's.
const aheadOfTime = time.Minute

// DecodeSample reads a pushed sample, {"value": number, "time"?: RFC 3339 or
// seconds since 1970}, that was pushed to a subject and received, by the stream,
// at a time. Without a time of its own, or with one in the future, it was measured
// then. Unknown fields are ignored.
func (p Prefix) DecodeSample(subject string, body []byte, received time.Time) (Sample, error) {
	s := Sample{Time: received.UTC()}
	var ok bool
	if s.Domain, s.Instance, s.Metric, ok = p.SensorOf(subject); !ok {
		return Sample{}, fmt.Errorf("events: sample: %q names no owner, domain, instance and metric", subject)
	}
	var value *float64
	var measured time.Time
	err := members(body, func(name, data []byte) (err error) {
		switch string(name) {
		case "value":
			err = json.Unmarshal(data, &value)
		case "time":
			measured, err = moment(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return Sample{}, fmt.Errorf("events: sample: %w", err)
	case value == nil:
		return Sample{}, errors.New("events: sample: it has no value")
	case !measured.IsZero() && measured.Before(received.Add(aheadOfTime)):
		s.Time = measured
	}
	s.Value = *value
	return s, nil
}
