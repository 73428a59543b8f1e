package engines

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// defaultCooldown is cooldown_period where it is not given: two of the default
// sample periods, so that what was scaled shows in the samples first.
const defaultCooldown = 2 * defaultPeriod

// GivenThresholds are the keys of an engine_conf of an engine that scales by steps
// beyond a threshold, for its own struct to embed; nil: absent or null.
type GivenThresholds struct {
	GivenScaling
	Up       *float64 `json:"scale_up_threshold"`
	Down     *float64 `json:"scale_down_threshold"`
	UpBy     *int     `json:"scale_up_n_vms"`
	DownBy   *int     `json:"scale_down_n_vms"`
	Cooldown *float64 `json:"cooldown_period"`
}

// Thresholds says how a wanted number follows a metric.
type Thresholds struct {
	Scaling
	Up, Down     *float64      // nil: never that way; both nil: the minimum is wanted
	UpBy, DownBy int           // instances a step, at least 1
	Cooldown     time.Duration // between two steps
}

// Thresholds checks the keys and fills in the defaults. With complete false required
// keys may be missing. It fails with a *FieldError.
func (g *GivenThresholds) Thresholds(complete bool) (t Thresholds, err error) {
	if t.Scaling, err = g.Scaling(complete, "minimum_vms"); err != nil {
		return t, err
	}
	t.Up, t.Down, t.UpBy, t.DownBy, t.Cooldown = g.Up, g.Down, 1, 1, defaultCooldown
	if g.UpBy != nil {
		t.UpBy = *g.UpBy
	}
	if g.DownBy != nil {
		t.DownBy = *g.DownBy
	}
	if t.DownBy < 0 { // as the reference writes it
		t.DownBy = -max(t.DownBy, -math.MaxInt) // the least integer has no absolute value
	}
	switch {
	case t.Up != nil && t.Down != nil && *t.Down > *t.Up:
		return t, RefuseEngineConf("scale_down_threshold",
			fmt.Sprintf("is %g, but must be at most scale_up_threshold, %g: one average cannot be a reason for both", *t.Down, *t.Up))
	case t.UpBy < 1:
		return t, RefuseEngineConf("scale_up_n_vms",
			fmt.Sprintf("is %d, but must be an integer of 1 or more; to never scale up, leave out scale_up_threshold", t.UpBy))
	case t.DownBy == 0:
		return t, RefuseEngineConf("scale_down_n_vms", "is 0, but must be another integer; to never scale down, leave out scale_down_threshold")
	case complete && t.follows() && g.Metric == nil:
		return t, RefuseEngineConf("metric", "is required with scale_up_threshold or scale_down_threshold: whose average is compared with them")
	}
	return t, TakeSeconds("cooldown_period", g.Cooldown, &t.Cooldown)
}

// follows reports whether there is anything to scale by.
func (t *Thresholds) follows() bool { return cmp.Or(t.Up, t.Down) != nil }

// Stepped is what an engine with thresholds keeps in its memory of the number that
// it has come to. It changes only with the number.
type Stepped struct {
	Wanted int       `json:"wanted"`
	At     time.Time `json:"scaled_at,omitzero"` // of the last step; zero: none yet
}

// Followed is what became of a metric. Its JSON is what a decision record says that
// the engine saw.
type Followed struct {
	Measured  *Measured `json:"measured,omitempty"` // nil: there is no metric
	Up        *float64  `json:"scale_up_threshold,omitempty"`
	Down      *float64  `json:"scale_down_threshold,omitempty"`
	Minimum   int       `json:"minimum"`
	Maximum   *int      `json:"maximum,omitempty"`
	Healthy   int       `json:"healthy"`
	From      int       `json:"from"`                       // what was wanted before, within the limits
	Unclamped int       `json:"unclamped"`                  // what the metric asks for
	Wanted    int       `json:"wanted"`                     // that within the limits
	Cooldown  float64   `json:"cooldown_seconds,omitempty"` // that are left of it

	Kept   *Stepped `json:"-"` // what of it goes into the memory; nil: nothing
	Reason string   `json:"-"` // a clause
}

