package passes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// spared are the unhealthy instances of a domain that have to wait for their
// replacement: only a part of a domain is replaced for health at a time, so
// that a fault of the monitoring cannot kill it; and where replacements are no
// better, ever more slowly.
type spared struct {
	ids      map[string]bool // nil: none
	most     int             // so many are replaced at a time
	size     int             // of the domain
	fraction float64
	until    time.Time // all of them wait until then, since replacements were no better; zero: they do not
	failed   int       // so many were not
}

func (s spared) reason() string {
	if !s.until.IsZero() {
		return fmt.Sprintf("; %d unhealthy wait until %s, since the last %d replacements were no better",
			len(s.ids), s.until.UTC().Format(time.TimeOnly), s.failed)
	}
	return fmt.Sprintf("; %d unhealthy wait, since at most %d of %d (max_unhealthy_fraction %g) are replaced for health at a time",
		len(s.ids), s.most, s.size, s.fraction)
}

// spare chooses the unhealthy instances that have to wait. What is being
// replaced already are the replacements that do not run yet, and those that
// failed to, as long as nothing has run since. So where no launch comes through,
// what is there stays, be it unhealthy.
func spare(l *look) (s spared) {
	var unhealthy []*events.Instance
	underWay := 0
	for _, i := range l.instances {
		switch {
		case !i.Valid():
			continue
		case i.Unhealthy():
			unhealthy = append(unhealthy, i)
		case i.Replacement && i.State < events.Running:
			underWay++
		}
		s.size++
	}
	if len(unhealthy) == 0 {
		return spared{}
	}
	general, err := engines.ParseGeneral(l.domain.Config.General)
	if err != nil { // no such config was ever accepted
		general, _ = engines.ParseGeneral(nil)
	}
	const rounding = 1e-9 // 0.7 of 10 are 7
	s.fraction = general.MaxUnhealthyFraction
	s.most = max(int(s.fraction*float64(s.size)+rounding), 1)
	room := max(s.most-underWay-failedReplacements(l.instances), 0)
	if s.until, s.failed = noBetter(l.instances); s.until.After(l.view.Now) {
		room = 0
	} else {
		s.until = time.Time{}
	}
	if room >= len(unhealthy) {
		return spared{}
	}
	slices.SortStableFunc(unhealthy, func(a, b *events.Instance) int { return cmp.Compare(urgency(a), urgency(b)) })
	s.ids = make(map[string]bool, len(unhealthy)-room)
	for _, i := range unhealthy[room:] {
		s.ids[i.ID] = true
	}
	return s
}

// failedReplacements counts those since an instance last reached RUNNING.
func failedReplacements(instances []*events.Instance) (n int) {
	var ran time.Time
	for _, i := range instances {
		ran = later(ran, i.RunningTime)
	}
	for _, i := range instances {
		if i.Replacement && i.FailedToRun() && i.StateTime.After(ran) {
			n++
		}
	}
	return n
}

// noBetter counts the replacements that had to be replaced for their health before
// they ever were RUNNING and OK, since an instance last was, and says when the next
// one may be: the launch back-off's delays (design §6) keep a check that can only
// fail from a hot loop. What failed in the cloud's own eyes does not count.
func noBetter(instances []*events.Instance) (until time.Time, n int) {
	var thrived, last time.Time
	for _, i := range instances {
		thrived = later(thrived, i.HealthyTime)
	}
	for _, i := range instances {
		if i.Replacement && i.Unwanted && i.HealthyTime.IsZero() && i.ErrorTime != nil && i.StateTime.After(thrived) {
			n++
			last = later(last, i.StateTime)
		}
	}
	if n == 0 {
		return time.Time{}, 0
	}
	return last.Add(delayOf(n)), n
}

// urgency orders unhealthy instances: the surer that one is lost, the sooner it
// is replaced.
func urgency(i *events.Instance) int {
	if i.State == events.RunningFailed {
		return 0
	}
	return 1 + slices.Index([]events.Health{events.HealthMissing, events.HealthProcessError, events.HealthMonitorError}, i.Health)
}

// replaced gives, of the instances that are to be terminated, the unhealthy ones
// in the order in which launches replace them.
func replaced(l *look, terminations []string) (ids []string) {
	for _, id := range terminations {
		n, ok := slices.BinarySearchFunc(l.instances, id, func(i *events.Instance, id string) int { return strings.Compare(i.ID, id) })
		if ok && l.instances[n].Unhealthy() {
			ids = append(ids, id)
		}
	}
	return ids
}
