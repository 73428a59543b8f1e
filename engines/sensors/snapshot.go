package sensors

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

const (
	// mostShown is how many values of a series are shown.
	mostShown = 100
	// MaxSnapshotBytes bounds an encoded snapshot, which has to fit a message.
	MaxSnapshotBytes = 512 << 10
)

// Snapshot is what was last read of a domain's metrics. Whoever has it may share
// it; nobody changes it.
type Snapshot struct {
	Time      time.Time        `json:"time"` // when, UTC
	Readings  engines.Readings `json:"readings"`
	Domain    Shown            `json:"domain"`           // the domain's sensor_data
	Instances map[string]Shown `json:"instances"`        // instance id → its sensor_data
	Failed    []string         `json:"failed,omitempty"` // metrics that could not be read, or not all of them
	Note      string           `json:"note,omitempty"`   // what is left out, if anything is
	Asked     map[string]bool  `json:"-"`                // instances whose metrics were asked for; empty where it was decoded
}

// Shown is sensor_data of describe_domain.
type Shown map[string]Values // metric → what is shown of it

// Values are a series and what its statistic makes of it. Their JSON is
// {"Series":[…],"<Statistic>":value}; with the statistic Series there is no value
// besides.
type Values struct {
	Series    []float64 // the oldest first; the newest mostShown
	Statistic string
	Value     float64
}

// MarshalJSON implements json.Marshaler.
func (v Values) MarshalJSON() ([]byte, error) {
	shown := map[string]any{engines.StatisticSeries: v.Series}
	if v.Series == nil {
		shown[engines.StatisticSeries] = []float64{}
	}
	if v.Statistic != engines.StatisticSeries {
		shown[v.Statistic] = v.Value
	}
	return json.Marshal(shown)
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Values) UnmarshalJSON(data []byte) error {
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(data, &shown); err != nil {
		return err
	}
	*v = Values{Statistic: engines.StatisticSeries}
	if err := json.Unmarshal(shown[engines.StatisticSeries], &v.Series); err != nil {
		return fmt.Errorf("%s: %w", engines.StatisticSeries, err)
	}
	if n := len(v.Series); n > 0 {
		v.Value = v.Series[n-1]
	}
	delete(shown, engines.StatisticSeries)
	for statistic, value := range shown {
		v.Statistic = statistic
		if err := json.Unmarshal(value, &v.Value); err != nil {
			return fmt.Errorf("%s: %w", statistic, err)
		}
	}
	return nil
}

func newSnapshot(now time.Time) Snapshot {
	return Snapshot{Time: milliseconds(now), Readings: engines.Readings{}, Domain: Shown{}, Instances: map[string]Shown{}, Asked: map[string]bool{}}
}

// add takes what was fetched for a query, of those that it asks for.
func (s *Snapshot) add(q Query, fetched Series) {
	readings := map[string]engines.Reading{}
	take := func(whose string) (v Values, ok bool) {
		samples := numbers(fetched[whose])
		reading, ok := Value(samples, q.Statistic)
		if !ok {
			return Values{}, false
		}
		readings[whose] = reading
		v = Values{Statistic: q.Statistic, Value: reading.Value}
		for _, sample := range samples[max(len(samples)-mostShown, 0):] {
			v.Series = append(v.Series, sample.Value)
		}
		return v, true
	}
	if q.OfDomain {
		if v, ok := take(engines.OfDomain); ok {
			s.Domain[q.Metric] = v
		}
	}
	for _, i := range q.Instances {
		s.Asked[i.ID] = true
		if v, ok := take(i.ID); ok {
			if s.Instances[i.ID] == nil {
				s.Instances[i.ID] = Shown{}
			}
			s.Instances[i.ID][q.Metric] = v
		}
	}
	s.Readings[q.Metric] = readings
}

