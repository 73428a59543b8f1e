package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Leading is what is known of a leader.
type Leading int

// The ways in which there is a leader.
const (
	LeaderUnknown Leading = iota // it was not asked: the explanation is of the past
	LeaderNone                   // nobody leads
	LeaderSilent                 // somebody does, and did not answer
	LeaderThere                  // it has answered
)

// Failure is an engine that failed.
type Failure struct {
	Time  time.Time `json:"time"` // of the last time, UTC
	Error string    `json:"error"`
}

// Present is what is known beside the log.
type Present struct {
	AsOf    projections.AsOf
	Now     time.Time // the time as of which it is explained, UTC
	Leading Leading
	Failure *Failure          // of the domain's engine, since it last decided; nil: none
	Sensing engines.Sensing   // what is to be measured
	Samples *sensors.Snapshot // what was last read; nil: nothing, or not of that time
}

// domainNow says what the domain does, or why it does nothing.
func (s *Story) domainNow(p *Present) (acting bool, sentence string) {
	d := s.Domain()
	if d == nil {
		if s.gone.seq > 0 {
			return false, fmt.Sprintf("the domain is gone since %s (event %d)", clock(s.gone.time), s.gone.seq)
		}
		return false, "there is no such domain"
	}
	instances := s.state.Instances(s.domain)
	underWay := waits(instances)
	acting = len(underWay) > 0
	clauses := []string{"nothing is under way"}
	if acting {
		clauses = []string{"it waits for " + strings.Join(underWay, " and for ")}
	}
	if d.Removed {
		left := 0
		for _, i := range instances {
			if !i.State.Terminal() {
				left++
			}
		}
		acting = true
		clauses = append([]string{fmt.Sprintf("the domain is removed and drains, with %d instances left", left)}, clauses...)
	} else {
		clauses = append(clauses, s.held(p, d, instances)...)
	}
	clauses = append(clauses, p.troubles()...)
	return acting, strings.Join(append(clauses, s.verdict(d)), "; ")
}

// held says what keeps a domain from being as its engine wants it.
func (s *Story) held(p *Present, d *events.Domain, instances []*events.Instance) (clauses []string) {
	if general, err := engines.ParseGeneral(d.Config.General); err == nil && general.DryRun {
		clauses = append(clauses, "general.dry_run is true, so nothing that is decided is done")
	}
	var saw json.RawMessage
	if s.decision.made.DomainSeq == d.AddedSeq { // else it was of another domain of the name
		saw = s.decision.made.Saw
	}
	valid, unhealthy := 0, 0
	sites := map[string]bool{}
	for _, i := range instances {
		if i.Valid() {
			valid++
			if i.Unhealthy() {
				unhealthy++
			}
		}
		if i.FailedToRun() {
			sites[i.Site] = true
		}
	}
	if record := seen(saw); record.Target != nil && *record.Target > valid || unhealthy > 0 {
		for _, site := range slices.Sorted(maps.Keys(sites)) {
			if until, attempt := engines.BackOff(instances, site); until.After(p.Now) {
				clauses = append(clauses, fmt.Sprintf("launches at site %s wait for attempt %d until %s, since launches failed there", site, attempt, clock(until)))
			}
		}
	}
	if unhealthy > 0 {
		clauses = append(clauses, fmt.Sprintf("%d unhealthy instances are not replaced yet", unhealthy))
	}
	return append(clauses, missing(saw)...)
}

// waits says what the domain waits for; nil: nothing is under way.
func waits(instances []*events.Instance) (all []string) {
	launches, terminations := map[events.InstanceState]int{}, 0
	var launched, ended time.Time
	for _, i := range instances {
		switch {
		case i.State < events.Running:
			launches[i.State]++
			launched = earlier(launched, i.StateTime)
		case i.State == events.Terminating:
			terminations++
			ended = earlier(ended, i.StateTime)
		}
	}
	if len(launches) > 0 {
		n, states := 0, []string{}
		for _, state := range events.InstanceStates {
			if launches[state] > 0 {
				n += launches[state]
				states = append(states, fmt.Sprintf("%d %s", launches[state], state))
			}
		}
		all = append(all, fmt.Sprintf("%d launches to run (%s, the longest since %s)", n, strings.Join(states, ", "), clock(launched)))
	}
	if terminations > 0 {
		all = append(all, fmt.Sprintf("%d instances to terminate (the longest since %s)", terminations, clock(ended)))
	}
	return all
}

