package events_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func config(general, engineConf, health string) events.Config {
	return events.Config{General: raw(general), EngineConf: raw(engineConf), Health: raw(health)}
}

func TestConfig_Merge(t *testing.T) {
	tests := []struct{ name, base, over, want string }{
		{"nothing", "", "", ""},
		{"base only", `{"b":1,"a":2}`, "", `{"b":1,"a":2}`},
		{"over only", "", `{"b": 1}`, `{"b": 1}`},
		{"key by key", `{"a":1,"b":2}`, `{"b":3,"c":4}`, `{"a":1,"b":3,"c":4}`},
		{"one level deep", `{"a":{"x":1}}`, `{"a":{"y":2}}`, `{"a":{"y":2}}`},
		{"a null is kept", `{"a":1}`, `{"a":null}`, `{"a":null}`},
		{"numbers as written", `{"a":1.50,"b":12345678901234567890}`, `{"c":1e3}`, `{"a":1.50,"b":12345678901234567890,"c":1e3}`},
		{"no HTML escapes", `{"a":"<&>"}`, `{"<":1}`, `{"<":1,"a":"<&>"}`},
		{"the last of a doubled key", `{"a":1}`, `{"a":2,"a":3}`, `{"a":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := config(tt.base, tt.base, tt.base).Merge(config(tt.over, tt.over, tt.over))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(config(tt.want, tt.want, tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfig_MergeRefuses(t *testing.T) {
	for _, bad := range []string{"null", "[]", "1", `"x"`, " null"} {
		for name, merge := range map[string]func() (events.Config, error){
			"over":            func() (events.Config, error) { return config(`{"a":1}`, "", "").Merge(config(bad, "", "")) },
			"over of nothing": func() (events.Config, error) { return config("", "", "").Merge(config("", "", bad)) },
			"base":            func() (events.Config, error) { return config("", bad, "").Merge(config("", `{"a":1}`, "")) },
		} {
			if got, err := merge(); err == nil {
				t.Errorf("%s %s: got %s", name, bad, got)
			}
		}
	}
}

func TestConfig_Equal(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       bool
	}{
		{"both absent", "", "", true},
		{"absent and empty", "", "{}", false},
		{"white space and order", `{"a":1,"b":[1,2]}`, ` { "b" : [1, 2], "a" : 1 } `, true},
		{"escapes", `{"a":"\u0041"}`, `{"a":"A"}`, true},
		{"order in a list", `[1,2]`, `[2,1]`, false},
		{"numbers as written", `{"a":1}`, `{"a":1.0}`, false},
		{"large numbers", `{"a":9007199254740993}`, `{"a":9007199254740992}`, false},
		{"null and absent", `{"a":null}`, `{}`, false},
		{"other value", `{"a":1}`, `{"a":2}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for n, pair := range [][2]events.Config{
				{config(tt.a, "", ""), config(tt.b, "", "")},
				{config("", tt.a, ""), config("", tt.b, "")},
				{config("", "", tt.a), config("", "", tt.b)},
			} {
				if pair[0].Equal(pair[1]) != tt.want || pair[1].Equal(pair[0]) != tt.want {
					t.Errorf("section %d: want %v", n, tt.want)
				}
			}
		})
	}
}

func TestConfig_Filled(t *testing.T) {
	got := config(`{"a":1}`, "", "").Filled()
	if diff := cmp.Diff(config(`{"a":1}`, "{}", "{}"), got); diff != "" {
		t.Error(diff)
	}
	if got.Size() != 11 {
		t.Errorf("size %d", got.Size())
	}
}
