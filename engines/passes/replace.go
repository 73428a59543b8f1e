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

// spared are the ill instances of a domain that have to wait for their
// replacement: only a part of a domain is replaced for health at a time, so
// that a fault of the monitoring cannot kill it; and where replacements are no
// better, ever more slowly.
type spared struct {
	ids      map[string]bool // nil: none
	room     int             // so many may be replaced now
	rest     bool            // what waits may go as soon as these are folded
	most     int             // so many are replaced at a time
	valid    int             // so many instances there are
	size     int             // of the domain, or what its engine wants where that is more
	fraction float64
	until    time.Time // all of them wait until then, since replacements were no better; zero: they do not
	failed   int       // so many were not
	retries  []string  // the replacements that failed and leave a place open
}

func (s *spared) reason() string {
	switch {
	case len(s.ids) == 0:
		return ""
	case !s.until.IsZero():
		return fmt.Sprintf("; %d unhealthy wait until %s, since the last %d replacements were no better",
			len(s.ids), s.until.UTC().Format(time.TimeOnly), s.failed)
	case s.rest:
		return fmt.Sprintf("; %d unhealthy wait for the next decision", len(s.ids))
	}
	return fmt.Sprintf("; %d unhealthy wait, since at most %d of %d (max_unhealthy_fraction %g) are replaced for health at a time",
		len(s.ids), s.most, s.size, s.fraction)
}

// ill reports whether the monitoring says that an instance is to be replaced. What
// its provisioner says has failed is gone in the cloud's own eyes: that is no matter
// of how far the monitoring can be trusted.
func ill(i *events.Instance) bool {
	return i.Valid() && i.Unhealthy() && i.State != events.RunningFailed
}

// spare chooses the ill instances that have to wait, where the engine wants so many
// instances (less than there are: it has not said). What is being replaced already
// are the replacements that do not run yet, and those that failed to, as long as
// their places are open. To replace one of those anew makes them no more.
func spare(l *look, target int) (s spared) {
	var sick []*events.Instance
	underWay, anew := 0, 0 // anew: those of them that are ill themselves
	failed := 0            // RUNNING_FAILED: they go, and leave their places open
	for _, i := range l.instances {
		if !i.Valid() {
			continue
		}
		s.valid++
		if isUnderWay(i) {
			underWay++
		}
		if i.State == events.RunningFailed {
			failed++
		}
		if ill(i) {
			sick = append(sick, i)
			if isUnderWay(i) {
				anew++
			}
		}
	}
	s.size = max(s.valid, target)
	s.retries = failedReplacements(l, s.size-s.valid+failed)
	if len(sick) == 0 {
		return s
	}
	const rounding = 1e-9 // 0.7 of 10 are 7
	s.fraction = l.general.MaxUnhealthyFraction
	s.most = max(int(s.fraction*float64(s.size)+rounding), 1)
	s.room = max(s.most-underWay-len(s.retries), 0) + anew
	if s.until, s.failed = noBetter(l.instances); s.until.After(l.view.Now) {
		s.room = 0
	} else {
		s.until = time.Time{}
	}
	if pairs := mostActions / 2; s.room > pairs && len(sick) > pairs {
		s.room, s.rest = pairs, true
	}
	if s.room >= len(sick) {
		return s
	}
	slices.SortStableFunc(sick, func(a, b *events.Instance) int { return cmp.Compare(urgency(a), urgency(b)) })
	s.ids = make(map[string]bool, len(sick)-s.room)
	for _, i := range sick[s.room:] {
		s.ids[i.ID] = true
	}
	return s
}

// failedReplacements are those that failed before they ran, up to as many as
// places are open. Within twice the longest delay each is tried again, which fills
// its place; what is not by then nobody wants any more.
func failedReplacements(l *look, open int) (ids []string) {
	for n := len(l.instances) - 1; n >= 0 && len(ids) < open; n-- { // the latest first
		i := l.instances[n]
		if i.Replacement && i.State >= events.RunningFailed && i.RunningTime.IsZero() && !i.Unwanted && l.view.Now.Sub(i.StateTime) < 2*engines.MostBackOff {
			ids = append(ids, i.ID)
		}
	}
	slices.Reverse(ids)
	return ids
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
	return last.Add(engines.BackOffDelay(n)), n
}

// isUnderWay reports whether an instance is a replacement that does not run yet.
func isUnderWay(i *events.Instance) bool { return i.Replacement && i.State < events.Running }

// urgency orders ill instances: first those whose replacement leaves as many under
// way as before; then, the surer that one is lost, the sooner it is replaced.
func urgency(i *events.Instance) int {
	if isUnderWay(i) {
		return -1
	}
	return slices.Index([]events.Health{events.HealthMissing, events.HealthProcessError, events.HealthMonitorError}, i.Health)
}

// propose asks the engine for a decision, with as many ill instances spared as its
// target calls for.
func propose(l *look, r *runner) (d engines.Decision, s spared, err error) {
	s = spare(l, 0)
	for range 2 { // once more where the engine wants so much more that it makes a difference
		l.view.Spared = s.ids
		if d, err = r.decide(l); err != nil || d.Target <= s.size {
			break
		}
		before := len(s.ids)
		if s = spare(l, d.Target); len(s.ids) == before {
			break
		}
	}
	return d, s, err
}