// Follow says what is wanted now, by what was kept before (nil: the first time, so
// what is there counts). It is within the limits always, and takes a step only where
// the cool-down is over.
func (t *Thresholds) Follow(v *View, last *Stepped) *Followed {
	f := &Followed{Up: t.Up, Down: t.Down, Minimum: t.Minimum, Healthy: v.Healthy()}
	if t.Maximum != Unlimited {
		f.Maximum = &t.Maximum
	}
	if t.Metric.Name != "" {
		m := v.Measure(t.Metric)
		f.Measured = &m
	}
	if !t.follows() {
		f.stay(t.Minimum)
		f.Reason = fmt.Sprintf("no threshold is given: keep the minimum of %d", t.Minimum)
		return f
	}
	f.Kept = &Stepped{Wanted: f.Healthy}
	if last != nil {
		*f.Kept = *last
	}
	f.Kept.Wanted = t.Clamp(f.Kept.Wanted)
	f.stay(f.Kept.Wanted)
	if until := after(f.Kept.At, t.Cooldown); v.Now.Before(until) {
		f.Cooldown = until.Sub(v.Now).Seconds()
		f.Reason = fmt.Sprintf("cool-down of the last scale action until %s: stay at %d", until.UTC().Format(time.DateTime), f.From)
		return f
	}
	t.step(f)
	if f.Wanted != f.From {
		f.Kept = &Stepped{Wanted: f.Wanted, At: v.Now.UTC()}
	}
	return f
}

func (f *Followed) stay(n int) { f.From, f.Unclamped, f.Wanted = n, n, n }

// step goes where the metric points to.
func (t *Thresholds) step(f *Followed) {
	m := f.Measured
	if m.FailsOut() {
		f.Reason = t.Lack(m) + " and on_missing is fail_out: " + t.grow(f)
		return
	}
	if m.Average == nil {
		f.Reason = fmt.Sprintf("%s: stay at %d", t.Lack(m), f.From)
		return
	}
	average := fmt.Sprintf("average %s %s of %d readings is ", m.Metric, Figure(*m.Average), m.Fresh)
	switch {
	case t.Up != nil && *m.Average > *t.Up:
		f.Reason = average + "above " + Figure(*t.Up) + ": " + t.grow(f)
	case t.Down != nil && *m.Average < *t.Down && !m.MayScaleIn():
		f.Reason = average + fmt.Sprintf("below %s, but %s: stay at %d", Figure(*t.Down), t.Lack(m), f.From)
	case t.Down != nil && *m.Average < *t.Down:
		f.Reason = average + "below " + Figure(*t.Down) + ": " + t.shrink(f)
	case t.Down == nil:
		f.Reason = average + fmt.Sprintf("not above %s: stay at %d", Figure(*t.Up), f.From)
	case t.Up == nil:
		f.Reason = average + fmt.Sprintf("not below %s: stay at %d", Figure(*t.Down), f.From)
	default:
		f.Reason = average + fmt.Sprintf("between %s and %s: stay at %d", Figure(*t.Down), Figure(*t.Up), f.From)
	}
}

// grow wants a step more than there is. What is wanted already and not there is a
// part of that step: where launches do not come through, the number does not run
// away.
func (t *Thresholds) grow(f *Followed) string {
	there := min(f.Healthy, f.From)
	f.Unclamped = there + min(t.UpBy, math.MaxInt-there)
	f.Wanted = max(f.From, t.Clamp(f.Unclamped))
	switch {
	case f.From == t.Maximum:
		return fmt.Sprintf("stay at the maximum of %d", f.From)
	case f.Wanted == f.From:
		return fmt.Sprintf("stay at %d, of which %d are to come", f.From, f.From-there)
	case f.Maximum == nil:
		return fmt.Sprintf("from %d to %d", f.From, f.Wanted)
	}
	return fmt.Sprintf("from %d to %d of at most %d", f.From, f.Wanted, t.Maximum)
}

// shrink wants a step less.
func (t *Thresholds) shrink(f *Followed) string {
	f.Unclamped = f.From - t.DownBy
	f.Wanted = t.Clamp(f.Unclamped)
	if f.Wanted == f.From {
		return fmt.Sprintf("stay at the minimum of %d", f.From)
	}
	return fmt.Sprintf("from %d to %d of at least %d", f.From, f.Wanted, t.Minimum)
}
