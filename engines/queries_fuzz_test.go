package engines_test

import (
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

// FuzzParseQuery: a template that is accepted can be rendered, and what it gives
// has a bound.
func FuzzParseQuery(f *testing.F) {
	name := strings.Repeat("\x7f", 128) // of a length that quoting multiplies
	f.Fuzz(func(t *testing.T, text string) {
		q, err := engines.ParseQuery(text)
		if err != nil {
			return
		}
		got, err := q.Render(engines.QueryVars{Owner: name, Domain: name, Instance: name, Metric: name, Period: "90s"})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 1<<20 {
			t.Fatalf("%d bytes", len(got))
		}
	})
}
