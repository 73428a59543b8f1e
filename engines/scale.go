package engines

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// defaultCooldown is cooldown_period where it is not given: two of the default
// sample periods, so that what was scaled shows in the samples first.
const defaultCooldown = 2 * defaultPeriod

// Thresholds says how a wanted number follows a metric.
type Thresholds struct {
	Minimum, Maximum int           // Unlimited: no maximum
	Metric           Metric        // without a name, or thresholds, Minimum is what is wanted
	Up, Down         *float64      // thresholds; nil: never that way
	UpBy, DownBy     int           // instances a step, at least 1
	Cooldown         time.Duration // between two steps
}

// Stepped is what a scaling engine keeps in its memory of the number that it has
// come to. It changes only with the number.
type Stepped struct {
	Wanted int       `json:"wanted"`
	At     time.Time `json:"scaled_at,omitzero"` // of the last step; zero: none yet
}

// GivenThresholds are the keys of an engine_conf that say how a domain follows a
// metric, for an engine's own struct to embed; nil: absent or null.
type GivenThresholds struct {
	Metric    *string  `json:"metric"`
	Minimum   *int     `json:"minimum_vms"`
	Maximum   *int     `json:"maximum_vms"`
	Up        *float64 `json:"scale_up_threshold"`
	Down      *float64 `json:"scale_down_threshold"`
	UpBy      *int     `json:"scale_up_n_vms"`
	DownBy    *int     `json:"scale_down_n_vms"`
	Cooldown  *float64 `json:"cooldown_period"`
	OnMissing *string  `json:"on_missing"`
}

// Thresholds checks the keys, with what the config says of its metrics, and fills in
// the defaults. With complete false required keys may be missing. It fails with a
// *FieldError.
func (g *GivenThresholds) Thresholds(sensing Sensing, complete bool) (Thresholds, error) {
	s := Thresholds{Maximum: Unlimited, Up: g.Up, Down: g.Down, UpBy: 1, DownBy: 1, Cooldown: defaultCooldown}
	if g.Minimum == nil && complete {
		return s, RefuseEngineConf("minimum_vms", "is required: how many instances there are at least, an integer of 0 or more")
	}
	for _, f := range []struct {
		key   string
		given *int
		least int
		into  *int
	}{
		{"minimum_vms", g.Minimum, 0, &s.Minimum},
		{"maximum_vms", g.Maximum, 0, &s.Maximum},
		{"scale_up_n_vms", g.UpBy, 1, &s.UpBy},
		{"scale_down_n_vms", abs(g.DownBy), 1, &s.DownBy},
	} {
		if f.given == nil {
			continue
		}
		if *f.into = *f.given; *f.given < f.least || *f.given > mostSize {
			return s, RefuseEngineConf(f.key, fmt.Sprintf("is %d, but must be an integer from %d to %d", *f.given, f.least, mostSize))
		}
	}
	if s.Maximum < s.Minimum {
		return s, RefuseEngineConf("maximum_vms", fmt.Sprintf("is %d, but must not be below minimum_vms, which is %d", s.Maximum, s.Minimum))
	}
	if s.Up != nil && s.Down != nil && *s.Down > *s.Up {
		return s, RefuseEngineConf("scale_down_threshold",
			fmt.Sprintf("is %g, but must be at most scale_up_threshold, %g: one average cannot be a reason for both", *s.Down, *s.Up))
	}
	if g.Cooldown != nil {
		if err := NotNegative("cooldown_period", *g.Cooldown); err != nil {
			return s, err
		}
		s.Cooldown = Seconds(*g.Cooldown)
	}
	return s, g.metric(sensing, &s, complete)
}

// abs is a number without its sign, which the reference's scale_down_n_vms has.
func abs(n *int) *int {
	if n == nil || *n >= 0 {
		return n
	}
	positive := -max(*n, -math.MaxInt) // the least integer has no absolute value
	return &positive
}

