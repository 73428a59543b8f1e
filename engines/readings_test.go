package engines_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fleet makes instances of "<state>", "<state> <health>" or "<state> <health>
// <extravars>", with ids i00, i01, …
func fleet(specs ...string) []*events.Instance {
	var instances []*events.Instance
	for n, spec := range specs {
		parts := append(strings.SplitN(spec, " ", 3), "", "")
		i := &events.Instance{ID: fmt.Sprintf("i%02d", n), State: events.InstanceState(parts[0]), Health: events.HealthUnknown}
		if parts[1] != "" {
			i.Health = events.Health(parts[1])
		}
		if parts[2] != "" {
			i.ExtraVars = json.RawMessage(parts[2])
		}
		if !i.State.Known() {
			panic(spec)
		}
		instances = append(instances, i)
	}
	return instances
}

const (
	requesting = string(events.Requesting)
	pending    = string(events.Pending)
	running    = string(events.Running)
	broken     = string(events.RunningFailed)
	ending     = string(events.Terminating)
)

func TestView_Measure(t *testing.T) {
	const fresh = 3 * time.Minute
	at := func(value float64, age time.Duration) engines.Reading {
		return engines.Reading{Value: value, Time: noon.Add(-age)}
	}
	three := fleet(running, running, running)
	average := func(a float64) *float64 { return &a }
	both := engines.Metric{Domain: true, Instances: true}
	own, each := engines.Metric{Domain: true}, engines.Metric{Instances: true}
	for _, tt := range []struct {
		name      string
		metric    engines.Metric
		onMissing string
		instances []*events.Instance
		readings  map[string]engines.Reading
		want      engines.Measured
		scaleIn   bool
		failsOut  bool
	}{
		{
			name: "all fresh", metric: each, instances: three,
			readings: map[string]engines.Reading{"i00": at(1, 0), "i01": at(2, time.Minute), "i02": at(6, time.Second)},
			want:     engines.Measured{Average: average(3), Fresh: 3, Running: 3, OldestSeconds: 60}, scaleIn: true,
		},
		{
			name: "the boundary of stale", metric: each, instances: fleet(running, running),
			readings: map[string]engines.Reading{"i00": at(1, fresh), "i01": at(2, fresh+1)},
			want: engines.Measured{
				Average: average(1), Fresh: 1, Running: 2, Missing: 1, Stale: 1, Absent: []string{"i01"}, OldestSeconds: 180, OnMissing: "hold",
			},
			scaleIn: true,
		},
		{
			name: "no number", metric: each, instances: three,
			readings: map[string]engines.Reading{"i00": at(math.NaN(), 0), "i01": at(math.Inf(1), 0), "i02": at(math.Inf(-1), 0)},
			want:     engines.Measured{Running: 3, Missing: 3, Absent: []string{"i00", "i01", "i02"}, OnMissing: "hold"},
		},
		{
			name: "nothing read", metric: both, instances: fleet(running),
			want: engines.Measured{Running: 1, Missing: 2, Absent: []string{"-", "i00"}, OnMissing: "hold"},
		},
		{
			name: "zero is a number, and one of the future fresh", metric: each, instances: fleet(running, running),
			readings: map[string]engines.Reading{"i00": at(0, 0), "i01": at(0, -time.Hour)},
			want:     engines.Measured{Average: average(0), Fresh: 2, Running: 2}, scaleIn: true,
		},
		{
			name: "half is enough", metric: each, onMissing: "fail_out", instances: fleet(running, running, running, running),
			readings: map[string]engines.Reading{"i01": at(1, 0), "i03": at(2, 0)},
			want:     engines.Measured{Average: average(1.5), Fresh: 2, Running: 4, Missing: 2, Absent: []string{"i00", "i02"}, OnMissing: "fail_out"},
			scaleIn:  true,
		},
		{
			name: "less than half is not", metric: each, instances: three, readings: map[string]engines.Reading{"i01": at(1, 0)},
			want: engines.Measured{Average: average(1), Fresh: 1, Running: 3, Missing: 2, Absent: []string{"i00", "i02"}, OnMissing: "hold"},
		},
		{
			name: "less than half, ignored", metric: each, onMissing: "ignore_instance", instances: three,
			readings: map[string]engines.Reading{"i01": at(1, 0)},
			want: engines.Measured{
				Average: average(1), Fresh: 1, Running: 3, Missing: 2, Absent: []string{"i00", "i02"}, OnMissing: "ignore_instance",
			},
			scaleIn: true,
		},
		{
			name: "nothing cannot be ignored", metric: each, onMissing: "ignore_instance", instances: three,
			want: engines.Measured{Running: 3, Missing: 3, Absent: []string{"i00", "i01", "i02"}, OnMissing: "ignore_instance"},
		},
		{
			name: "less than half fails out", metric: each, onMissing: "fail_out", instances: three,
			readings: map[string]engines.Reading{"i01": at(1, 0)},
			want:     engines.Measured{Average: average(1), Fresh: 1, Running: 3, Missing: 2, Absent: []string{"i00", "i02"}, OnMissing: "fail_out"},
			failsOut: true,
		},
		{
			name: "the domain's own alone", metric: own, instances: three,
			readings: map[string]engines.Reading{"-": at(7, 0), "i00": at(1, 0)},
			want:     engines.Measured{Average: average(7), Fresh: 1}, scaleIn: true,
		},
		{
			name: "the domain's own counts as one", metric: both, instances: three,
			readings: map[string]engines.Reading{"-": at(9, 0), "i00": at(1, 0), "i01": at(1, 0), "i02": at(1, 0)},
			want:     engines.Measured{Average: average(3), Fresh: 4, Running: 3}, scaleIn: true,
		},
		{
			name: "the domain's own is missing", metric: both, onMissing: "fail_out", instances: fleet(running),
			readings: map[string]engines.Reading{"i00": at(1, 0), "-": at(1, time.Hour)},
			want:     engines.Measured{Average: average(1), Fresh: 1, Running: 1, Missing: 1, Stale: 1, Absent: []string{"-"}, OnMissing: "fail_out"},
			failsOut: true,
		},
		{
			name: "only what runs and is well is read", metric: each,
			instances: fleet(pending, running, running+" MISSING", broken, ending, running+" OUT_OF_CONTACT"),
			readings: map[string]engines.Reading{
				"i00": at(100, 0), "i01": at(1, 0), "i02": at(100, 0), "i03": at(100, 0), "i04": at(100, 0), "i05": at(3, 0), "gone": at(100, 0),
			},
			want: engines.Measured{Average: average(2), Fresh: 2, Running: 2}, scaleIn: true,
		},
		{
			name: "equal readings are their average", metric: each, instances: three,
			readings: map[string]engines.Reading{"i00": at(0.1, 0), "i01": at(0.1, 0), "i02": at(0.1, 0)}, // their sum is above 0.3
			want:     engines.Measured{Average: average(0.1), Fresh: 3, Running: 3}, scaleIn: true,
		},
		{name: "nothing runs", metric: each, onMissing: "fail_out", instances: fleet(pending)},
		{
			name: "too much to add up", metric: each, instances: fleet(running, running),
			readings: map[string]engines.Reading{"i00": at(math.MaxFloat64, 0), "i01": at(math.MaxFloat64, 0)},
			want:     engines.Measured{Average: average(math.MaxFloat64), Fresh: 2, Running: 2}, scaleIn: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.metric.Name, tt.metric.Fresh, tt.metric.OnMissing = "load", fresh, "hold"
			if tt.onMissing != "" {
				tt.metric.OnMissing = tt.onMissing
			}
			v := &engines.View{Now: noon, Instances: tt.instances, Readings: engines.Readings{"load": tt.readings, "other": {"i00": at(50, 0)}}}
			got := v.Measure(tt.metric)
			tt.want.Metric = "load"
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(engines.Measured{})); diff != "" {
				t.Error(diff)
			}
			if got.MayScaleIn() != tt.scaleIn || got.FailsOut() != tt.failsOut {
				t.Errorf("may scale in: %v, fails out: %v", got.MayScaleIn(), got.FailsOut())
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestView_MeasureNamesSome(t *testing.T) {
	v := &engines.View{Now: noon, Instances: fleet(strings.Fields(strings.Repeat(running+" ", 30))...)}
	got := v.Measure(engines.Metric{Name: "load", Instances: true, Fresh: time.Minute})
	if got.Missing != 30 || len(got.Absent) != 20 {
		t.Errorf("%d are missing and %d named", got.Missing, len(got.Absent))
	}
}

func TestSensing_Metric(t *testing.T) {
	s := engines.Sensing{Instances: []string{"load", "both"}, Domain: []string{"queue", "both"}, Period: time.Minute}
	for name, want := range map[string]engines.Metric{
		"load":  {Instances: true},
		"queue": {Domain: true},
		"both":  {Instances: true, Domain: true},
		"none":  {},
	} {
		want.Name, want.Fresh, want.OnMissing = name, 2*time.Minute, "hold"
		if diff := cmp.Diff(want, s.Metric(name, "hold")); diff != "" {
			t.Error(diff)
		}
	}
}
