package engines_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

func TestAmount_Of(t *testing.T) {
	for _, tt := range []struct {
		given     string
		wanted    int
		down, up  int
		forbidden bool
	}{
		{given: `4`, wanted: 0, down: 4, up: 4},
		{given: `2147483647`, wanted: 9, down: math.MaxInt32, up: math.MaxInt32},
		{given: `"50%"`, wanted: 7, down: 3, up: 4},
		{given: `"12.5%"`, wanted: 8, down: 1, up: 1},
		{given: `"1%"`, wanted: 0, down: 1, up: 1},
		{given: `"300%"`, wanted: 2, down: 6, up: 6},
		{given: `"1000000000%"`, wanted: math.MaxInt32, down: math.MaxInt32, up: math.MaxInt32},
		{given: `0`, forbidden: true},
		{given: `-1`, forbidden: true},
		{given: `2147483648`, forbidden: true},
		{given: `"%"`, forbidden: true},
		{given: `"0%"`, forbidden: true},
		{given: `"Inf%"`, forbidden: true},
		{given: `[1]`, forbidden: true},
	} {
		a, err := engines.ParseAmount("key", json.RawMessage(tt.given))
		switch {
		case tt.forbidden:
			if err == nil {
				t.Errorf("%s is taken", tt.given)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.given, err)
		case a.Of(tt.wanted, math.Floor) != tt.down || a.Of(tt.wanted, math.Ceil) != tt.up:
			t.Errorf("%s of %d: %d, %d", tt.given, tt.wanted, a.Of(tt.wanted, math.Floor), a.Of(tt.wanted, math.Ceil))
		}
	}
	for _, absent := range []string{``, `null`} {
		if a, err := engines.ParseAmount("key", json.RawMessage(absent)); a != nil || err != nil {
			t.Errorf("%q: %v, %v", absent, a, err)
		}
	}
}

func TestWholeInstances(t *testing.T) {
	for n, want := range map[float64]int{
		0: 0, -3: 0, 0.1: 1, 1: 1, 1.001: 2, 3.0000000000000004: 3, 1e300: math.MaxInt32, math.Inf(1): math.MaxInt32, math.Inf(-1): 0,
	} {
		if got := engines.WholeInstances(n); got != want {
			t.Errorf("%g: %d, want %d", n, got, want)
		}
	}
}

func TestScaled_From(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	s := engines.Scaled{}
	if !s.OutFrom(time.Minute).IsZero() || !s.InFrom(time.Minute).IsZero() {
		t.Error("a cool-down after nothing")
	}
	s = engines.Scaled{OutAt: early, InAt: late}
	if got := s.OutFrom(time.Minute); !got.Equal(early.Add(time.Minute)) {
		t.Error(got)
	}
	if got := s.InFrom(time.Minute); !got.Equal(late.Add(time.Minute)) {
		t.Error(got)
	}
	s = engines.Scaled{OutAt: late, InAt: early}
	if got := s.InFrom(math.MaxInt64); got.Before(late) {
		t.Error(got)
	}
}
