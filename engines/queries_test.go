package engines_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

func TestParseQuery(t *testing.T) {
	t.Parallel()
	vars := engines.QueryVars{Owner: "alice", Domain: `we"b`, Instance: "i1", Metric: "load", Period: "90s"}
	for name, c := range map[string]struct {
		text, want  string
		perInstance bool
	}{
		"text":      {"up", "up", false},
		"all":       {"{{.Owner}} {{.Domain}} {{.Instance}} {{.Metric}} {{.Period}}", `alice we"b i1 load 90s`, true},
		"quoted":    {"x{d={{quote .Domain}},o={{.Owner | quote}}}", `x{d="we\"b",o="alice"}`, false},
		"condition": {"{{if .Instance}}one{{else}}all{{end}}", "one", true},
		"comment":   {"a{{/* b */}}c", "ac", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := engines.ParseQuery(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := q.Render(vars); got != c.want || err != nil || q.PerInstance != c.perInstance {
				t.Errorf("%q, %v, per instance: %v", got, err, q.PerInstance)
			}
		})
	}
	for text, says := range map[string]string{
		"": "empty", " \n": "empty", "{{": "no template", "{{.Owner": "no template", strings.Repeat("x", 5<<10): "4096",
		"{{range 1000000000}}{{end}}": "only", "{{range .Owner}}x{{end}}": "only", `{{define "a"}}{{end}}x`: "only", `{{template "query"}}`: "only",
		`{{printf "%1000000000d" 1}}`: "only", "{{$x := .Owner}}{{$x}}": "only", "{{with .Owner}}{{end}}": "only", "{{.Secret}}": "only",
		"{{.}}": "only", "{{.Owner.Name}}": "only", "{{len .Owner}}": "only", `{{block "a" .}}{{end}}`: "only", "{{quote (quote .Owner)}}": "only",
		"{{if .Owner}}{{range 5}}{{end}}{{end}}": "only", "{{if true}}{{end}}": "only", `{{"x"}}`: "only", "{{.Owner | quote | quote}}": "only", "{{quote quote .Owner}}": "render", "{{if .Instance}}{{.Owner .Domain}}{{end}}": "render", "{{nothing .Owner}}": "no template",
	} {
		if q, err := engines.ParseQuery(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %+v, %v", text, q, err)
		}
	}
}

func TestGivenSensing_queries(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`{"sensor_queries":{"load":"load{domain={{quote .Domain}}}"}}`: "",
		`{"sensor_queries":{"b":"{{","a":"{{range 3}}{{end}}"}}`:       "engine_conf.sensor_queries.a",
	} {
		var given engines.GivenSensing
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			t.Fatal(err)
		}
		_, err := given.Sensing()
		got, _ := errors.AsType[*engines.FieldError](err)
		if field == "" && err != nil || field != "" && (got == nil || got.Field != field) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
