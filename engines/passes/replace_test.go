package passes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// TestSpare: at most max_unhealthy_fraction of a domain is replaced for health at
// a time. Instances are one word each: r runs, p is pending, M is missing, E has a
// process error, e has one before it runs, F is RUNNING_FAILED, t terminates; a + marks a replacement, x a
// replacement that failed before it ran, o one that did long ago.
func TestSpare(t *testing.T) {
	for _, tt := range []struct {
		name      string
		general   string
		instances string
		target    int
		spared    string // indexes
	}{
		{"all well", ``, "r r r r", 4, ""},
		{"one of one", ``, "M", 1, ""},
		{"one of three", ``, "M r r", 3, ""},
		{"half", ``, "M M r r", 4, ""},
		{"more than half", ``, "M M M r", 4, "2"},
		{"all: the surest losses first", ``, "E M M M", 4, "0 3"},
		{"what the provisioner says has failed never waits", ``, "F F F F", 4, ""},
		{"nor takes it the place of others", ``, "F M F M M", 5, "4"},
		{"rounded down", ``, "M M M", 3, "1 2"},
		{"replacements are under way", ``, "M M p+ p+", 4, "0 1"},
		{"one of them runs", ``, "M M p+ r+", 4, "1"},
		{"ordinary launches do not count", ``, "M M p p", 4, ""},
		{"nor what terminates", ``, "M M r r t t t t", 4, ""},
		{"what is wanted counts", ``, "M M M", 6, ""},
		{"a replacement failed", ``, "M M r r x", 5, "1"},
		{"both did", ``, "M M r r x x", 6, "1"},
		{"both did, and one is tried again", ``, "M M r p+ x x", 5, "0 1"},
		{"nobody wants it any more", ``, "M M r r x", 4, ""},
		{"nobody has tried it again", ``, "M M r r o", 5, ""},
		{"one ill, and one failed", ``, "r E x", 2, ""},
		{"a replacement is ill itself", ``, "r M+ M+ r", 4, ""},
		{"replacements are ill before they run", ``, "M M r r e+ e+ e+", 7, "0 1"},
		{"one of them is", ``, "M M M r r r e+ p+", 8, "2"},
		{"one at a time", `{"max_unhealthy_fraction":0}`, "M M M r", 4, "1 2"},
		{"all at once", `{"max_unhealthy_fraction":1}`, "M M M M", 4, ""},
		{"a fraction", `{"max_unhealthy_fraction":0.7}`, "M M M M M M M M M M", 10, "7 8 9"},
	} {
		l := lookAt(tt.general, tt.instances)
		s := spare(l, tt.target)
		var got []string
		for _, id := range slices.Sorted(maps.Keys(s.ids)) {
			got = append(got, strings.TrimPrefix(id, "i"))
		}
		if diff := cmp.Diff(tt.spared, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if len(got) > 0 && !strings.Contains(s.reason(), fmt.Sprintf("%d unhealthy wait", len(got))) {
			t.Errorf("%s: the reason is %q", tt.name, s.reason())
		}
	}
}

func lookAt(general, instances string) *look {
	parsed, err := engines.ParseGeneral(json.RawMessage(general))
	if err != nil {
		panic(err)
	}
	l := &look{domain: &events.Domain{}, general: &parsed}
	for n, word := range strings.Fields(instances) {
		l.instances = append(l.instances, instanceOf(n, word))
	}
	l.view.Now = at(100)
	return l
}

// TestAdmit: what is ill and is to be replaced goes only together with a launch.
func TestAdmit(t *testing.T) {
	many := func(word string, n int) string { return strings.Repeat(word+" ", n) }
	for _, tt := range []struct {
		name       string
		instances  string
		target     int
		ends       int // the first so many instances
		launches   int
		due        int // of them
		terminated int
		launched   int
		waiting    int
		cut        bool
	}{
		{"one of four", "M r r r", 4, 1, 1, 1, 1, 1, 0, false},
		{"in a back-off", "M M r r", 4, 2, 2, 0, 0, 0, 2, false},
		{"one site is in a back-off", "M M r r", 4, 2, 2, 1, 1, 1, 1, false},
		{"others are missing, too", "M M r r", 9, 2, 7, 7, 2, 7, 0, false},
		{"the engine takes all, though most are to be spared", "M M M M", 4, 4, 4, 4, 2, 2, 2, false},
		{"shrinks", "M M r r", 2, 2, 0, 0, 2, 0, 0, false},
		{"shrinks, in a back-off", "M M M r r", 3, 3, 1, 0, 2, 0, 1, false},
		{"to nothing", "M M M M", 0, 4, 0, 0, 4, 0, 0, false},
		{"failed: gone anyway, in a back-off", "F F M r", 4, 3, 3, 0, 2, 0, 1, false},
		{"well: as the engine likes", "r r r", 3, 2, 2, 0, 2, 0, 0, false},
		{"more than a record takes", many("M", 2200), 2200, 499, 499, 499, 499, 499, 0, true},
		{"an engine that leaves no room for launches", many("M", 2200), 2200, 998, 998, 998, 499, 499, 499, true},
		{"more launches than a record takes", "M r r r", 2000, 1, 1997, 1997, 1, 997, 0, true},
		{"more terminations than a record takes", many("r", 1500) + "M", 0, 1501, 0, 0, 998, 0, 0, true},
		{"a full record of which nothing is due", many("M", 2200), 2200, 499, 499, 0, 0, 0, 499, false},
	} {
		l := lookAt("", tt.instances)
		slices.SortFunc(l.instances, func(a, b *events.Instance) int { return strings.Compare(a.ID, b.ID) })
		d := engines.Decision{Target: tt.target, Launches: make([]engines.Launch, tt.launches), Terminations: ids(l.instances[:tt.ends])}
		s := spare(l, d.Target)
		a := admit(l, &s, &d, make([]attemptedLaunch, tt.due))
		if len(a.terminations) != tt.terminated || len(a.launches) != tt.launched || a.waiting != tt.waiting || a.cut != tt.cut {
			t.Errorf("%s: %d terminated, %d launched, %d wait, cut %v; want %d, %d, %d, %v", tt.name,
				len(a.terminations), len(a.launches), a.waiting, a.cut, tt.terminated, tt.launched, tt.waiting, tt.cut)
		}
	}
}

// TestSpare_NoBetter: replacements that are as ill as what they replace come ever
// more slowly, until one is well.
func TestSpare_NoBetter(t *testing.T) {
	ill := func(n, replaced, healthy int) *events.Instance {
		i := instanceOf(n, "t+")
		i.Unwanted, i.StateTime, i.ErrorTime = true, at(replaced), &began
		if healthy >= 0 {
			i.HealthyTime = at(healthy)
		}
		return i
	}
	const never = -1
	for _, tt := range []struct {
		name   string
		before []*events.Instance
		now    int
		until  int // 0: nothing waits
	}{
		{"the first one", nil, 10, 0},
		{"a second one", []*events.Instance{ill(1, 10, never)}, 10, 11},
		{"a second one, in time", []*events.Instance{ill(1, 10, never)}, 11, 0},
		{"a fourth one", []*events.Instance{ill(1, 10, never), ill(2, 12, never), ill(3, 15, never)}, 16, 19},
		{"the tenth one", slices.Repeat([]*events.Instance{ill(1, 10, never)}, 9), 16, 70},
		{"one was well for a while", []*events.Instance{ill(1, 10, never), ill(2, 12, 11)}, 12, 0},
	} {
		l := &look{domain: &events.Domain{}, general: &engines.General{MaxUnhealthyFraction: 0.5}, instances: append(tt.before, instanceOf(90, "E"), instanceOf(91, "r"))}
		l.view.Now = at(tt.now)
		s := spare(l, 0)
		if waits := len(s.ids) > 0; waits != (tt.until > 0) || waits && !s.until.Equal(at(tt.until)) {
			t.Errorf("%s: %v wait until %s, want %d", tt.name, s.ids, s.until, tt.until)
		}
		if len(s.ids) > 0 && !strings.Contains(s.reason(), "replacements were no better") {
			t.Errorf("%s: the reason is %q", tt.name, s.reason())
		}
	}
}

func instanceOf(n int, word string) *events.Instance {
	i := &events.Instance{
		ID: fmt.Sprint("i", n), State: events.Running, Health: events.HealthOK, StateTime: at(n), RunningTime: at(1),
		Replacement: strings.HasSuffix(word, "+"),
	}
	switch word[0] {
	case 'M':
		i.Health = events.HealthMissing
	case 'E':
		i.Health = events.HealthProcessError
	case 'e':
		i.State, i.Health, i.RunningTime = events.Started, events.HealthProcessError, time.Time{}
	case 'F':
		i.State = events.RunningFailed
	case 'p':
		i.State, i.RunningTime = events.Pending, time.Time{}
	case 't':
		i.State = events.Terminating
	case 'x', 'o':
		i.State, i.Replacement, i.RunningTime = events.Failed, true, time.Time{}
		if word[0] == 'o' {
			i.StateTime = at(100 - 120)
		}
	}
	return i
}
