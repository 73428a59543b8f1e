package engines_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

func TestView_KeepVictims(t *testing.T) {
	const starting = string(events.Started)
	instances := fleet(running+" MISSING", running, running+" OUT_OF_CONTACT", pending, running, starting+" OUT_OF_CONTACT", running, ending, broken)
	spared := map[string]bool{"i00": true} // i08 is replaced at once
	for _, tt := range []struct {
		name      string
		policy    string
		retirable []string
		want      []string // all that count, in the order in which they go
	}{
		{"by default", engines.PolicyDefault, nil, []string{"i00", "i05", "i03", "i06", "i04", "i02", "i01"}},
		{"newest", engines.PolicyNewest, nil, []string{"i06", "i05", "i04", "i03", "i02", "i01", "i00"}},
		{"oldest", engines.PolicyOldest, nil, []string{"i00", "i01", "i02", "i03", "i04", "i05", "i06"}},
		{"unhealthy first", engines.PolicyUnhealthyFirst, nil, []string{"i00", "i05", "i02", "i03", "i06", "i04", "i01"}},
		{
			"retirable by default", engines.PolicyDefault,
			[]string{"i01", "nobody", "i03", "i07", "i08", "i01"},
			[]string{"i03", "i01", "i00", "i05", "i06", "i04", "i02"},
		},
		{"retirable, newest", engines.PolicyNewest, []string{"i01", "i02"}, []string{"i02", "i01", "i06", "i05", "i04", "i03", "i00"}},
		{"retirable, oldest", engines.PolicyOldest, []string{"i05", "i04"}, []string{"i04", "i05", "i00", "i01", "i02", "i03", "i06"}},
		{"retirable, unhealthy first", engines.PolicyUnhealthyFirst, []string{"i01"}, []string{"i01", "i00", "i05", "i02", "i03", "i06", "i04"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &engines.View{Instances: instances, Spared: spared, Policy: tt.policy, MaxActions: 100}
			before := slices.Clone(instances)
			for wanted := range len(tt.want) {
				d := v.Keep(engines.Fleet{Wanted: wanted, Retirable: tt.retirable})
				victims := append([]string{"i08"}, tt.want[:len(tt.want)-wanted]...)
				if diff := cmp.Diff(victims, d.Terminations); diff != "" || len(d.Launches) > 0 {
					t.Errorf("%d wanted: %s", wanted, diff)
				}
			}
			if !slices.Equal(before, instances) {
				t.Error("changed the view's instances")
			}
		})
	}
}

func TestView_KeepRetirable(t *testing.T) {
	v := &engines.View{Instances: fleet(running, running), MaxActions: 100}
	for wanted, launches := range map[int]int{2: 0, 3: 1} {
		if d := v.Keep(engines.Fleet{Wanted: wanted, Retirable: []string{"i00", "i01"}}); len(d.Terminations) > 0 || len(d.Launches) != launches {
			t.Errorf("%d wanted: %d launches, terminates %q, but what is retirable stays while it is needed", wanted, len(d.Launches), d.Terminations)
		}
	}
}

func TestView_KeepUnique(t *testing.T) {
	of := func(value string) string { return running + ` UNKNOWN {"slot":"` + value + `"}` }
	abc := []string{"a", "b", "c"}
	for _, tt := range []struct {
		name      string
		instances []*events.Instance
		wanted    int
		values    []string
		spared    map[string]bool
		most      int
		launches  []string // the values
		reason    string
	}{
		{"in their order", nil, 2, []string{"z", "a", "m"}, nil, 100, []string{"z", "a"}, "launch 2"},
		{"what is taken is not given again", fleet(of("b")), 3, abc, nil, 100, []string{"a", "c"}, "launch 2"},
		{"a replacement takes over", fleet(of("a"), running+` MISSING {"slot":"b"}`, of("c")), 3, abc, nil, 100, []string{"b"}, "launch 1; terminate 1 unhealthy"},
		{"of one that goes", fleet(of("a"), ending+` UNKNOWN {"slot":"b"}`), 2, abc, nil, 100, []string{"b"}, "launch 1"},
		{"not of one that waits", fleet(running + ` MISSING {"slot":"a"}`), 2, abc, map[string]bool{"i00": true}, 100, []string{"b"}, "launch 1"},
		{
			"out of values", fleet(of("a"), of("b")), 6, abc, nil, 100,
			[]string{"c"},
			`2 of 6 wanted instances are there: launch 1; 3 more wait, since all 3 values of "slot" are taken`,
		},
		{
			"none left", fleet(of("a"), of("b"), of("c")), 4, abc, nil, 100, nil,
			`3 of 4 wanted instances are there: launch 0; 1 more wait, since all 3 values of "slot" are taken`,
		},
		{"the limit is no lack of values", fleet(of("a")), 3, abc, nil, 1, []string{"b"}, "1 of 3 wanted instances are there: launch 1"},
		{"one unhealthy too many to be terminated now keeps its value", fleet(broken+` UNKNOWN {"slot":"a"}`, broken+` UNKNOWN {"slot":"b"}`), 2, abc, nil, 1, nil, "terminate 1 unhealthy"},
		{
			"who has no such value takes none", fleet(running, of("other"), running+` UNKNOWN {"slot":1}`, running+` UNKNOWN {"port":"a"}`, running+` UNKNOWN []`), 6,
			abc, nil, 100,
			[]string{"a"},
			"launch 1",
		},
		{"a value among other variables", fleet(running + ` UNKNOWN { "x": {"slot":"b"}, "slot" : "\u0061" }`), 2, abc, nil, 100, []string{"b"}, "launch 1"},
		{"a value that JSON escapes", fleet(running + ` UNKNOWN {"slot":"<a&\u00e9>"}`), 2, []string{"<a&é>", `"`}, nil, 100, []string{`"`}, "launch 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &engines.View{Instances: tt.instances, Spared: tt.spared, MaxActions: tt.most}
			d := v.Keep(engines.Fleet{
				Wanted: tt.wanted, Launch: engines.Launch{Site: "s", ExtraVars: json.RawMessage(`{"x":1}`)},
				Unique: &engines.Unique{Key: "slot", Values: tt.values},
			})
			var values []string
			for _, launch := range d.Launches {
				var vars struct {
					X    int    `json:"x"`
					Slot string `json:"slot"`
				}
				if err := json.Unmarshal(launch.ExtraVars, &vars); err != nil || vars.X != 1 || launch.Site != "s" {
					t.Errorf("%+v, %v", launch, err)
				}
				values = append(values, vars.Slot)
			}
			if diff := cmp.Diff(tt.launches, values); diff != "" {
				t.Error(diff)
			}
			if !strings.HasSuffix(d.Reason, tt.reason) || d.State != events.EnginePending {
				t.Errorf("%s, %q; want %q", d.State, d.Reason, tt.reason)
			}
		})
	}
}

