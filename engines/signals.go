package engines

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// SensorTypes are the sources of metrics that engine_conf.sensor_type may name
// (engines/sensors).
var SensorTypes = []string{"nats", "prometheus", "opentsdb", "cloudwatch", "mockcloudwatch"}

// defaultPeriod is engine_conf.sample_period where it is not given.
const defaultPeriod = 90 * time.Second

// mostMetrics bounds how many metrics one domain has read, of each kind.
const mostMetrics = 32

// GivenSensing are the keys of an engine_conf that say what is measured, for an
// engine's own struct to embed; nil: absent or null.
type GivenSensing struct {
	SensorType     *string           `json:"sensor_type"`
	Sensors        []string          `json:"monitor_sensors"`
	DomainSensors  []string          `json:"monitor_domain_sensors"`
	SampleFunction *string           `json:"sample_function"`
	SamplePeriod   *float64          `json:"sample_period"`
	SensorData     []float64         `json:"sensor_data"`
	SensorQueries  map[string]string `json:"sensor_queries"`
}

// Sensing checks the keys and fills in the defaults. It fails with a *FieldError.
func (g *GivenSensing) Sensing() (Sensing, error) {
	s := Sensing{
		Instances: g.Sensors, Domain: g.DomainSensors, Statistic: StatisticAverage, Period: defaultPeriod,
		Data: []float64{0}, Queries: g.SensorQueries,
	}
	if g.SensorType != nil {
		if s.Source = *g.SensorType; !slices.Contains(SensorTypes, s.Source) {
			return s, RefuseEngineConf("sensor_type", fmt.Sprintf("is %q, but must be one of: %s", s.Source, strings.Join(SensorTypes, ", ")))
		}
	}
	if g.SampleFunction != nil {
		if s.Statistic = *g.SampleFunction; !slices.Contains(Statistics, s.Statistic) {
			return s, RefuseEngineConf("sample_function", fmt.Sprintf("is %q, but must be one of: %s", s.Statistic, strings.Join(Statistics, ", ")))
		}
	}
	if p := g.SamplePeriod; p != nil {
		const most = 24 * time.Hour // as long as pushed samples are kept
		if s.Period = seconds(*p); s.Period <= 0 || s.Period > most {
			return s, RefuseEngineConf("sample_period", "must be a number of seconds above 0, at most 86400")
		}
	}
	for _, list := range []struct {
		key     string
		metrics []string
	}{{"monitor_sensors", s.Instances}, {"monitor_domain_sensors", s.Domain}} {
		if len(list.metrics) > mostMetrics {
			return s, RefuseEngineConf(list.key, fmt.Sprintf("names %d metrics, at most %d are allowed", len(list.metrics), mostMetrics))
		}
		for n, metric := range list.metrics {
			if err := events.CheckName(metric); err != nil {
				return s, RefuseEngineConf(fmt.Sprintf("%s.%d", list.key, n), "must be a name: "+err.Error())
			}
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(s.Queries)) {
		if _, err := ParseQuery(s.Queries[metric]); err != nil {
			return s, RefuseEngineConf("sensor_queries."+metric, err.Error())
		}
	}
	if len(g.SensorData) > 0 {
		s.Data = g.SensorData
	}
	return s, nil
}

// GivenLaunch are the keys of an engine_conf that say what is launched, for an
// engine's own struct to embed; nil: absent or null.
type GivenLaunch struct {
	Site       *string                    `json:"iaas_site"`
	Allocation *string                    `json:"iaas_allocation"`
	Type       *string                    `json:"deployable_type"`
	Vars       map[string]json.RawMessage `json:"provisioner_vars"` // the outbox reads them
}

// Launch checks the keys. With complete false they may be missing. It fails with
// a *FieldError.
func (g *GivenLaunch) Launch(complete bool) (l Launch, err error) {
	for _, f := range []struct {
		key   string
		given *string
		into  *string
		what  string
	}{
		{"iaas_site", g.Site, &l.Site, "the site whose provisioner is asked"},
		{"iaas_allocation", g.Allocation, &l.Allocation, "the size of an instance, as the provisioner knows it"},
		{"deployable_type", g.Type, &l.DeployableType, "what is launched"},
	} {
		if f.given == nil {
			if complete {
				return l, RefuseEngineConf(f.key, "is required: "+f.what)
			}
			continue
		}
		if err := events.CheckName(*f.given); err != nil {
			return l, RefuseEngineConf(f.key, "must be a name: "+err.Error())
		}
		*f.into = *f.given
	}
	return l, nil
}

// GivenFleet are the keys of an engine_conf that say what instances there are, all
// at one site, for an engine's own struct to embed; nil: absent or null.
type GivenFleet struct {
	GivenLaunch
	GivenUnique
	Retirable NameList `json:"retirable_nodes"`
}

// Fleet checks the keys; how many are wanted is the engine's. With complete false
// required ones may be missing. It fails with a *FieldError.
func (g *GivenFleet) Fleet(complete bool) (f Fleet, err error) {
	if f.Launch, err = g.Launch(complete); err != nil {
		return f, err
	}
	f.Retirable = g.Retirable
	f.Unique, err = g.Unique(complete)
	return f, err
}

// GivenUnique are the keys of an engine_conf that set its instances apart, for an
// engine's own struct to embed; nil: absent or null.
type GivenUnique struct {
	Key    *string  `json:"unique_key"`
	Values NameList `json:"unique_values"`
}

// Unique checks the keys; nil where they are not given. With complete false one of
// them may be missing. It fails with a *FieldError.
func (g *GivenUnique) Unique(complete bool) (*Unique, error) {
	if g.Key != nil {
		if err := events.CheckName(*g.Key); err != nil {
			return nil, RefuseEngineConf("unique_key", "must be a name: "+err.Error())
		}
		if slices.Contains(ownVars, *g.Key) {
			return nil, RefuseEngineConf("unique_key", fmt.Sprintf("is %q, which every launch is given by the service itself", *g.Key))
		}
	}
	seen := map[string]bool{}
	for _, value := range g.Values {
		if value == "" || seen[value] {
			return nil, RefuseEngineConf("unique_values", fmt.Sprintf("has the value %q, but each must be there once and not be empty", value))
		}
		seen[value] = true
	}
	switch {
	case g.Values != nil && len(g.Values) == 0:
		return nil, RefuseEngineConf("unique_values", "is empty, so nothing could be launched: give a value for each instance, or leave it out")
	case g.Key != nil && g.Values != nil:
		return &Unique{Key: *g.Key, Values: g.Values}, nil
	case g.Values != nil && complete:
		return nil, RefuseEngineConf("unique_key", "is required with unique_values: the variable that each instance has a value of its own of")
	case g.Key != nil && complete:
		return nil, RefuseEngineConf("unique_values", "is required with unique_key: a list of values, or a string with commas between them")
	}
	return nil, nil //nolint:nilnil // nothing sets the instances apart
}

// ownVars are the launch variables that are the same whatever a config says
// (design §4).
var ownVars = []string{"node_id", "heartbeat_dest"}

// NameList is a list of strings in a config: a JSON array, or one string with
// commas between them, blanks around them left out.
type NameList []string

// errNameList is returned for what is no NameList.
const errNameList wantedError = "a list of strings, or one string with commas between them"

// UnmarshalJSON implements json.Unmarshaler.
func (l *NameList) UnmarshalJSON(data []byte) error {
	*l = nil
	if string(data) == "null" {
		return nil
	}
	*l = NameList{}
	var text string
	if json.Unmarshal(data, &text) == nil {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*l = append(*l, part)
			}
		}
		return nil
	}
	var names []*string
	if json.Unmarshal(data, &names) != nil || slices.Contains(names, nil) {
		return errNameList
	}
	for _, name := range names {
		*l = append(*l, *name)
	}
	return nil
}

// RefuseEngineConf refuses a key of an engine_conf. It gives a *FieldError.
func RefuseEngineConf(key, message string) error {
	return &FieldError{Field: SectionEngineConf + "." + key, Message: message}
}

// NotNegative refuses a number below 0, an infinite one, and none.
func NotNegative(key string, n float64) error {
	if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
		return RefuseEngineConf(key, fmt.Sprintf("is %g, but must be a number of at least 0", n))
	}
	return nil
}

// TakeSeconds takes a number of seconds of a config that must not be negative, where
// it is given.
func TakeSeconds(key string, given *float64, into *time.Duration) error {
	if given == nil {
		return nil
	}
	*into = Seconds(*given)
	return NotNegative(key, *given)
}

// Seconds is a number of seconds of a config as a duration; one too long for the
// type becomes the longest.
func Seconds(s float64) time.Duration { return seconds(s) }
