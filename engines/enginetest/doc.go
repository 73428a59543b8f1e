package enginetest

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
)

// documented is a row of one of the tables of an engine's documentation.
type documented struct {
	list               string // the key of whose entries it is one; "": of engine_conf itself
	key, kind, without string // what the columns say: the key, its type and its default
}

// path is where the key stands, the first entry of a list for all.
func (d documented) path() string {
	if d.list == "" {
		return d.key
	}
	return d.list + ".0." + d.key
}

// CheckDoc holds the documentation of an engine against what its validator takes and
// the engine makes of it. The documentation has a table of the keys of engine_conf
// and one for the entries of each list of objects: a row for each key, with its
// type, its default and its meaning. least are configs that have all required keys.
//
//   - Each key there is accepted, and each key that is accepted is there.
//   - What is required is missed, and what is not in least is not required.
//   - What is no value of the type is refused: a bound in figures is the bound, and a
//     list of words is the list.
//   - A default that is given makes the same engine as none.
func CheckDoc(t *testing.T, kind engines.Kind, least ...string) {
	t.Helper()
	all := read(t, kind.Doc)
	for _, list := range lists(all) {
		for _, key := range knownKeys(t) {
			d := documented{list: list, key: key}
			_, message := d.says(t, kind, least[0], "null")
			there := slices.ContainsFunc(all, func(o documented) bool { return o.list == list && o.key == key })
			if accepted := !strings.HasPrefix(message, "is not known"); accepted != there {
				t.Errorf("%s: accepted %t, documented %t", d.path(), accepted, there)
			}
		}
	}
	for _, conf := range least {
		if Accepted(t, kind, []byte(conf)) == nil {
			t.Fatalf("%s: %v", conf, kind.Validate(json.RawMessage(conf), true))
		}
	}
	for _, d := range all {
		for _, conf := range least {
			d.checkRequired(t, kind, conf)
			d.checkDefault(t, kind, conf)
		}
		d.checkType(t, kind, least)
	}
}

var (
	headOf   = regexp.MustCompile("^\\| key of (?:`engine_conf`|one of `([a-z_]+)`) \\| type \\| default \\| meaning \\|$")
	quoted   = regexp.MustCompile("`([^`]+)`")
	boundIn  = regexp.MustCompile(`([≥≤<>]) (-?[0-9]+)`)
	exceptIn = regexp.MustCompile(`not (-?[0-9]+)`)
	namesIn  = regexp.MustCompile(`^list of names, at most ([0-9]+)$`)
	tagOf    = regexp.MustCompile("json:\"([a-z_]+)")
)

// read reads the tables of a documentation.
func read(t *testing.T, doc string) (all []documented) {
	t.Helper()
	list, inside := "", false
	for line := range strings.Lines(doc) {
		line = strings.TrimSpace(line)
		if head := headOf.FindStringSubmatch(line); head != nil {
			list, inside = head[1], true
			continue
		}
		inside = inside && strings.HasPrefix(line, "|")
		if !inside || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 4 { // key, type, default, meaning
			t.Fatalf("the row %q has %d cells", line, len(cells))
		}
		for _, key := range quoted.FindAllStringSubmatch(cells[0], -1) {
			all = append(all, documented{list, key[1], cells[1], cells[2]})
		}
	}
	if len(all) == 0 {
		t.Fatalf("no keys are documented: %s", doc)
	}
	return all
}

