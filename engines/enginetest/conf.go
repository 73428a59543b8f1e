package enginetest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/engines"
)

// Given is an engine_conf and what is to be said of it.
type Given struct {
	Conf       string
	Incomplete bool   // as of a definition, whose required keys may be missing
	Field      string // that is refused, below engine_conf, which stands for itself; "": it is accepted
	Message    string // a part of it
}

// CheckConfs holds what an engine says of configs against what it should.
func CheckConfs(t *testing.T, kind engines.Kind, all []Given) {
	t.Helper()
	for _, g := range all {
		err := kind.Validate(json.RawMessage(g.Conf), !g.Incomplete)
		if !g.Incomplete {
			Accepted(t, kind, []byte(g.Conf))
		}
		field, message := refused(err)
		switch {
		case g.Field == "" && err != nil:
			t.Errorf("%s: %v", g.Conf, err)
		case g.Field != "" && (field != g.Field || !strings.Contains(message, g.Message)):
			t.Errorf("%s: got %v, want %s: …%s…", g.Conf, err, g.Field, g.Message)
		}
	}
}

// refused is which key an error is about, below engine_conf; "": about none.
func refused(err error) (field, message string) {
	if f, ok := errors.AsType[*engines.FieldError](err); ok {
		return strings.TrimPrefix(f.Field, engines.SectionEngineConf+"."), f.Message
	}
	return "", ""
}

// Accepted is the engine of a complete config, nil where that is refused: then with
// the name of a field, and by New as by Validate. What is complete is accepted of a
// definition too.
func Accepted(t rapid.TB, kind engines.Kind, conf []byte) engines.Engine {
	t.Helper()
	err := kind.Validate(conf, true)
	if f, ok := errors.AsType[*engines.FieldError](err); err != nil && (!ok || f.Field == "" || f.Message == "") {
		t.Fatalf("%s: refused with %#v", conf, err)
	}
	e, made := kind.New(conf, nil)
	if (made == nil) != (err == nil) {
		t.Fatalf("%s: Validate says %v and New %v", conf, err, made)
	}
	if err != nil {
		return nil
	}
	if err := kind.Validate(conf, false); err != nil {
		t.Fatalf("%s: complete, but not as a definition: %v", conf, err)
	}
	return e
}

// FuzzConf fuzzes configs: see Accepted; and an engine that is made of one decides.
func FuzzConf(f *testing.F, kind engines.Kind) {
	f.Helper()
	f.Fuzz(func(t *testing.T, conf []byte) {
		if e := Accepted(t, kind, conf); e != nil {
			Begins(t, e, &engines.View{Now: Start, MaxActions: 10})
		}
	})
}

// Begins has an engine decide on a domain that is empty still.
func Begins(t *testing.T, e engines.Engine, v *engines.View) {
	t.Helper()
	d := Decided(t, e, v)
	if d.Reason == "" || d.Target < 0 || len(d.Launches) > min(v.MaxActions, d.Target) || len(d.Terminations) > 0 {
		t.Fatalf("decides %+v", d)
	}
}
