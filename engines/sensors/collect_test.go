package sensors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

var web = events.DomainID{Owner: "alice", Name: "web"}

// source is a source made of a function.
type source func(ctx context.Context, q sensors.Query) (sensors.Series, error)

func (s source) Fetch(ctx context.Context, q sensors.Query) (sensors.Series, error) { return s(ctx, q) }

func running(ids ...string) (list []*events.Instance) {
	for _, id := range ids {
		list = append(list, &events.Instance{ID: id, State: events.Running, Domain: web})
	}
	return list
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCollect(t *testing.T) {
	t.Parallel()
	instances := append(running("i1", "i2"), &events.Instance{ID: "i3", State: events.Terminating}, &events.Instance{ID: "i4", State: events.Terminated})
	s := engines.Sensing{
		Instances: []string{"load", "both"}, Domain: []string{"queue", "both"}, Statistic: engines.StatisticAverage,
		Period: 90 * time.Second, Data: []float64{1, 3}, Queries: map[string]string{"load": "tmpl"},
	}
	now := start.Add(1234 * time.Microsecond)
	broken := errors.New("no route")
	var queries [3]sensors.Query
	got, err := sensors.Collect(t.Context(), source(func(ctx context.Context, q sensors.Query) (sensors.Series, error) {
		queries[slices.Index([]string{"both", "load", "queue"}, q.Metric)] = q
		switch q.Metric {
		case "load":
			return sensors.Series{"i1": at(1, math.NaN(), 3), "i2": at(math.NaN()), "stranger": at(9), engines.OfDomain: at(9)}, broken
		case "queue":
			return nil, broken
		}
		return sensors.Mock{}.Fetch(ctx, q)
	}), web, instances, s, now)

	failed, _ := errors.AsType[*sensors.MetricError](err)
	if !errors.Is(err, broken) || failed == nil || failed.Metric != "load" || strings.Count(err.Error(), "no route") != 2 {
		t.Errorf("%v", err)
	}
	for _, q := range queries {
		if !q.From.Equal(now.Add(-90*time.Second)) || !q.To.Equal(now) || q.Domain != web || q.Statistic != engines.StatisticAverage {
			t.Errorf("%+v", q)
		}
	}
	if q := queries[1]; q.OfDomain || len(q.Instances) != 2 || q.Template != "tmpl" {
		t.Errorf("%+v", q)
	}
	if q := queries[2]; !q.OfDomain || len(q.Instances) != 0 || q.Template != "" {
		t.Errorf("%+v", q)
	}
	for what, c := range map[string][2]string{
		"domain":    {encoded(t, got.Domain), `{"both":{"Average":2,"Series":[1,3]}}`},
		"instances": {encoded(t, got.Instances), `{"i1":{"both":{"Average":2,"Series":[1,3]},"load":{"Average":2,"Series":[1,3]}},"i2":{"both":{"Average":2,"Series":[1,3]}}}`},
		"readings": {encoded(t, got.Readings), `{"both":{"-":{"value":2,"time":"2026-01-02T03:04:04.001Z"},"i1":{"value":2,"time":"2026-01-02T03:04:04.001Z"},"i2":{"value":2,"time":"2026-01-02T03:04:04.001Z"}},` +
			`"load":{"i1":{"value":2,"time":"2026-01-02T03:04:07Z"}},"queue":{}}`},
		"failed": {encoded(t, got.Failed), `["load","queue"]`},
		"time":   {encoded(t, got.Time), `"2026-01-02T03:04:05.001Z"`},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %s", what, c[0])
		}
	}
}

func TestCollect_nothing(t *testing.T) {
	t.Parallel()
	asked := false
	got, err := sensors.Collect(t.Context(), source(func(context.Context, sensors.Query) (sensors.Series, error) {
		asked = true
		return nil, nil
	}), web, nil, engines.Sensing{Instances: []string{"load"}, Period: time.Minute, Statistic: engines.StatisticSum}, start)
	if err != nil || asked || encoded(t, got) != `{"time":"2026-01-02T03:04:05Z","readings":{},"domain":{},"instances":{}}` {
		t.Errorf("%s, %v, asked %v", encoded(t, got), err, asked)
	}
}

