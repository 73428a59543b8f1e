// Package step is the engine that answers a metric beyond a threshold in steps:
// the further it is beyond, the more instances come or go, as with AWS step
// scaling.
package step

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed step.md
var doc string

// defaultCooldown is cooldown_out and cooldown_in where they are not given.
const defaultCooldown = 300 * time.Second

// mostSteps bounds how many steps there are in each direction.
const mostSteps = 32

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenFleet
	engines.GivenScaling
	ThresholdOut *float64  `json:"threshold_out"`
	StepsOut     []stepOut `json:"steps_out"`
	ThresholdIn  *float64  `json:"threshold_in"`
	StepsIn      []stepIn  `json:"steps_in"`
	CooldownOut  *float64  `json:"cooldown_out"`
	CooldownIn   *float64  `json:"cooldown_in"`
}

type stepOut struct {
	From *float64        `json:"from"`
	Add  json.RawMessage `json:"add"`
}

type stepIn struct {
	From   *float64        `json:"from"`
	Remove json.RawMessage `json:"remove"`
}

// conf is engine_conf with the defaults filled in.
type conf struct {
	engines.Scaling
	fleet       engines.Fleet // but for the wanted number
	out, in     side
	cooldownOut time.Duration
	cooldownIn  time.Duration
}

// side is what is done beyond a threshold.
type side struct {
	threshold float64
	steps     []step // the closest first; nil: nothing is done
}

type step struct {
	from   float64 // distance from the threshold, at least 0
	amount *engines.Amount
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name: "step",
		Doc:  doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{conf: c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
		Sensing: func(given json.RawMessage) engines.Sensing {
			c, _ := parse(given, true) // which Validate has accepted
			return c.Sensing
		},
	}
}

func parse(given json.RawMessage, complete bool) (conf, error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return conf{}, err
	}
	c := conf{cooldownOut: defaultCooldown, cooldownIn: defaultCooldown}
	var err error
	if c.fleet, err = s.Fleet(complete); err != nil {
		return conf{}, err
	}
	if c.Scaling, err = s.Scaling(complete, "maximum_vms", "metric", "sensor_type"); err != nil {
		return conf{}, err
	}
	var out, in []givenStep
	for _, one := range s.StepsOut {
		out = append(out, givenStep{one.From, "add", one.Add})
	}
	for _, one := range s.StepsIn {
		in = append(in, givenStep{one.From, "remove", one.Remove})
	}
	if c.out, err = parseSide("threshold_out", s.ThresholdOut, "steps_out", out, complete); err != nil {
		return conf{}, err
	}
	if c.in, err = parseSide("threshold_in", s.ThresholdIn, "steps_in", in, complete); err != nil {
		return conf{}, err
	}
	return c, cmp.Or(
		c.check(&s, complete),
		engines.TakeSeconds("cooldown_out", s.CooldownOut, &c.cooldownOut),
		engines.TakeSeconds("cooldown_in", s.CooldownIn, &c.cooldownIn),
	)
}

// check is what concerns both sides.
func (c *conf) check(s *section, complete bool) error {
	switch {
	case s.ThresholdOut != nil && s.ThresholdIn != nil && c.in.threshold >= c.out.threshold:
		return engines.RefuseEngineConf("threshold_in", fmt.Sprintf("is %g, but must be below threshold_out, which is %g", c.in.threshold, c.out.threshold))
	case !complete:
	case c.out.steps == nil && c.in.steps == nil:
		return engines.RefuseEngineConf("threshold_out", "is required with steps_out, or else threshold_in with steps_in: nothing would ever be done")
	case c.out.steps == nil && c.Metric.OnMissing == engines.OnMissingOut:
		return engines.RefuseEngineConf("on_missing", fmt.Sprintf("is %q, which takes the first of steps_out, but there are none", engines.OnMissingOut))
	}
	return nil
}

// givenStep is a step of either side.
type givenStep struct {
	from   *float64
	key    string // of the amount
	amount json.RawMessage
}

// parseSide checks a threshold and its steps, which go together.
func parseSide(thresholdKey string, threshold *float64, stepsKey string, steps []givenStep, complete bool) (side, error) {
	var s side
	switch {
	case complete && threshold == nil && len(steps) > 0:
		return s, engines.RefuseEngineConf(thresholdKey, "is required with "+stepsKey)
	case complete && threshold != nil && len(steps) == 0:
		return s, engines.RefuseEngineConf(stepsKey, "is required with "+thresholdKey+": a list of at least one step")
	case len(steps) > mostSteps:
		return s, engines.RefuseEngineConf(stepsKey, fmt.Sprintf("has %d steps, at most %d are allowed", len(steps), mostSteps))
	}
	if threshold != nil {
		s.threshold = *threshold
	}
	for n, given := range steps {
		key := fmt.Sprintf("%s.%d.", stepsKey, n)
		one, err := given.parse(key)
		if err != nil {
			return s, err
		}
		if n > 0 && one.from <= s.steps[n-1].from {
			return s, engines.RefuseEngineConf(key+"from", fmt.Sprintf(
				"is %g and overlaps the step before, which begins at %g; sort the steps, each beginning further from the threshold", one.from, s.steps[n-1].from))
		}
		s.steps = append(s.steps, one)
	}
	return s, nil
}

// parse checks a step, key being where it stands, with a dot behind.
func (given *givenStep) parse(key string) (step, error) {
	if given.from == nil {
		return step{}, engines.RefuseEngineConf(key+"from", "is required: how far beyond the threshold the step begins, a number of at least 0")
	}
	if err := engines.NotNegative(key+"from", *given.from); err != nil {
		return step{}, err
	}
	amount, err := engines.ParseAmount(key+given.key, given.amount)
	if err == nil && amount == nil {
		err = engines.RefuseEngineConf(key+given.key, `is required: an integer of at least 1, or a percentage above 0 such as "50%"`)
	}
	return step{*given.from, amount}, err
}

// at is the step for a value so far beyond the threshold; nil: none.
func (s *side) at(distance float64) *step {
	for n := len(s.steps) - 1; n >= 0; n-- {
		if distance >= s.steps[n].from {
			return &s.steps[n]
		}
	}
	return nil
}