// metric fills in which metric counts, and how.
func (g *GivenThresholds) metric(sensing Sensing, s *Thresholds, complete bool) error {
	onMissing := OnMissingHold
	if g.OnMissing != nil {
		if onMissing = *g.OnMissing; !slices.Contains(OnMissingAll, onMissing) {
			return RefuseEngineConf("on_missing", fmt.Sprintf("is %q, but must be one of: %q", onMissing, OnMissingAll))
		}
	}
	if g.Metric == nil {
		if complete && s.follows() {
			return RefuseEngineConf("metric", "is required with scale_up_threshold or scale_down_threshold: whose average is compared with them")
		}
		return nil
	}
	if err := events.CheckName(*g.Metric); err != nil {
		return RefuseEngineConf("metric", "must be a name: "+err.Error())
	}
	s.Metric = sensing.Metric(*g.Metric, onMissing)
	if complete && !s.Metric.Domain && !s.Metric.Instances {
		return RefuseEngineConf("metric",
			fmt.Sprintf("is %q, which is not monitored: name it in monitor_sensors or monitor_domain_sensors", *g.Metric))
	}
	return nil
}

// follows reports whether there is anything to scale by.
func (s *Thresholds) follows() bool { return s.Up != nil || s.Down != nil }

// Want is the number that is wanted now, by what was wanted before (nil: the first
// time, so what is there counts), how many are there and what was measured; what of
// it goes into the memory (nil: nothing); and why, as a clause. It is within the
// limits always, and takes a step only where the cool-down is over. A step up is
// from what is there: where launches do not come through, the number does not run
// away.
func (s *Thresholds) Want(last *Stepped, there int, m *Measured, now time.Time) (wanted int, kept *Stepped, why string) {
	if !s.follows() {
		return s.Minimum, nil, fmt.Sprintf("minimum_vms is %d, and there is no threshold to scale by", s.Minimum)
	}
	next := &Stepped{Wanted: there}
	if last != nil {
		*next = *last
	}
	next.Wanted = s.clamp(next.Wanted)
	step, why := s.step(m)
	to := s.clamp(next.Wanted + step)
	if step > 0 {
		to = max(next.Wanted, s.clamp(min(there, next.Wanted)+step))
	}
	until := next.At.Add(s.Cooldown)
	switch {
	case step == 0:
		why += fmt.Sprintf(": stay at %d", to)
	case to == next.Wanted && to == s.Maximum && step > 0:
		why += fmt.Sprintf(", but %d are the most", to)
	case to == next.Wanted && step > 0:
		why += fmt.Sprintf(": stay at %d, of which %d are to come", to, to-there)
	case to == next.Wanted:
		why += fmt.Sprintf(", but %d are the least", to)
	case !next.At.IsZero() && now.Before(until):
		to = next.Wanted
		why += fmt.Sprintf(", but the cool-down lasts until %s: stay at %d", until.UTC().Format(time.TimeOnly), to)
	default:
		why += fmt.Sprintf(": from %d to %d", next.Wanted, to)
		if s.Maximum != Unlimited {
			why += fmt.Sprintf(" of at most %d", s.Maximum)
		}
		next.Wanted, next.At = to, now.UTC()
	}
	return to, next, why
}

// step is by how much what was measured changes the number, and why.
func (s *Thresholds) step(m *Measured) (n int, why string) {
	if m.FailsOut() {
		return s.UpBy, "too little is known of " + m.Metric + s.missing(m) + ", which by on_missing means more instances"
	}
	if m.Average == nil {
		return 0, "nothing is known of " + m.Metric + s.missing(m)
	}
	average := fmt.Sprintf("average %s %s of %d readings", m.Metric, figure(*m.Average), m.Fresh) + s.missing(m)
	switch {
	case s.Up != nil && *m.Average > *s.Up:
		return s.UpBy, average + " is above " + figure(*s.Up)
	case s.Down != nil && *m.Average < *s.Down && !m.MayScaleIn():
		return 0, average + " is below " + figure(*s.Down) + ", but too many are missing to go by that"
	case s.Down != nil && *m.Average < *s.Down:
		return -s.DownBy, average + " is below " + figure(*s.Down)
	}
	return 0, average + " is no reason to scale"
}

func (s *Thresholds) missing(m *Measured) string {
	if m.Missing == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d missing)", m.Missing)
}

func (s *Thresholds) clamp(n int) int { return min(max(n, s.Minimum), s.Maximum) }

// figure writes a number so that it stays one figure of a reason, whatever it is.
func figure(f float64) string {
	const places = 1000
	if rounded := math.Round(f*places) / places; !math.IsInf(rounded, 0) {
		f = rounded
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