// TestCollect_concurrent: metrics are fetched a few at a time.
func TestCollect_concurrent(t *testing.T) {
	t.Parallel()
	var s engines.Sensing
	for n := range 32 {
		s.Domain = append(s.Domain, fmt.Sprint("m", n))
	}
	var now, most atomic.Int32
	full := make(chan struct{})
	fill := sync.OnceFunc(func() { close(full) })
	_, err := sensors.Collect(t.Context(), source(func(ctx context.Context, _ sensors.Query) (sensors.Series, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		if n == 8 {
			fill()
		}
		select {
		case <-full:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}), web, nil, s, start)
	if err != nil || most.Load() != 8 {
		t.Errorf("%d at once, %v", most.Load(), err)
	}
}

func TestSnapshot_series(t *testing.T) {
	t.Parallel()
	values := make([]float64, 250)
	for n := range values {
		values[n] = float64(n)
	}
	s := engines.Sensing{Domain: []string{"queue"}, Statistic: engines.StatisticSeries, Period: time.Hour, Data: values}
	got, err := sensors.Collect(t.Context(), sensors.Mock{}, web, nil, s, start)
	v := got.Domain["queue"]
	if err != nil || len(v.Series) != 100 || v.Series[0] != 150 || v.Series[99] != 249 || got.Readings["queue"][engines.OfDomain].Value != 249 {
		t.Errorf("%+v, %v", got, err)
	}
	if text := encoded(t, v); strings.Contains(text, "Average") || strings.Count(text, "Series") != 1 {
		t.Error(text)
	}
	if text := encoded(t, sensors.Values{Statistic: engines.StatisticSum}); text != `{"Series":[],"Sum":0}` {
		t.Error(text)
	}
}

func TestSnapshot_Encode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		instances, values int
		note              string
		shown, series     int
	}{
		"small":          {3, 4, "", 3, 4},
		"long series":    {1000, 100, "the series are cut to their newest value", 1000, 1},
		"many instances": {20_000, 10, "instances are left out", -1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var list []*events.Instance
			for n := range c.instances {
				list = append(list, running(fmt.Sprintf("01234567-89ab-cdef-0123-%012d", n))...)
			}
			s := engines.Sensing{Instances: []string{"load"}, Domain: []string{"queue"}, Statistic: engines.StatisticAverage, Period: time.Minute}
			for n := range c.values {
				s.Data = append(s.Data, float64(n)/3)
			}
			snapshot, err := sensors.Collect(t.Context(), sensors.Mock{}, web, list, s, start)
			if err != nil {
				t.Fatal(err)
			}
			data, err := snapshot.Encode()
			if err != nil || len(data) > sensors.MaxSnapshotBytes {
				t.Fatalf("%d bytes, %v", len(data), err)
			}
			if snapshot.Note != "" || len(snapshot.Instances) != c.instances || len(snapshot.Readings["load"]) != c.instances {
				t.Error("encoding has changed the snapshot")
			}
			snapshot.Asked = map[string]bool{} // it is not kept
			got, err := sensors.DecodeSnapshot(data)
			if err != nil {
				t.Fatal(err)
			}
			if c.note == "" {
				if diff := cmp.Diff(snapshot, got); diff != "" {
					t.Error(diff)
				}
			}
			if !strings.Contains(got.Note, c.note) || c.shown >= 0 && len(got.Instances) != c.shown || len(got.Readings["load"]) != len(got.Instances) {
				t.Errorf("%d instances, %d readings: %s", len(got.Instances), len(got.Readings["load"]), got.Note)
			}
			if c.shown < 0 && (len(got.Instances) < 1000 || len(got.Domain) != 1 || len(data) < sensors.MaxSnapshotBytes*8/10) {
				t.Errorf("%d instances in %d bytes: there is room for more", len(got.Instances), len(data))
			}
			if len(got.Domain["queue"].Series) != c.series || got.Readings["queue"][engines.OfDomain] != snapshot.Readings["queue"][engines.OfDomain] {
				t.Errorf("%+v", got.Domain)
			}
		})
	}
	for _, bad := range []string{"", "[]", `{"domain":{"m":{}}}`, `{"domain":{"m":{"Series":[1],"Sum":"x"}}}`} {
		if s, err := sensors.DecodeSnapshot([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, s)
		}
	}
}

