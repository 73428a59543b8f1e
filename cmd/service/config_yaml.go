package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// YAMLToJSON gives the one document of a YAML text as JSON; null where it is
// empty. JSON comes out as it went in. Keys that are no strings are refused, and
// numbers are kept as they are written. The error names the line.
func YAMLToJSON(data []byte) (json.RawMessage, error) {
	if json.Valid(data) {
		return bytes.TrimSpace(data), nil
	}
	doc, err := parseYAML(data)
	if err != nil {
		return nil, err
	}
	if doc.body == nil {
		return json.RawMessage("null"), nil
	}
	value, err := doc.value(doc.body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// yamlError is what is wrong in a line of a YAML text.
type yamlError struct {
	line int // from 1
	text string
}

func (e *yamlError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func wrongAt(node ast.Node, format string, args ...any) error {
	return &yamlError{line: lineOf(node), text: fmt.Sprintf(format, args...)}
}

// yamlDocument is a parsed YAML document. It is read through its syntax tree,
// since the library's own decoder turns keys into strings and big numbers into
// texts, and forgets lines.
type yamlDocument struct {
	body    ast.Node // nil: empty
	anchors map[string]ast.Node
	depth   int // how deep value is
}

func parseYAML(data []byte) (*yamlDocument, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, errors.New("not YAML: " + yaml.FormatError(err, false, false))
	}
	doc := &yamlDocument{anchors: map[string]ast.Node{}}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if doc.body != nil {
			return nil, wrongAt(d.Body, "a second document; one is allowed")
		}
		doc.body = d.Body
		ast.Walk(doc, d.Body)
	}
	return doc, nil
}

// Visit collects the anchors; it is for ast.Walk.
func (d *yamlDocument) Visit(node ast.Node) ast.Visitor {
	if anchor, ok := node.(*ast.AnchorNode); ok {
		d.anchors[anchor.Name.GetToken().Value] = anchor.Value
	}
	return d
}

func lineOf(node ast.Node) int { return node.GetToken().Position.Line }

// deepest is how far values may be nested; an alias inside what it names would
// go on for ever.
const deepest = 200

// resolve looks through anchors, aliases and tags.
func (d *yamlDocument) resolve(node ast.Node) (ast.Node, error) {
	for range deepest {
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.TagNode:
			node = n.Value
		case *ast.AliasNode:
			name := n.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok || target.GetToken().Position.Offset >= n.Start.Position.Offset {
				return nil, wrongAt(n, "there is no anchor %q before it", name)
			}
			node = target
		default:
			return node, nil
		}
	}
	return nil, wrongAt(node, "it is nested too deeply")
}

func (d *yamlDocument) isNull(node ast.Node) bool {
	n, err := d.resolve(node)
	if err != nil || n == nil {
		return n == nil && err == nil
	}
	_, null := n.(*ast.NullNode)
	return null
}

// scalar gives a single value as it was written, without quotes.
func (d *yamlDocument) scalar(node ast.Node) (text string, ok bool) {
	n, err := d.resolve(node)
	if err != nil {
		return "", false
	}
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// yamlPair is one key of a mapping and its value.
type yamlPair struct {
	key   string
	at    ast.Node // the key
	value ast.Node
}

// pairs gives the keys of a mapping in their order.
func (d *yamlDocument) pairs(node ast.Node) ([]yamlPair, error) {
	node, err := d.resolve(node)
	if err != nil {
		return nil, err
	}
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		return nil, wrongAt(node, "must be a mapping (key: value)")
	}
	pairs := make([]yamlPair, 0, len(mapping.Values))
	taken := make(map[string]bool, len(mapping.Values))
	for _, v := range mapping.Values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return nil, wrongAt(v.Key, "the key %s must be a string (merges are not supported); write it in quotes", v.Key)
		}
		if taken[key.Value] {
			return nil, wrongAt(v.Key, "the key %s is given twice", key.Value)
		}
		taken[key.Value] = true
		pairs = append(pairs, yamlPair{key: key.Value, at: key, value: v.Value})
	}
	return pairs, nil
}

// value gives a node as what encoding/json can encode.
func (d *yamlDocument) value(node ast.Node) (any, error) {
	node, err := d.resolve(node)
	if err != nil || node == nil {
		return nil, err
	}
	if d.depth++; d.depth > deepest {
		return nil, wrongAt(node, "it is nested too deeply")
	}
	defer func() { d.depth-- }()
	switch n := node.(type) {
	case *ast.MappingNode:
		return d.object(n)
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, v := range n.Values {
			if list[i], err = d.value(v); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *ast.NullNode:
		return nil, nil //nolint:nilnil // a JSON null
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.IntegerNode:
		return number(n.GetToken().Value, n.Value), nil
	case *ast.FloatNode:
		return number(n.GetToken().Value, n.Value), nil
	case *ast.StringNode:
		return plain(n), nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	}
	return nil, wrongAt(node, "%s has no meaning in JSON", node)
}

func (d *yamlDocument) object(n *ast.MappingNode) (any, error) {
	pairs, err := d.pairs(n)
	if err != nil {
		return nil, err
	}
	object := make(map[string]any, len(pairs))
	for _, p := range pairs {
		if object[p.key], err = d.value(p.value); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// number keeps a number as it is written, where JSON writes it so too.
func number(written string, value any) any {
	if isJSONNumber(written) {
		return json.Number(written)
	}
	return value
}

// plain is a string, or one of the numbers that the library takes for strings:
// those that are too big for 64 bits, and those with an exponent but no dot.
func plain(n *ast.StringNode) any {
	if n.Token.Type == token.StringType && isJSONNumber(n.Value) {
		return json.Number(n.Value)
	}
	return n.Value
}

func isJSONNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return (err == nil || errors.Is(err, strconv.ErrRange)) && json.Valid([]byte(s))
}
