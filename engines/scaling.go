package engines

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-524e47bf/epum/events"
)

// Unlimited is a maximum, or the size of a site, that there is none of.
const Unlimited = math.MaxInt

// GivenScaling are the keys of an engine_conf of an engine that sizes its domain by
// a metric, for its own struct to embed; nil: absent or null.
type GivenScaling struct {
	GivenSensing
	Metric    *string `json:"metric"`
	OnMissing *string `json:"on_missing"`
	Minimum   *int    `json:"minimum_vms"`
	Maximum   *int    `json:"maximum_vms"`
}

// Scaling is by what an engine sizes its domain, and within which limits.
type Scaling struct {
	Sensing Sensing
	Metric  Metric // without a name: not given
	Minimum int
	Maximum int // at least the minimum; Unlimited: there is none
}

// Scaling checks the keys and fills in the defaults. With complete false the
// required ones, which each engine names, may be missing. It fails with a
// *FieldError.
func (g *GivenScaling) Scaling(complete bool, required ...string) (s Scaling, err error) {
	if s.Sensing, err = g.Sensing(); err != nil {
		return s, err
	}
	for _, f := range []struct {
		key    string
		absent bool
		what   string
	}{
		{"minimum_vms", g.Minimum == nil, "how many instances there are at least, an integer of 0 or more"},
		{"maximum_vms", g.Maximum == nil, "how many instances there are at most, an integer of at least minimum_vms"},
		{"metric", g.Metric == nil, "the metric that sizes the domain"},
		{"sensor_type", g.SensorType == nil, "where the metric is read, one of: " + strings.Join(SensorTypes, ", ")},
	} {
		if complete && f.absent && slices.Contains(required, f.key) {
			return s, RefuseEngineConf(f.key, "is required: "+f.what)
		}
	}
	s.Maximum = Unlimited
	if g.Minimum != nil {
		s.Minimum = *g.Minimum
	}
	if g.Maximum != nil {
		s.Maximum = *g.Maximum
	}
	switch {
	case s.Minimum < 0:
		return s, RefuseEngineConf("minimum_vms", fmt.Sprintf("is %d, but must be an integer of 0 or more", s.Minimum))
	case s.Maximum < s.Minimum:
		return s, RefuseEngineConf("maximum_vms", fmt.Sprintf("is %d, but must be an integer of at least minimum_vms, which is %d", s.Maximum, s.Minimum))
	}
	s.Metric, err = g.metric(&s.Sensing, complete)
	return s, err
}

// metric says which metric counts, and how.
func (g *GivenScaling) metric(sensing *Sensing, complete bool) (m Metric, err error) {
	onMissing := OnMissingHold
	if g.OnMissing != nil {
		if onMissing = *g.OnMissing; !slices.Contains(OnMissingAll, onMissing) {
			return m, RefuseEngineConf("on_missing", fmt.Sprintf("is %q, but must be one of: %s", onMissing, strings.Join(OnMissingAll, ", ")))
		}
	}
	if g.Metric == nil {
		return m, nil
	}
	if err := events.CheckName(*g.Metric); err != nil {
		return m, RefuseEngineConf("metric", "must be a name: "+err.Error())
	}
	m = sensing.Metric(*g.Metric, onMissing)
	if complete && !m.Domain && !m.Instances {
		return m, RefuseEngineConf("metric", fmt.Sprintf("is %q, which is not monitored: name it in monitor_sensors or monitor_domain_sensors", m.Name))
	}
	return m, nil
}

// Clamp is the number of instances within the limits that is closest to n.
func (s *Scaling) Clamp(n int) int { return min(max(n, s.Minimum), s.Maximum) }

// Lack says what is missing, in figures: the record names some of them.
func (s *Scaling) Lack(m *Measured) string {
	ofDomain := len(m.Absent) > 0 && m.Absent[0] == OfDomain
	switch {
	case s.Sensing.Source == "" && m.Fresh == 0:
		return "nothing reads " + m.Metric + ", since sensor_type is not given"
	case m.Missing == 0:
		return "no instance runs yet whose " + m.Metric + " could be read"
	case ofDomain && m.Missing == 1:
		return "no fresh " + m.Metric + " of the domain is known"
	case ofDomain:
		return fmt.Sprintf("no fresh %s of the domain and of %d of %d running instances is known", m.Metric, m.Missing-1, m.Running)
	}
	return fmt.Sprintf("no fresh %s of %d of %d running instances is known", m.Metric, m.Missing, m.Running)
}

// Recall is what the last decision kept; nil: nothing, or what no version of this
// engine has kept.
func Recall[M any](v *View) *M {
	kept := new(M)
	if len(v.Memory) == 0 || json.Unmarshal(v.Memory, kept) != nil {
		return nil
	}
	return kept
}

// Size keeps the wanted number of a fleet, whatever its metric says of it, with why
// it is wanted, what is to be remembered (nil: nothing) and what was seen.
func (v *View) Size(f Fleet, wanted int, reason string, memory, saw any) (Decision, error) {
	f.Wanted = wanted
	d := v.Keep(f)
	d.Reason = reason + "; " + d.Reason
	var err error
	if d.Memory, err = json.Marshal(memory); err != nil {
		return d, fmt.Errorf("encode the memory: %w", err)
	}
	if string(d.Memory) == "null" {
		d.Memory = nil
	}
	if d.Saw, err = json.Marshal(saw); err != nil {
		return d, fmt.Errorf("encode what was seen: %w", err)
	}
	return d, nil
}

// Figure is a number as a reason gives it: to three places, or three digits of a
// small one; without an exponent, so that it is one figure whatever it is.
func Figure(n float64) string {
	const small, digits, places = 0.1, 3, 1000
	switch rounded := math.Round(n*places) / places; {
	case math.Abs(n) < small:
		n, _ = strconv.ParseFloat(strconv.FormatFloat(n, 'g', digits, 64), 64)
	case !math.IsInf(rounded, 0):
		n = rounded
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}
