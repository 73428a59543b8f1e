package cli_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
	"github.com/seed-524e47bf/epum/projections"
)

// TestParsePoint reads times, durations and sequences.
func TestParsePoint(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]projections.Point{
		"1":                         {Seq: 1},
		"18446744073709551615":      {Seq: 1<<64 - 1},
		"2026-02-28T10:00:00Z":      {Time: time.Date(2026, 2, 28, 10, 0, 0, 0, time.UTC)},
		"2026-02-28T10:00:00+02:00": {Time: time.Date(2026, 2, 28, 8, 0, 0, 0, time.UTC)},
		"2026-02-28T10:00:00.5Z":    {Time: time.Date(2026, 2, 28, 10, 0, 0, 5e8, time.UTC)},
		"90s":                       {Time: now.Add(-90 * time.Second)},
		"2h":                        {Time: now.Add(-2 * time.Hour)},
		"3d":                        {Time: now.Add(-72 * time.Hour)},
		"1d12h":                     {Time: now.Add(-36 * time.Hour)},
	} {
		got, err := cli.ParsePoint(text, now)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "0", "-1", "-2h", "0s", "d", "1d1", "70000d", "yesterday", "2026-02-28", "18446744073709551616"} {
		if got, err := cli.ParsePoint(bad, now); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// TestProgress says nothing for a second, then seldom, and takes its bar away.
func TestProgress(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return began.Add(d) }
	draw := func(order ...time.Time) string {
		var b bytes.Buffer
		at := map[time.Time]uint64{}
		for n, now := range order {
			at[now] = uint64(n+1) * 500
		}
		cli.Progress(&b, "verify", 0, 2000, began, at, order)
		return b.String()
	}
	if got := draw(began, after(999*time.Millisecond)); got != "" {
		t.Errorf("within the first second: %q", got)
	}
	want := "\rverify [=======                       ]  25%  event 500 of 2,000, 500/s\x1b[K" +
		"\rverify [======================        ]  75%  event 1,500 of 2,000, 1,363/s\x1b[K" +
		"\r\x1b[K"
	if d := cmp.Diff(want, draw(after(time.Second), after(1050*time.Millisecond), after(1100*time.Millisecond))); d != "" {
		t.Error(d)
	}
}
