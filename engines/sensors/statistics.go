package sensors

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// Value is what a statistic makes of samples, with the time of the newest; ok is
// false where there is none: a series without a number in it has no value, and no
// count either. With engines.StatisticSeries it is the newest sample.
func Value(samples []Sample, statistic string) (reading engines.Reading, ok bool) {
	samples = numbers(samples)
	if len(samples) == 0 {
		return engines.Reading{}, false
	}
	newest := samples[len(samples)-1]
	value := newest.Value
	switch statistic {
	case engines.StatisticAverage:
		value = average(samples)
	case engines.StatisticSum:
		value = 0
		for _, s := range samples {
			value += s.Value
		}
	case engines.StatisticSampleCount:
		value = weight(samples)
	case engines.StatisticMaximum:
		value = slices.MaxFunc(samples, byValue).Value
	case engines.StatisticMinimum:
		value = slices.MinFunc(samples, byValue).Value
	}
	if !finite(value) {
		return engines.Reading{}, false
	}
	return engines.Reading{Value: value, Time: milliseconds(newest.Time)}, true
}

// numbers are the samples that are numbers, the oldest first.
func numbers(samples []Sample) []Sample {
	left := make([]Sample, 0, len(samples))
	for _, s := range samples {
		if finite(s.Value) && finite(s.Of) {
			left = append(left, s)
		}
	}
	slices.SortStableFunc(left, func(a, b Sample) int { return a.Time.Compare(b.Time) })
	return left
}

// average divides before it adds where a sum would be too large.
func average(samples []Sample) float64 {
	total, sum, parts := weight(samples), 0.0, 0.0
	for _, s := range samples {
		sum += s.Value * s.weight()
		parts += s.Value * (s.weight() / total)
	}
	if finite(sum) {
		return sum / total
	}
	return parts
}

func weight(samples []Sample) (total float64) {
	for _, s := range samples {
		total += s.weight()
	}
	return total
}

func (s Sample) weight() float64 {
	if s.Of > 0 {
		return s.Of
	}
	return 1
}

func byValue(a, b Sample) int { return cmp.Compare(a.Value, b.Value) }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// milliseconds is a time as readings have it.
func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