func TestSnapshot_Over(t *testing.T) {
	t.Parallel()
	s := engines.Sensing{Instances: []string{"load", "mem"}, Domain: []string{"queue"}, Statistic: engines.StatisticSeries, Period: time.Minute, Data: []float64{1}}
	collect := func(now time.Time, data float64, failed ...string) sensors.Snapshot {
		s := s
		s.Data = []float64{data}
		got, _ := sensors.Collect(t.Context(), source(func(ctx context.Context, q sensors.Query) (sensors.Series, error) {
			if slices.Contains(failed, q.Metric) {
				return sensors.Series{"i2": at(data)}, errors.New("in part")
			}
			return sensors.Mock{}.Fetch(ctx, q)
		}), web, running("i1", "i2"), s, now)
		return got
	}
	last := collect(start, 1)
	got := collect(start.Add(time.Minute), 2, "load", "queue").Over(last, s.Fresh())
	for whose, want := range map[string]float64{"i1": 1, "i2": 2} {
		if r := got.Readings["load"][whose]; r.Value != want || got.Instances[whose]["load"].Series[0] != want {
			t.Errorf("load of %s: %+v", whose, r)
		}
	}
	if r := got.Readings["load"]["i1"]; !r.Time.Equal(last.Readings["load"]["i1"].Time) {
		t.Errorf("an old reading became younger: %+v", r)
	}
	if got.Readings["mem"]["i1"].Value != 2 || got.Readings["queue"][engines.OfDomain].Value != 1 || got.Domain["queue"].Series[0] != 1 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(collect(start, 1), last); diff != "" {
		t.Error("the last one was changed:", diff)
	}
	// What was read holds for two periods, also where the source has nothing newer.
	stale := last.Readings["load"]["i1"].Time.Add(2*s.Period + 1)
	for _, c := range []struct {
		now  time.Time
		want int
	}{{stale.Add(-1), 1}, {stale.Add(time.Millisecond), 0}} {
		silent, _ := sensors.Collect(t.Context(), source(func(context.Context, sensors.Query) (sensors.Series, error) { return nil, nil }), web, running("i1"), s, c.now)
		silent = silent.Over(last, s.Fresh())
		if len(silent.Readings["load"]) != c.want || len(silent.Instances) != c.want {
			t.Errorf("at %s: %+v", c.now, silent)
		}
	}
}

func TestMock_Fetch(t *testing.T) {
	t.Parallel()
	q := sensors.Query{Instances: running("i1"), OfDomain: true, From: start.Add(-time.Second), To: start, Data: []float64{1, 2, 3, 4}}
	got, err := sensors.Mock{}.Fetch(t.Context(), q)
	if err != nil || len(got) != 2 || len(got["i1"]) != 4 {
		t.Fatal(got, err)
	}
	for n, s := range got["i1"] {
		if s.Value != float64(n+1) || s.Time.Before(q.From) || !s.Time.Before(q.To) {
			t.Errorf("%+v", s)
		}
	}
	q.Data = nil
	if got, err = (sensors.Mock{}).Fetch(t.Context(), q); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	all := sensors.NewSources()
	for name, says := range map[string]string{
		"prometheus": "sensors.prometheus.url", "opentsdb": "sensors.opentsdb.url", "cloudwatch": "sensors.cloudwatch.region", "nats": `no source "nats"`, "other": `no source "other"`,
	} {
		if got, err := all.Of(name).Fetch(t.Context(), sensors.Query{}); err == nil || got != nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := all.Of("mockcloudwatch").Fetch(t.Context(), sensors.Query{}); err != nil {
		t.Error(err)
	}
	for _, name := range engines.SensorTypes {
		if all[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
}
