package sensors_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at are samples a second apart, the oldest first.
func at(values ...float64) []sensors.Sample {
	samples := make([]sensors.Sample, len(values))
	for n, v := range values {
		samples[n] = sensors.Sample{Time: start.Add(time.Duration(n) * time.Second), Value: v}
	}
	return samples
}

func TestValue(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	mixed := at(3, nan, -1, inf, 4)
	for name, c := range map[string]struct {
		samples   []sensors.Sample
		statistic string
		want      float64
		none      bool
	}{
		"Series is the newest":   {mixed, engines.StatisticSeries, 4, false},
		"Average":                {mixed, engines.StatisticAverage, 2, false},
		"Sum":                    {mixed, engines.StatisticSum, 6, false},
		"SampleCount":            {mixed, engines.StatisticSampleCount, 3, false},
		"Maximum":                {mixed, engines.StatisticMaximum, 4, false},
		"Minimum":                {mixed, engines.StatisticMinimum, -1, false},
		"one":                    {at(7), engines.StatisticMinimum, 7, false},
		"zero is a value":        {at(0), engines.StatisticAverage, 0, false},
		"nothing":                {nil, engines.StatisticAverage, 0, true},
		"a count of nothing":     {nil, engines.StatisticSampleCount, 0, true},
		"a sum of nothing":       {[]sensors.Sample{}, engines.StatisticSum, 0, true},
		"no number among them":   {at(nan, inf, -inf), engines.StatisticSampleCount, 0, true},
		"large ones average":     {at(math.MaxFloat64, math.MaxFloat64), engines.StatisticAverage, math.MaxFloat64, false},
		"a sum that is too much": {at(math.MaxFloat64, math.MaxFloat64), engines.StatisticSum, 0, true},
		"weighted average":       {[]sensors.Sample{{Time: start, Value: 1, Of: 3}, {Time: start, Value: 5}}, engines.StatisticAverage, 2, false},
		"weighted count":         {[]sensors.Sample{{Time: start, Value: 1, Of: 3}, {Time: start, Value: 5}}, engines.StatisticSampleCount, 4, false},
		"out of order":           {[]sensors.Sample{at(1, 2)[1], at(1, 2)[0]}, engines.StatisticSeries, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := sensors.Value(c.samples, c.statistic)
			if ok == c.none || got.Value != c.want {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
	odd := []sensors.Sample{{Time: start.Add(1234567 * time.Nanosecond).In(time.FixedZone("x", 3600)), Value: 1}, {Time: start.Add(time.Hour), Value: nan}}
	got, _ := sensors.Value(odd, engines.StatisticSum)
	if diff := cmp.Diff(engines.Reading{Value: 1, Time: start.Add(time.Millisecond)}, got); diff != "" || got.Time.Location() != time.UTC {
		t.Errorf("the time is that of the newest number, UTC in milliseconds: %s", diff)
	}
}

// TestValue_bounds: a value is a number, an average lies among the samples, and the
// samples that were given are as they were.
func TestValue_bounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 0}))).Draw(t, "values")
		samples := at(values...)
		for _, statistic := range engines.Statistics {
			got, ok := sensors.Value(samples, statistic)
			low, _ := sensors.Value(samples, engines.StatisticMinimum)
			high, some := sensors.Value(samples, engines.StatisticMaximum)
			if ok && (math.IsNaN(got.Value) || math.IsInf(got.Value, 0)) || ok && !some {
				t.Fatalf("%s is %v", statistic, got)
			}
			slack := 1e-9 * math.Max(math.Abs(low.Value), math.Abs(high.Value))
			if ok && statistic == engines.StatisticAverage && (got.Value < low.Value-slack || got.Value > high.Value+slack) {
				t.Fatalf("the average of %v is %v", values, got.Value)
			}
		}
		for n, s := range samples {
			if s.Value != values[n] && !math.IsNaN(values[n]) {
				t.Fatal("the samples were changed")
			}
		}
	})
}
