package engines

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-524e47bf/epum/events"
)

// Fleet is a number of instances that an engine keeps, and what they are like.
type Fleet struct {
	Wanted    int
	Launch    Launch   // what one more instance is like
	Retirable []string // ids of instances that go first where there are too many; nil: none
	Unique    *Unique  // what each instance has for itself; nil: nothing
}

// Keep decides what makes the instances of a view the wanted number: what is
// unhealthy is terminated, what is missing launched, and what is too much
// terminated, the victims by the domain's termination policy. The engine states
// its own reason before the one that is given.
func (v *View) Keep(f Fleet) Decision {
	d := Decision{Target: f.Wanted, State: events.EnginePending}
	healthy, running := 0, 0
	for _, i := range v.Instances {
		switch {
		case !i.Valid():
		case v.Unhealthy(i):
			d.Terminations = append(d.Terminations, i.ID)
		default:
			healthy++
			if i.State == events.Running && !i.Unhealthy() {
				running++
			}
		}
	}
	unhealthy := len(d.Terminations)
	d.Terminations = d.Terminations[:min(unhealthy, v.MaxActions)]
	room := v.MaxActions - len(d.Terminations)
	switch {
	case healthy < f.Wanted:
		missing := min(f.Wanted-healthy, room)
		d.Launches = v.launches(f, missing)
		d.Reason = fmt.Sprintf("%d of %d wanted instances are there: launch %d", healthy, f.Wanted, len(d.Launches))
		if short := missing - len(d.Launches); short > 0 {
			d.Reason += fmt.Sprintf("; %d more wait, since all %d values of %q are taken", short, len(f.Unique.Values), f.Unique.Key)
		}
	case healthy > f.Wanted:
		surplus := min(healthy-f.Wanted, room)
		d.Terminations = append(d.Terminations, v.victims(surplus, f.Retirable)...)
		d.Reason = fmt.Sprintf("%d instances are there and %d are wanted: terminate %d", healthy, f.Wanted, surplus)
	case running < f.Wanted:
		d.Reason = fmt.Sprintf("all %d wanted instances are there, %d of them running", f.Wanted, running)
	case f.Wanted == 0:
		d.State = events.EngineStable
		d.Reason = "no instance is wanted, and none is left"
	default:
		d.State = events.EngineStable
		d.Reason = fmt.Sprintf("all %d wanted instances are running", f.Wanted)
	}
	if unhealthy > 0 {
		d.State = events.EnginePending
		d.Reason += fmt.Sprintf("; terminate %d unhealthy", min(unhealthy, v.MaxActions))
	}
	return d
}

// Healthy counts the instances that an engine may reckon with: valid ones that
// are not to be replaced now.
func (v *View) Healthy() (n int) {
	for _, i := range v.Instances {
		if i.Valid() && !v.Unhealthy(i) {
			n++
		}
	}
	return n
}

func (v *View) launches(f Fleet, n int) []Launch {
	if f.Unique == nil {
		return slices.Repeat([]Launch{f.Launch}, n)
	}
	var launches []Launch
	for _, value := range f.Unique.free(v, n) {
		one := f.Launch
		one.ExtraVars = f.Unique.lay(one.ExtraVars, value)
		launches = append(launches, one)
	}
	return launches
}

// The termination policies (general.termination_policy): which of too many
// instances go first, after the retirable ones.
const (
	PolicyDefault        = ""                // unhealthy ones that wait for a replacement, then those that do not run yet, then the newest
	PolicyNewest         = "newest"          // whatever their state
	PolicyOldest         = "oldest"          // whatever their state
	PolicyUnhealthyFirst = "unhealthy-first" // unhealthy ones and those out of contact, then as by default
)

// Policies are those that a config may name.
var Policies = []string{PolicyNewest, PolicyOldest, PolicyUnhealthyFirst}

// victims chooses n instances to terminate that need not be replaced. Instances are
// sorted by id, so the oldest one comes first.
func (v *View) victims(n int, retirable []string) []string {
	type candidate struct {
		id    string
		class int // the lower ones go first
	}
	retire := make(map[string]bool, len(retirable))
	for _, id := range retirable {
		retire[id] = true
	}
	candidates := make([]candidate, 0, len(v.Instances))
	for _, i := range v.Instances {
		if !i.Valid() || v.Unhealthy(i) {
			continue
		}
		c := candidate{id: i.ID}
		if v.Policy != PolicyOldest && v.Policy != PolicyNewest {
			c.class = v.worth(i)
		}
		if retire[i.ID] {
			c.class -= mostWorth + 1
		}
		candidates = append(candidates, c)
	}
	if v.Policy != PolicyOldest {
		slices.Reverse(candidates)
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return a.class - b.class })
	ids := make([]string, n)
	for i := range ids {
		ids[i] = candidates[i].id
	}
	return ids
}

// mostWorth is the most that worth gives.
const mostWorth = 3

// worth orders what may be terminated.
func (v *View) worth(i *events.Instance) int {
	switch {
	case i.Unhealthy():
		return 0
	case v.Policy == PolicyUnhealthyFirst && i.Health == events.HealthOutOfContact:
		return 1
	case i.State < events.Running:
		return 2
	}
	return mostWorth
}

// Unique is a launch variable of which each live instance has a value of its own;
// a replacement takes over the freed one.
type Unique struct {
	Key    string
	Values []string // in the order in which they are taken
}

// free gives up to n values that no instance has which stays.
func (u *Unique) free(v *View, n int) []string {
	place := make(map[string]int, len(u.Values)) // value → its place among them
	for n, value := range u.Values {
		place[value] = n
	}
	taken := make([]bool, len(u.Values))
	alone, _ := json.Marshal(map[string]string{u.Key: ""})
	alone = alone[:len(alone)-len(`"}`)]
	for _, i := range v.Instances {
		if i.Valid() && !v.Unhealthy(i) {
			if n, ok := place[string(u.held(i.ExtraVars, alone))]; ok {
				taken[n] = true
			}
		}
	}
	var free []string
	for at, value := range u.Values {
		if len(free) < n && !taken[at] {
			free = append(free, value)
		}
	}
	return free
}

// held reads the value that variables have; nil: none. Where it is alone among
// them, as it mostly is, they are what alone begins with and need no parsing: a
// domain out of values looks at all of its instances each time.
func (u *Unique) held(vars json.RawMessage, alone []byte) []byte {
	if rest, found := bytes.CutPrefix(vars, alone); found {
		plain, found := bytes.CutSuffix(rest, []byte(`"}`))
		if found && bytes.IndexByte(plain, '"') < 0 && bytes.IndexByte(plain, '\\') < 0 {
			return plain
		}
	}
	var all map[string]json.RawMessage
	var value string
	if json.Unmarshal(vars, &all) != nil || json.Unmarshal(all[u.Key], &value) != nil {
		return nil
	}
	return []byte(value)
}

// lay puts a value into a launch's variables.
func (u *Unique) lay(vars json.RawMessage, value string) json.RawMessage {
	all := map[string]json.RawMessage{}
	if len(vars) > 0 {
		_ = json.Unmarshal(vars, &all) // an object, as every engine gives
	}
	all[u.Key], _ = json.Marshal(value)
	laid, _ := json.Marshal(all)
	return laid
}