// Over is the snapshot where what is missing is as the last snapshot had it: of a
// metric that failed whatever it was, of another one what is no older than fresh. So a
// reading goes stale by its time, not since a source did not answer once or had nothing
// new. Of instances that were not asked for it takes nothing over.
func (s Snapshot) Over(last Snapshot, fresh time.Duration) Snapshot {
	s.Readings, s.Domain, s.Instances = maps.Clone(s.Readings), maps.Clone(s.Domain), maps.Clone(s.Instances)
	for metric, read := range s.Readings {
		failed := slices.Contains(s.Failed, metric)
		readings := maps.Clone(read)
		for whose, was := range last.Readings[metric] {
			_, known := read[whose]
			asked := whose == engines.OfDomain || s.Asked[whose]
			if asked && !known && (failed || s.Time.Sub(was.Time) <= fresh) {
				readings[whose] = was
				s.show(whose, metric, last)
			}
		}
		s.Readings[metric] = readings
	}
	return s
}

// show shows what another snapshot does of somebody's metric.
func (s *Snapshot) show(whose, metric string, other Snapshot) {
	if whose == engines.OfDomain {
		if v, ok := other.Domain[metric]; ok {
			s.Domain[metric] = v
		}
		return
	}
	v, ok := other.Instances[whose][metric]
	if !ok {
		return
	}
	shown := maps.Clone(s.Instances[whose])
	if shown == nil {
		shown = Shown{}
	}
	shown[metric] = v
	s.Instances[whose] = shown
}

// Encode gives the snapshot as JSON of at most MaxSnapshotBytes: where it is larger,
// the series are cut to their newest value, and then instances are left out, the
// last by their ids; its note says so.
func (s Snapshot) Encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil || len(data) <= MaxSnapshotBytes {
		return data, err
	}
	s = s.newest()
	s.Note = "the series are cut to their newest value"
	if data, err = json.Marshal(s); err != nil || len(data) <= MaxSnapshotBytes {
		return data, err
	}
	ids := slices.Sorted(maps.Keys(s.Instances))
	for kept := len(ids); kept > 0; {
		kept = min(kept-1, kept*(MaxSnapshotBytes-4<<10)/len(data))
		part := s.of(ids[:kept])
		part.Note = fmt.Sprintf("%s, and %d of %d instances are left out", s.Note, len(ids)-kept, len(ids))
		if data, err = json.Marshal(part); err != nil || len(data) <= MaxSnapshotBytes {
			return data, err
		}
	}
	return nil, fmt.Errorf("encode a snapshot: %d bytes without any instance, at most %d are allowed", len(data), MaxSnapshotBytes)
}

// DecodeSnapshot reads what Encode gives.
func DecodeSnapshot(data []byte) (Snapshot, error) {
	s := newSnapshot(time.Time{})
	if err := json.Unmarshal(data, &s); err != nil {
		return Snapshot{}, fmt.Errorf("decode a snapshot: %w", err)
	}
	s.Time = s.Time.UTC()
	return s, nil
}

// newest is the snapshot with one value a series.
func (s Snapshot) newest() Snapshot {
	cut := func(shown Shown) Shown {
		short := Shown{}
		for metric, v := range shown {
			v.Series = v.Series[max(len(v.Series)-1, 0):]
			short[metric] = v
		}
		return short
	}
	s.Domain = cut(s.Domain)
	instances := make(map[string]Shown, len(s.Instances))
	for id, shown := range s.Instances {
		instances[id] = cut(shown)
	}
	s.Instances = instances
	return s
}

// of is the snapshot of the domain and some of its instances.
func (s Snapshot) of(ids []string) Snapshot {
	instances, readings := make(map[string]Shown, len(ids)), make(engines.Readings, len(s.Readings))
	for _, id := range ids {
		instances[id] = s.Instances[id]
	}
	for metric, all := range s.Readings {
		readings[metric] = map[string]engines.Reading{}
		for whose, reading := range all {
			if _, kept := instances[whose]; kept || whose == engines.OfDomain {
				readings[metric][whose] = reading
			}
		}
	}
	s.Instances, s.Readings = instances, readings
	return s
}
