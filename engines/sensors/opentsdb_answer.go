package sensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// tsdbSeries is one series of an answer, by its tags.
type tsdbSeries struct {
	tags    map[string]string
	samples []Sample // the oldest first
}

// decodeTSDB reads an answer of /api/query. A null stands for no value.
func decodeTSDB(body []byte) ([]tsdbSeries, error) {
	var answer []struct {
		Tags   map[string]string     `json:"tags"`
		Points map[string]*tsdbValue `json:"dps"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errors.New("it is no list")
	}
	all := make([]tsdbSeries, 0, len(answer))
	for _, a := range answer {
		s := tsdbSeries{tags: a.Tags}
		for stamp, value := range a.Points {
			number, err := strconv.ParseInt(stamp, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%q is no time", excerpt(stamp))
			}
			seconds := float64(number)
			if number > 99_999_999_999 { // of more than 11 digits: milliseconds
				seconds /= 1000
			}
			at, ok := unixTime(seconds)
			switch {
			case !ok:
				return nil, fmt.Errorf("%q is no time", excerpt(stamp))
			case value != nil:
				s.samples = append(s.samples, Sample{Time: at, Value: float64(*value)})
			}
		}
		slices.SortFunc(s.samples, func(a, b Sample) int { return a.Time.Compare(b.Time) })
		all = append(all, s)
	}
	return all, nil
}

// tsdbValue is a number, or what JSON has no number for: "NaN", "Infinity".
type tsdbValue float64

// UnmarshalJSON implements json.Unmarshaler.
func (v *tsdbValue) UnmarshalJSON(data []byte) error {
	var text string
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	} else {
		text = string(data)
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(number, 0) {
		return fmt.Errorf("%q is no value", excerpt(text))
	}
	*v = tsdbValue(number)
	return nil
}
