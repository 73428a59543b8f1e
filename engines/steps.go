package engines

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// mostWhole bounds what is computed from readings and percentages.
const mostWhole = math.MaxInt32

// GivenScaling are the keys of an engine_conf of an engine that sizes its domain
// by one metric, for its own struct to embed; nil: absent or null.
type GivenScaling struct {
	GivenSensing
	GivenLaunch
	GivenUnique
	Metric    *string  `json:"metric"`
	OnMissing *string  `json:"on_missing"`
	Minimum   *int     `json:"minimum_vms"`
	Maximum   *int     `json:"maximum_vms"`
	Retirable NameList `json:"retirable_nodes"`
}

// Scaling is how an engine that sizes its domain by one metric does so.
type Scaling struct {
	Sensing   Sensing
	Metric    Metric
	Minimum   int
	Maximum   int
	Launch    Launch
	Unique    *Unique // nil: nothing sets the instances apart
	Retirable []string
}

// Scaling checks the keys and fills in the defaults. With complete false required
// ones may be missing. It fails with a *FieldError.
func (g *GivenScaling) Scaling(complete bool) (s Scaling, err error) {
	if s.Sensing, err = g.Sensing(); err != nil {
		return s, err
	}
	if s.Launch, err = g.Launch(complete); err != nil {
		return s, err
	}
	if s.Unique, err = g.Unique(complete); err != nil {
		return s, err
	}
	if s.Minimum, s.Maximum, err = g.bounds(complete); err != nil {
		return s, err
	}
	s.Retirable = g.Retirable
	onMissing := OnMissingHold
	if g.OnMissing != nil {
		if onMissing = *g.OnMissing; !slices.Contains(OnMissingAll, onMissing) {
			return s, RefuseEngineConf("on_missing", fmt.Sprintf("is %q, but must be one of: %s", onMissing, strings.Join(OnMissingAll, ", ")))
		}
	}
	if g.Metric != nil {
		if err := events.CheckName(*g.Metric); err != nil {
			return s, RefuseEngineConf("metric", "must be a name: "+err.Error())
		}
		s.Metric = s.Sensing.Metric(*g.Metric, onMissing)
	}
	switch {
	case !complete:
	case g.Metric == nil:
		return s, RefuseEngineConf("metric", "is required: the metric that sizes the domain")
	case g.SensorType == nil:
		return s, RefuseEngineConf("sensor_type", "is required: where the metric is read, one of: "+strings.Join(SensorTypes, ", "))
	case !s.Metric.Domain && !s.Metric.Instances:
		return s, RefuseEngineConf("metric", fmt.Sprintf("is %q, which is not read: name it in monitor_sensors or in monitor_domain_sensors", *g.Metric))
	}
	return s, nil
}

func (g *GivenScaling) bounds(complete bool) (least, most int, err error) {
	if g.Minimum != nil {
		if least = *g.Minimum; least < 0 {
			return 0, 0, RefuseEngineConf("minimum_vms", fmt.Sprintf("is %d, but must be an integer of at least 0", least))
		}
	}
	if g.Maximum == nil {
		if complete {
			return 0, 0, RefuseEngineConf("maximum_vms", "is required: how many instances there may be, an integer of at least minimum_vms")
		}
		return least, 0, nil
	}
	if most = *g.Maximum; most < least {
		return 0, 0, RefuseEngineConf("maximum_vms", fmt.Sprintf("is %d, but must be an integer of at least minimum_vms, which is %d", most, least))
	}
	return least, most, nil
}

// Clamp is the number of instances within the bounds that is closest to n.
func (s *Scaling) Clamp(n int) int { return min(max(n, s.Minimum), s.Maximum) }

// Fleet is so many of the domain's instances.
func (s *Scaling) Fleet(wanted int) Fleet {
	return Fleet{Wanted: wanted, Launch: s.Launch, Retirable: s.Retirable, Unique: s.Unique}
}

// Scaled is what a scaling engine remembers.
type Scaled struct {
	Wanted int       `json:"wanted"`
	OutAt  time.Time `json:"out_at,omitzero"` // when it last scaled out; zero: never
	InAt   time.Time `json:"in_at,omitzero"`  // when it last scaled in; zero: never
}

// OutFrom is when it may scale out: a cool-down after it last did.
func (s *Scaled) OutFrom(cooldown time.Duration) time.Time { return after(s.OutAt, cooldown) }

// InFrom is when it may scale in: a cool-down after its last change.
func (s *Scaled) InFrom(cooldown time.Duration) time.Time {
	if s.OutAt.After(s.InAt) {
		return after(s.OutAt, cooldown)
	}
	return after(s.InAt, cooldown)
}

func after(t time.Time, cooldown time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(cooldown)
}

// Amount is by how much a step changes a domain: a number of instances, or a part
// of those that are wanted.
type Amount struct {
	N       float64
	Percent bool
}

// ParseAmount reads an amount from a config: an integer of at least 1, or a string
// such as "50%"; nil where it is absent or null. It fails with a *FieldError.
func ParseAmount(key string, given json.RawMessage) (*Amount, error) {
	if len(given) == 0 || bytes.Equal(given, []byte("null")) {
		return nil, nil //nolint:nilnil // it is not given
	}
	var text string
	if json.Unmarshal(given, &text) == nil {
		if number, ok := strings.CutSuffix(text, "%"); ok {
			n, err := strconv.ParseFloat(number, 64)
			if err == nil && n > 0 && n <= mostWhole {
				return &Amount{N: n, Percent: true}, nil
			}
		}
	}
	var n int32
	if json.Unmarshal(given, &n) == nil && n >= 1 {
		return &Amount{N: float64(n)}, nil
	}
	return nil, RefuseEngineConf(key, `must be an integer of at least 1, or a percentage above 0 such as "50%"`)
}

// Of is the amount for so many wanted instances, at least 1; a part of an instance
// is rounded by a function such as math.Ceil.
func (a *Amount) Of(wanted int, round func(float64) float64) int {
	n := a.N
	if a.Percent {
		n = round(n * float64(wanted) / 100)
	}
	return int(max(1, min(n, mostWhole)))
}

// WholeInstances is the number of instances that do the work of n: n rounded up,
// apart from what the floating point adds; 0 where n is below.
func WholeInstances(n float64) int {
	const slack = 1e-9
	return int(max(0, min(math.Ceil(n*(1-slack)), mostWhole)))
}

// Figure is a number as a reason gives it: with two places, and the ends of zeros
// cut off.
func Figure(n float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(n, 'f', 2, 64), "0"), ".")
}

// MissingClause says how many readings are missing, as a clause for the end of a
// reason; "" where none is. Whose they are is in what a decision saw.
func (m *Measured) MissingClause() string {
	if m.Missing == 0 {
		return ""
	}
	clause := fmt.Sprintf("; %d of %d readings of %s are missing", m.Missing, m.Missing+m.Fresh, m.Metric)
	if m.Stale > 0 {
		clause += fmt.Sprintf(", %d of them too old", m.Stale)
	}
	return clause
}
