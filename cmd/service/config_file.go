package service

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// setting is a key's value as it was given.
type setting struct {
	source string // see ConfigError.Source
	text   string
}

// fileSettings reads the keys of a YAML file; path "" is no file. A null says
// nothing.
func fileSettings(path string) (map[string]setting, error) {
	given := map[string]setting{}
	if path == "" {
		return given, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	doc, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	f := &configFile{path: path, doc: doc, given: given}
	if doc.body != nil {
		f.section("", doc.body)
	}
	if len(f.wrong) > 0 {
		return nil, f.wrong
	}
	return given, nil
}

// configFile is a file that is being read.
type configFile struct {
	path  string
	doc   *yamlDocument
	given map[string]setting
	wrong ConfigErrors
}

func (f *configFile) refuse(key string, at ast.Node, allowed string) {
	f.wrong = append(f.wrong, &ConfigError{Key: key, Source: f.source(at), Allowed: allowed})
}

// refuseYAML refuses what the YAML document says is wrong in itself.
func (f *configFile) refuseYAML(key string, err error) {
	refused := &ConfigError{Key: cmp.Or(key, "the file"), Source: f.path, Allowed: err.Error()}
	if wrong, ok := errors.AsType[*yamlError](err); ok {
		refused.Source, refused.Allowed = fmt.Sprintf("%s line %d", f.path, wrong.line), wrong.text
	}
	f.wrong = append(f.wrong, refused)
}

func (f *configFile) source(at ast.Node) string {
	return fmt.Sprintf("%s line %d", f.path, lineOf(at))
}

// section reads a mapping; prefix is its name and a dot, "" for the file.
func (f *configFile) section(prefix string, node ast.Node) {
	pairs, err := f.doc.pairs(node)
	if err != nil {
		f.refuseYAML(strings.TrimSuffix(prefix, "."), err)
		return
	}
	for _, p := range pairs {
		name := prefix + p.key
		key, known := lookupKey(name)
		switch {
		case known && prefix == "" && strings.Contains(name, "."):
			section, rest, _ := strings.Cut(name, ".")
			f.refuse(name, p.at, fmt.Sprintf("has to be nested: %s: {%s: …}", section, rest))
		case known:
			f.value(key, p)
		case isSection(name):
			if !f.doc.isNull(p.value) {
				f.section(name+".", p.value)
			}
		default:
			f.refuse(name, p.at, "is not a known key; see 'epum serve --help'")
		}
	}
}

// isSection reports whether there are keys below name.
func isSection(name string) bool {
	for _, key := range Keys {
		if strings.HasPrefix(key.Name, name+".") {
			return true
		}
	}
	return false
}

func (f *configFile) value(key Key, p yamlPair) {
	if f.doc.isNull(p.value) {
		return
	}
	text, scalar := f.doc.scalar(p.value)
	switch {
	case strings.HasPrefix(key.Type, "JSON"):
		value, err := f.doc.value(p.value)
		if err != nil {
			f.refuseYAML(key.Name, err)
			return
		}
		data, err := json.Marshal(value)
		if err != nil {
			f.refuse(key.Name, p.at, err.Error())
			return
		}
		text = string(data)
	case !scalar:
		f.refuse(key.Name, p.at, "must be a single value ("+key.Type+")")
		return
	}
	f.given[key.Name] = setting{source: f.source(p.at), text: text}
}
