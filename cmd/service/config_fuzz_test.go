package service_test

import (
	"encoding/json"
	"testing"

	"github.com/seed-524e47bf/epum/cmd/service"
)

func FuzzYAMLToJSON(f *testing.F) {
	for _, seed := range []string{
		wholeFile, "", "a: [1, {b: c}]", "a: &x {b: *x}", "? [1]\n: 2", "<<: *a", "a: |\n  b\n", `{"a": 1e400}`, "a: !!binary x", "- - -", "a: 'x", "%YAML 1.2\n---\na",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := service.YAMLToJSON(data)
		if err == nil && !json.Valid(doc) {
			t.Errorf("%q became %q, which is no JSON", data, doc)
		}
	})
}
