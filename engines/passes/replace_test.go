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

	"github.com/seed-524e47bf/epum/events"
)

// TestSpare: at most max_unhealthy_fraction of a domain is replaced for health at
// a time (issue 3). Instances are one word each: r runs, p is pending, M is
// missing, E has a process error, F is RUNNING_FAILED, t terminates; a + marks a
// replacement, x a replacement that failed before it ran.
func TestSpare(t *testing.T) {
	for _, tt := range []struct {
		name      string
		general   string
		instances string
		spared    string // indexes
	}{
		{"all well", ``, "r r r r", ""},
		{"one of one", ``, "M", ""},
		{"one of three", ``, "M r r", ""},
		{"half", ``, "M M r r", ""},
		{"more than half", ``, "M M M r", "2"},
		{"all: the surest losses first", ``, "E M F M", "0 3"},
		{"rounded down", ``, "M M M", "1 2"},
		{"replacements are under way", ``, "M M p+ p+", "0 1"},
		{"one of them runs", ``, "M M p+ r+", "1"},
		{"ordinary launches do not count", ``, "M M p p", ""},
		{"nor what terminates", ``, "M M r r t t t t", ""},
		{"a replacement failed", ``, "M M r r x", "1"},
		{"both did", ``, "M M r r x x", "0 1"},
		{"a replacement is ill itself", ``, "r M+ M+ r", ""},
		{"one at a time", `{"max_unhealthy_fraction":0}`, "M M M r", "1 2"},
		{"all at once", `{"max_unhealthy_fraction":1}`, "M M M M", ""},
		{"a fraction", `{"max_unhealthy_fraction":0.7}`, "M M M M M M M M M M", "7 8 9"},
	} {
		l := &look{domain: &events.Domain{Config: events.Config{General: json.RawMessage(tt.general)}}}
		for n, word := range strings.Fields(tt.instances) {
			l.instances = append(l.instances, instanceOf(n, word))
		}
		s := spare(l)
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
		l := &look{domain: &events.Domain{}, instances: append(tt.before, instanceOf(90, "E"), instanceOf(91, "r"))}
		l.view.Now = at(tt.now)
		s := spare(l)
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
	case 'F':
		i.State = events.RunningFailed
	case 'p':
		i.State, i.RunningTime = events.Pending, time.Time{}
	case 't':
		i.State = events.Terminating
	case 'x':
		i.State, i.Replacement, i.RunningTime = events.Failed, true, time.Time{}
	}
	return i
}
