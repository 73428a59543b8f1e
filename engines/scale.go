package engines

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Defaults of the keys that say how a domain follows a metric.
const (
	defaultMaximum  = 100
	defaultCooldown = time.Minute
)

// Scaling says how a wanted number follows a metric.
type Scaling struct {
	Minimum, Maximum int
	Metric           Metric        // without a name Minimum is what is wanted
	Up, Down         *float64      // thresholds; nil: never that way
	UpBy, DownBy     int           // instances a step
	Cooldown         time.Duration // between two steps
}

// Scaled is what a scaling engine keeps in its memory of the number that it has
// come to. It changes only with the number.
type Scaled struct {
	Wanted int       `json:"wanted"`
	At     time.Time `json:"scaled_at,omitzero"` // of the last step; zero: none yet
}

// GivenScaling are the keys of an engine_conf that say how a domain follows a
// metric, for an engine's own struct to embed; nil: absent or null.
type GivenScaling struct {
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

// Scaling checks the keys, with what the config says of its metrics, and fills in
// the defaults. With complete false required keys may be missing. It fails with a
// *FieldError.
func (g *GivenScaling) Scaling(sensing Sensing, complete bool) (Scaling, error) {
	s := Scaling{Maximum: defaultMaximum, Up: g.Up, Down: g.Down, UpBy: 1, DownBy: 1, Cooldown: defaultCooldown}
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
		{"scale_down_n_vms", g.DownBy, 1, &s.DownBy},
	} {
		if f.given == nil {
			continue
		}
		if *f.into = *f.given; *f.given < f.least || *f.given > mostSize {
			return s, RefuseEngineConf(f.key, fmt.Sprintf("is %d, but must be an integer from %d to %d", *f.given, f.least, mostSize))
		}
	}
	if g.Maximum == nil {
		s.Maximum = max(s.Maximum, s.Minimum)
	}
	if s.Maximum < s.Minimum {
		return s, RefuseEngineConf("maximum_vms", fmt.Sprintf("is %d, but must not be below minimum_vms, which is %d", s.Maximum, s.Minimum))
	}
	if s.Up != nil && s.Down != nil && *s.Down >= *s.Up {
		return s, RefuseEngineConf("scale_down_threshold", fmt.Sprintf("is %g, but must be below scale_up_threshold, which is %g", *s.Down, *s.Up))
	}
	if g.Cooldown != nil {
		if err := NotNegative("cooldown_period", *g.Cooldown); err != nil {
			return s, err
		}
		s.Cooldown = Seconds(*g.Cooldown)
	}
	return s, g.metric(sensing, &s)
}

// metric fills in which metric counts, and how.
func (g *GivenScaling) metric(sensing Sensing, s *Scaling) error {
	onMissing := OnMissingHold
	if g.OnMissing != nil {
		if onMissing = *g.OnMissing; !slices.Contains(OnMissingAll, onMissing) {
			return RefuseEngineConf("on_missing", fmt.Sprintf("is %q, but must be one of: %q", onMissing, OnMissingAll))
		}
	}
	if g.Metric == nil {
		return nil
	}
	s.Metric = sensing.Metric(*g.Metric, onMissing)
	if !s.Metric.Domain && !s.Metric.Instances {
		return RefuseEngineConf("metric", fmt.Sprintf("is %q, but must be one of monitor_sensors or monitor_domain_sensors", *g.Metric))
	}
	return nil
}

// Want is the number that is wanted now, by what was wanted before (nil: the first
// time, so what is there counts) and what was measured; and why, as a clause. It is
// within the limits always, and takes a step only where the cool-down is over.
func (s *Scaling) Want(last *Scaled, there int, m *Measured, now time.Time) (Scaled, string) {
	if s.Metric.Name == "" {
		return Scaled{Wanted: s.Minimum}, fmt.Sprintf("minimum_vms is %d and no metric is given", s.Minimum)
	}
	next := Scaled{Wanted: there}
	if last != nil {
		next = *last
	}
	next.Wanted = s.clamp(next.Wanted)
	step, why := s.step(m)
	to := s.clamp(next.Wanted + step)
	switch {
	case step == 0:
		return next, fmt.Sprintf("%s: %d of at most %d are wanted", why, next.Wanted, s.Maximum)
	case to == next.Wanted && step > 0:
		return next, fmt.Sprintf("%s, but maximum_vms or the sites allow no more than %d", why, to)
	case to == next.Wanted:
		return next, fmt.Sprintf("%s, but minimum_vms allows no less than %d", why, to)
	case !next.At.IsZero() && now.Sub(next.At) < s.Cooldown:
		return next, fmt.Sprintf("%s, but the cool-down after the last step lasts until %s: %d of at most %d are wanted",
			why, next.At.Add(s.Cooldown).UTC().Format(time.TimeOnly), next.Wanted, s.Maximum)
	}
	why = fmt.Sprintf("%s: from %d to %d of at most %d", why, next.Wanted, to, s.Maximum)
	return Scaled{Wanted: to, At: now.UTC()}, why
}

// step is by how much what was measured changes the number, and why.
func (s *Scaling) step(m *Measured) (n int, why string) {
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
	return 0, average + " asks for no change"
}

func (s *Scaling) missing(m *Measured) string {
	if m.Missing == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d missing)", m.Missing)
}

func (s *Scaling) clamp(n int) int { return min(max(n, s.Minimum), s.Maximum) }

// figure writes a number so that it stays one figure of a reason, whatever it is.
func figure(f float64) string {
	const places = 1000
	if rounded := math.Round(f*places) / places; !math.IsInf(rounded, 0) {
		f = rounded
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
