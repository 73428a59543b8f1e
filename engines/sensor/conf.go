package sensor

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// defaultCooldown is cooldown_period where it is not given, in seconds: two of the
// default sample periods, so that what was scaled shows in the samples first.
const defaultCooldown = 180

// noMaximum is the maximum of a config without one.
const noMaximum = math.MaxInt

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenSensing
	engines.GivenLaunch
	engines.GivenUnique
	Minimum   *int             `json:"minimum_vms"`
	Maximum   *int             `json:"maximum_vms"`
	Metric    *string          `json:"metric"`
	Above     *float64         `json:"scale_up_threshold"`
	Below     *float64         `json:"scale_down_threshold"`
	UpBy      *int             `json:"scale_up_n_vms"`
	DownBy    *int             `json:"scale_down_n_vms"`
	Cooldown  *float64         `json:"cooldown_period"`
	OnMissing *string          `json:"on_missing"`
	Retirable engines.NameList `json:"retirable_nodes"`
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	fleet        engines.Fleet // but for the wanted number
	minimum      int
	maximum      int // at least the minimum; noMaximum: there is none
	metric       engines.Metric
	above        *float64 // scale up above it; nil: never
	below        *float64 // scale down below it; nil: never
	upBy, downBy int      // at least 1
	cooldown     time.Duration
	sensing      engines.Sensing
}

// parse checks a config. With complete false, keys may be missing that it needs.
func parse(given json.RawMessage, complete bool) (c conf, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return c, err
	}
	if c.fleet.Launch, err = s.Launch(complete); err != nil {
		return c, err
	}
	if c.fleet.Unique, err = s.Unique(complete); err != nil {
		return c, err
	}
	if c.sensing, err = s.Sensing(); err != nil {
		return c, err
	}
	c.fleet.Retirable = s.Retirable
	if err := c.takeLimits(&s, complete); err != nil {
		return c, err
	}
	if err := c.takeSteps(&s); err != nil {
		return c, err
	}
	return c, c.takeMetric(&s, complete)
}

// takeLimits takes the least and the most instances.
func (c *conf) takeLimits(s *section, complete bool) error {
	c.maximum = noMaximum
	switch {
	case s.Minimum != nil:
		c.minimum = *s.Minimum
	case complete:
		return engines.RefuseEngineConf("minimum_vms", "is required: how many instances there are at least, an integer of 0 or more")
	}
	if s.Maximum != nil {
		c.maximum = *s.Maximum
	}
	switch {
	case c.minimum < 0:
		return engines.RefuseEngineConf("minimum_vms", fmt.Sprintf("is %d, but must be an integer of 0 or more", c.minimum))
	case c.maximum < c.minimum:
		return engines.RefuseEngineConf("maximum_vms", fmt.Sprintf("is %d, but must be an integer of at least minimum_vms, %d", c.maximum, c.minimum))
	}
	return nil
}

// takeSteps takes how far and how often it scales.
func (c *conf) takeSteps(s *section) error {
	c.upBy, c.downBy, c.cooldown = 1, 1, defaultCooldown*time.Second
	if s.UpBy != nil {
		c.upBy = *s.UpBy
	}
	if c.upBy < 1 {
		return engines.RefuseEngineConf("scale_up_n_vms",
			fmt.Sprintf("is %d, but must be an integer of 1 or more; to never scale up, leave out scale_up_threshold", c.upBy))
	}
	if s.DownBy != nil {
		c.downBy = *s.DownBy
	}
	if c.downBy < 0 {
		c.downBy = -max(c.downBy, -math.MaxInt) // the least integer has no absolute value
	}
	if c.downBy == 0 {
		return engines.RefuseEngineConf("scale_down_n_vms", "is 0, but must be another integer; to never scale down, leave out scale_down_threshold")
	}
	if s.Cooldown != nil {
		if err := engines.NotNegative("cooldown_period", *s.Cooldown); err != nil {
			return err
		}
		c.cooldown = engines.Seconds(*s.Cooldown)
	}
	return nil
}

// takeMetric takes what is compared with which thresholds.
func (c *conf) takeMetric(s *section, complete bool) error {
	onMissing := engines.OnMissingHold
	if s.OnMissing != nil {
		onMissing = *s.OnMissing
	}
	if !slices.Contains(engines.OnMissingAll, onMissing) {
		return engines.RefuseEngineConf("on_missing",
			fmt.Sprintf("is %q, but must be one of: %s", onMissing, strings.Join(engines.OnMissingAll, ", ")))
	}
	c.above, c.below = s.Above, s.Below
	if c.above != nil && c.below != nil && *c.below > *c.above {
		return engines.RefuseEngineConf("scale_down_threshold",
			fmt.Sprintf("is %g, but must be at most scale_up_threshold, %g: one average cannot be a reason for both", *c.below, *c.above))
	}
	if s.Metric == nil {
		if complete && (c.above != nil || c.below != nil) {
			return engines.RefuseEngineConf("metric", "is required with scale_up_threshold or scale_down_threshold: whose average is compared with them")
		}
		return nil
	}
	if err := events.CheckName(*s.Metric); err != nil {
		return engines.RefuseEngineConf("metric", "must be a name: "+err.Error())
	}
	c.metric = c.sensing.Metric(*s.Metric, onMissing)
	if complete && !c.metric.Instances && !c.metric.Domain {
		return engines.RefuseEngineConf("metric",
			fmt.Sprintf("is %q, which is not monitored: name it in monitor_sensors or monitor_domain_sensors", *s.Metric))
	}
	return nil
}

// scales reports whether there is anything to scale by.
func (c *conf) scales() bool { return c.above != nil || c.below != nil }

// clamp brings a number into the limits.
func (c *conf) clamp(n int) int { return min(max(n, c.minimum), c.maximum) }