// lists are those whose entries are documented, and "" for engine_conf itself.
func lists(all []documented) []string {
	names := map[string]bool{}
	for _, d := range all {
		names[d.list] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// knownKeys are all that any engine could know: the JSON names in the sources of all
// engines, which lie beside the folder of the one that is tested.
func knownKeys(t *testing.T) []string {
	t.Helper()
	keys := map[string]bool{}
	for _, pattern := range []string{"../*.go", "../*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources in %s: %v", pattern, err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range tagOf.FindAllStringSubmatch(string(source), -1) {
				keys[tag[1]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// says is what is refused of a config that has this value for the key, if it is that;
// an entry has its other keys of least.
func (d documented) says(t *testing.T, kind engines.Kind, least, value string) (field, message string) {
	t.Helper()
	if d.list == "" {
		least = "{}"
	}
	conf, _ := d.with(t, least, json.RawMessage(value))
	if field, message = refused(kind.Validate(conf, false)); !d.isAbout(field) {
		return "", ""
	}
	return field, message
}

// isAbout reports whether a refused field is the key, or a part of its value.
func (d documented) isAbout(field string) bool {
	return field == d.path() || strings.HasPrefix(field, d.path()+".")
}

// with is a config with the key of another value; nil: without it. there says
// whether it was there.
func (d documented) with(t *testing.T, conf string, value any) (changed json.RawMessage, there bool) {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(conf), &all); err != nil {
		t.Fatal(err)
	}
	in := all
	if d.list != "" {
		entries, ok := all[d.list].([]any)
		if !ok {
			t.Fatalf("%s has no %s", conf, d.list)
		}
		in = entries[0].(map[string]any) //nolint:errcheck,forcetypeassert // what is listed are objects
	}
	_, there = in[d.key]
	if in[d.key] = value; value == nil {
		delete(in, d.key)
	}
	changed, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return changed, there
}

func (d documented) checkRequired(t *testing.T, kind engines.Kind, least string) {
	t.Helper()
	required := d.without == "required"
	without, there := d.with(t, least, nil)
	if required && !there {
		t.Errorf("%s is required, but %s is accepted without it", d.path(), least)
		return
	}
	field, message := refused(kind.Validate(without, true))
	if missed := field == d.path() && strings.HasPrefix(message, "is required:"); missed != required {
		t.Errorf("%s: required %t, documented as required %t; without it: %s %s", d.path(), missed, required, field, message)
	}
}

// checkType tries values at the edges of the type. What is no value of it is refused
// in every config, what is one is accepted in one of them at least.
func (d documented) checkType(t *testing.T, kind engines.Kind, least []string) {
	t.Helper()
	check := func(value string, good bool) (message string) {
		t.Helper()
		accepted := 0
		for _, conf := range least {
			field, why := d.says(t, kind, conf, value)
			if message = why; field == "" {
				accepted++
			}
		}
		if good != (accepted > 0) {
			t.Errorf("%s is %s, but of %s it says %q", d.path(), d.kind, value, message)
		}
		return message
	}
	check("true", false) // no key is for it
	if d.isWhole() {
		check("1.5", false)
	}
	for _, value := range exceptIn.FindAllStringSubmatch(d.kind, -1) {
		check(value[1], false)
	}
	for _, bound := range boundIn.FindAllStringSubmatch(d.kind, -1) {
		closed := strings.ContainsAny(bound[1], "≥≤")
		check(bound[2], closed)
		check(d.beside(bound[1], bound[2]), !closed)
	}
	if most := namesIn.FindStringSubmatch(d.kind); most != nil {
		n, _ := strconv.Atoi(most[1])
		check(`["m"`+strings.Repeat(`,"m"`, n-1)+`]`, true)
		check(`["m"`+strings.Repeat(`,"m"`, n)+`]`, false)
	}
	if strings.HasPrefix(d.kind, "`") { // words, and no others
		var words []string
		for _, word := range quoted.FindAllStringSubmatch(d.kind, -1) {
			words = append(words, word[1])
			check(strconv.Quote(word[1]), true)
		}
		message := check(`"another"`, false)
		if _, all, ok := strings.Cut(message, "one of: "); ok && len(strings.Split(all, ", ")) != len(words) {
			t.Errorf("%s is %s, but it may be %s", d.path(), d.kind, all)
		}
	}
}

func (d documented) isWhole() bool { return strings.HasPrefix(d.kind, "integer") }

// beside is the number next to a bound: out of it where it is closed (≥, ≤), in it
// where it is open.
func (d documented) beside(sign, bound string) string {
	n, _ := strconv.Atoi(bound)
	step := 0.001
	if d.isWhole() {
		step = 1
	}
	if sign == "≥" || sign == "<" {
		step = -step
	}
	return strconv.FormatFloat(float64(n)+step, 'f', -1, 64)
}

// checkDefault gives the default where it is one that can be given: in figures, or
// quoted.
func (d documented) checkDefault(t *testing.T, kind engines.Kind, least string) {
	t.Helper()
	text := d.without
	if q := quoted.FindStringSubmatch(text); q != nil && strings.HasPrefix(text, "`") {
		if text = q[1]; !json.Valid([]byte(text)) {
			text = strconv.Quote(text)
		}
	}
	if !json.Valid([]byte(text)) {
		return
	}
	given, _ := d.with(t, least, json.RawMessage(text))
	absent, _ := d.with(t, least, nil)
	like := cmp.Options{
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type().Kind() == reflect.Func }, cmp.Ignore()),
	}
	if diff := cmp.Diff(Accepted(t, kind, absent), Accepted(t, kind, given), like); diff != "" {
		t.Errorf("%s is not %s where it is not given: %s", d.path(), text, diff)
	}
}