func TestView_At(t *testing.T) {
	instances := fleet(running, running, broken, running)
	instances[0].Site, instances[2].Site, instances[3].Site = "a", "a", "b"
	v := &engines.View{Instances: instances, MaxActions: 50, Policy: engines.PolicyOldest, Seed: 7}
	part := v.At("a", 5)
	if diff := cmp.Diff([]*events.Instance{instances[0], instances[2]}, part.Instances); diff != "" || part.MaxActions != 5 || part.Policy != v.Policy || part.Seed != 7 {
		t.Errorf("%+v, %s", part, diff)
	}
	if v.Healthy() != 3 || part.Healthy() != 1 || v.At("c", 5).Healthy() != 0 || len(v.Instances) != 4 || v.MaxActions != 50 {
		t.Errorf("%d healthy, %d at the site", v.Healthy(), part.Healthy())
	}
}

// TestView_KeepProperties: whatever there is, a decision keeps to its limit and
// comes to rest at what is wanted, with each value held once.
func TestView_KeepProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := []string{"a", "b", "c", "d", "e"}
		f := engines.Fleet{Wanted: rapid.IntRange(0, 8).Draw(t, "wanted"), Unique: &engines.Unique{Key: "slot", Values: values}}
		v := &engines.View{MaxActions: rapid.IntRange(1, 6).Draw(t, "most"), Policy: rapid.SampledFrom(append(engines.Policies, "")).Draw(t, "policy")}
		healths := []events.Health{events.HealthUnknown, events.HealthOK, events.HealthOutOfContact, events.HealthMissing}
		for round := 0; ; round++ {
			d := v.Keep(f)
			actions := len(d.Launches) + len(d.Terminations)
			if actions > v.MaxActions {
				t.Fatalf("%d actions, at most %d are allowed", actions, v.MaxActions)
			}
			if round > 100 {
				t.Fatal("does not come to rest")
			}
			if round > 20 && actions == 0 {
				break
			}
			for _, i := range v.Instances {
				if slices.Contains(d.Terminations, i.ID) {
					i.State = events.Terminating
				}
			}
			for _, launch := range d.Launches {
				v.Instances = append(v.Instances, &events.Instance{ID: fmt.Sprintf("i%03d", len(v.Instances)), State: events.Requesting, ExtraVars: launch.ExtraVars})
			}
			if round < 20 && len(v.Instances) > 0 {
				i := rapid.SampledFrom(v.Instances).Draw(t, "instance")
				i.State = max(i.State, rapid.SampledFrom(events.InstanceStates).Draw(t, "state"))
				i.Health = rapid.SampledFrom(healths).Draw(t, "health")
			}
		}
		held := map[string]int{}
		for _, i := range v.Instances {
			if i.Valid() {
				held[string(i.ExtraVars)]++
			}
		}
		if got, want := len(held), min(f.Wanted, len(values)); got != want || v.Healthy() != want {
			t.Fatalf("came to rest with %d values, %d healthy instances, want %d", got, v.Healthy(), want)
		}
	})
}

func BenchmarkView_Keep(b *testing.B) {
	const size = 1000
	u := &engines.Unique{Key: "slot"}
	v := &engines.View{MaxActions: 998}
	for n := range size {
		u.Values = append(u.Values, fmt.Sprintf("v%04d", n))
		v.Instances = append(v.Instances, &events.Instance{
			ID: fmt.Sprintf("i%04d", n), State: events.Running, Health: events.HealthOK, ExtraVars: json.RawMessage(`{"slot":"` + u.Values[n] + `"}`),
		})
	}
	for name, f := range map[string]engines.Fleet{
		"rest":          {Wanted: size, Unique: u},
		"surplus":       {Wanted: size - 10},
		"out of values": {Wanted: size + 10, Unique: u},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Keep(f)
			}
		})
	}
}