// troubles says what keeps the leader from deciding, or from knowing.
func (p *Present) troubles() (clauses []string) {
	switch p.Leading {
	case LeaderNone:
		clauses = append(clauses, "nobody leads, so nothing is decided")
	case LeaderSilent:
		clauses = append(clauses, "the leader did not answer, so whether its engine fails is not known")
	case LeaderUnknown, LeaderThere:
	}
	if p.Failure != nil {
		clauses = append(clauses, fmt.Sprintf("its engine failed last at %s (%s) and is tried again with each pass", clock(p.Failure.Time), clip(p.Failure.Error)))
	}
	if p.Sensing.Source == "" || p.Leading == LeaderUnknown {
		return clauses
	}
	switch {
	case p.Samples == nil:
		clauses = append(clauses, fmt.Sprintf("nothing was read of its metrics yet (sensor_type %s)", p.Sensing.Source))
	case len(p.Samples.Failed) > 0:
		clauses = append(clauses, fmt.Sprintf("the reading of %s at %s failed, wholly or in part", strings.Join(p.Samples.Failed, ", "), clock(p.Samples.Time)))
	}
	return clauses
}

// verdict is what the last decision says, and what has come since.
func (s *Story) verdict(d *events.Domain) string {
	last := &s.decision
	if last.made.DomainSeq != d.AddedSeq {
		return fmt.Sprintf("no decision is on record since it was added (event %d)", d.AddedSeq)
	}
	verdict := fmt.Sprintf("the last decision on record (%s, event %d) says: %s", clock(last.time), last.seq, clip(last.made.Reason))
	if d.ConfigSeq > last.made.InputSeq {
		verdict += fmt.Sprintf("; nothing else is on record since the config of event %d", d.ConfigSeq)
	}
	return verdict
}

// instanceNow says what the instance does, or why nothing is done with it.
func (s *Story) instanceNow(p *Present) (acting bool, sentence string) {
	i := s.state.Instance(s.instance)
	if i == nil {
		return false, "its record is gone; it had ended before"
	}
	since := fmt.Sprintf("%s since %s", i.State, clock(i.StateTime))
	asked := "; its provisioner is asked again and again until it answers"
	var clauses []string
	switch {
	case i.State == events.Requesting:
		acting, clauses = true, []string{"it is " + since + asked}
	case i.State < events.Running:
		acting, clauses = true, []string{"it is " + since + "; its provisioner has yet to say that it runs"}
	case i.State == events.Terminating:
		acting, clauses = true, []string{"it is " + since + asked}
	case i.Health == events.HealthZombie:
		acting, clauses = true, []string{"it is " + since + ", and still sends heartbeats" + asked}
	case i.State.Terminal():
		clauses = []string{fmt.Sprintf("it ended, %s; its record stays until the reaper takes it", since)}
	case i.Unhealthy():
		clauses = []string{fmt.Sprintf("it is %s, is unhealthy (health %s) and is not replaced yet", since, i.Health)}
	default:
		clauses = []string{fmt.Sprintf("it is %s, health %s: nothing is to be done", since, i.Health)}
	}
	if acting || i.State.Terminal() {
		return acting, clauses[0]
	}
	clauses = append(clauses, p.troubles()...)
	if d := s.Domain(); d != nil && i.Unhealthy() {
		clauses = append(clauses, s.verdict(d))
	}
	return acting, strings.Join(clauses, "; ")
}

// clock is a time in a sentence.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