// actions are what a decision record has of what an engine asked for.
type actions struct {
	launches     []attemptedLaunch
	terminations []string
	replaces     []string // what the launches are for, in their order
	waiting      int      // ill instances that wait for the launches in their place
	cut          bool     // the rest goes into the next record
}

// admit takes of a decision what may go into one record, of its launches those that
// are due. An ill instance that is to be replaced is terminated only together with
// a launch, so that what holds back launches keeps what is there, be it ill. One
// that is not needed any more just goes.
func admit(l *look, s *spared, d *engines.Decision, due []attemptedLaunch) (a actions) {
	sick, others := partition(l, d.Terminations)
	open := max(d.Target-(s.valid-len(d.Terminations)), 0) // places to fill
	needed := min(len(sick), open)
	a.terminations = append(others, ids(sick[:len(sick)-needed])...)
	sick = sick[len(sick)-needed:]
	if len(a.terminations) > mostActions {
		a.terminations, a.cut = a.terminations[:mostActions], true
	}
	left := mostActions - len(a.terminations)
	most := min(needed, s.room, len(due))
	if most > left/2 {
		most, a.cut = left/2, true
	}
	sick, due = pair(sick, due, d.Launches, most)
	pairs := len(sick)
	a.waiting = needed - pairs
	a.terminations = append(a.terminations, ids(sick)...)
	a.launches = due[:min(len(due), pairs+max(len(d.Launches)-needed, 0))]
	if left -= pairs; len(a.launches) > left {
		a.launches, a.cut = a.launches[:left], true
	}
	// An engine sizes itself to the limit: one that used all of it has more to do.
	full := len(d.Launches)+len(d.Terminations) >= mostActions
	a.cut = (a.cut || full || s.rest) && len(a.launches)+len(a.terminations) > 0
	a.replaces = append(ids(sick), s.retries...)
	return a
}

// pair finds for ill instances, at most so many, the launches in their place, and
// gives those instances and the launches with theirs in front. An instance for whose
// site launches are asked is replaced there: those of another site are in the place
// of somebody else, also while its own are held back.
func pair(sick []*events.Instance, due []attemptedLaunch, asked []engines.Launch, most int) (replaced []*events.Instance, ordered []attemptedLaunch) {
	p := pairing{due: due, taken: make([]bool, len(due)), left: max(most, 0)}
	at, asks := map[string][]int{}, map[string]bool{} // by site: indexes of due; whether any launch is asked for there
	for n, launch := range due {
		at[launch.Site] = append(at[launch.Site], n)
	}
	for _, launch := range asked {
		asks[launch.Site] = true
	}
	for _, i := range sick {
		if own := at[i.Site]; len(own) > 0 {
			p.take(i, own[0])
			at[i.Site] = own[1:]
		}
	}
	for _, i := range sick {
		if !asks[i.Site] {
			p.take(i, slices.Index(p.taken, false))
		}
	}
	for n, launch := range due {
		if !p.taken[n] {
			p.ordered = append(p.ordered, launch)
		}
	}
	return p.replaced, p.ordered
}

// pairing is what pair has found so far.
type pairing struct {
	due      []attemptedLaunch
	taken    []bool // of due
	left     int    // so many more may be replaced
	replaced []*events.Instance
	ordered  []attemptedLaunch
}

// take replaces an instance by a launch; -1: there is none.
func (p *pairing) take(i *events.Instance, n int) {
	if n < 0 || p.left == 0 {
		return
	}
	p.left--
	p.taken[n] = true
	p.replaced, p.ordered = append(p.replaced, i), append(p.ordered, p.due[n])
}

// rehearse takes the actions away where nothing is to be done, and gives what they
// were; nil where there were none.
func (a *actions) rehearse(dry bool) *Rehearsal {
	if !dry || len(a.launches)+len(a.terminations) == 0 {
		return nil
	}
	tried := &Rehearsal{Terminations: a.terminations}
	for _, launch := range a.launches {
		tried.Launches = append(tried.Launches, launch.Launch)
	}
	*a = actions{waiting: a.waiting}
	return tried
}

// partition sorts out the ill among the instances that an engine wants to end, the
// surest losses first.
func partition(l *look, terminations []string) (sick []*events.Instance, others []string) {
	for _, id := range terminations {
		n, ok := slices.BinarySearchFunc(l.instances, id, func(i *events.Instance, id string) int { return strings.Compare(i.ID, id) })
		if ok && ill(l.instances[n]) {
			sick = append(sick, l.instances[n])
		} else {
			others = append(others, id)
		}
	}
	slices.SortStableFunc(sick, func(a, b *events.Instance) int { return cmp.Compare(urgency(a), urgency(b)) })
	return sick, others
}

func ids(instances []*events.Instance) []string {
	list := make([]string, len(instances))
	for n, i := range instances {
		list[n] = i.ID
	}
	return list
}
