package sensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// promSeries is one series of an answer, by its labels.
type promSeries struct {
	labels  map[string]string
	samples []Sample
}

// promError is returned for an answer that says that the query failed.
type promError struct{ kind, text string }

func (e *promError) Error() string { return excerpt(e.kind + ": " + e.text) }

// decodeProm reads an answer of /api/v1/query. Native histograms have no number,
// and are left out.
func decodeProm(body []byte) (series []promSeries, warnings []string, err error) {
	var answer struct {
		Status string `json:"status"`
		Data   struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
		ErrorType string   `json:"errorType"`
		Error     string   `json:"error"`
		Warnings  []string `json:"warnings"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, nil, err
	}
	switch answer.Status {
	case "success":
	case "error":
		return nil, nil, &promError{kind: answer.ErrorType, text: answer.Error}
	default:
		return nil, nil, fmt.Errorf("its status is %q", excerpt(answer.Status))
	}
	var found []struct {
		Metric map[string]string `json:"metric"`
		Value  *promPoint        `json:"value"`
		Values []promPoint       `json:"values"`
	}
	switch kind, result := answer.Data.ResultType, answer.Data.Result; kind {
	case "matrix", "vector":
		err = json.Unmarshal(result, &found)
	case "scalar":
		var point promPoint
		if err = json.Unmarshal(result, &point); err == nil {
			return []promSeries{{samples: []Sample{Sample(point)}}}, answer.Warnings, nil
		}
	default:
		err = fmt.Errorf("a result of type %q has no numbers", excerpt(kind))
	}
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		s := promSeries{labels: f.Metric}
		if f.Value != nil {
			s.samples = append(s.samples, Sample(*f.Value))
		}
		for _, point := range f.Values {
			s.samples = append(s.samples, Sample(point))
		}
		series = append(series, s)
	}
	return series, answer.Warnings, nil
}

// promPoint is [seconds since 1970, "value"].
type promPoint Sample

var errPromPoint = errors.New(`a point is no [seconds, "value"]`)

// UnmarshalJSON implements json.Unmarshaler.
func (p *promPoint) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != 2 {
		return errPromPoint
	}
	var seconds float64
	var text string
	if json.Unmarshal(parts[0], &seconds) != nil || json.Unmarshal(parts[1], &text) != nil {
		return errPromPoint
	}
	value, err := strconv.ParseFloat(text, 64) // also NaN, +Inf and -Inf
	if err != nil && !math.IsInf(value, 0) {
		return errPromPoint
	}
	at, ok := unixTime(seconds)
	if !ok {
		return errPromPoint
	}
	*p = promPoint{Time: at, Value: value}
	return nil
}

// unixTime is a time from seconds since 1970, to the millisecond; ok is false
// before then and after the year 9999.
func unixTime(seconds float64) (at time.Time, ok bool) {
	const last = 253402300799
	if !(seconds >= 0 && seconds <= last) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), true
}

// promTime is a time as the API takes it.
func promTime(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// promDuration is a duration as the query language and the API take it, of at least
// a millisecond.
func promDuration(d time.Duration) string {
	if d >= time.Second && d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms"
}
