package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Field is one reported field of an instance.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields are reported fields, sorted by name, each name once: an object, in JSON.
type Fields []Field

// SortedFields sorts fields where they are; of a name that comes twice the last counts.
func SortedFields(fields []Field) Fields {
	for n := 1; n < len(fields); n++ {
		if fields[n-1].Name >= fields[n].Name {
			slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
			break
		}
	}
	kept := fields[:0]
	for n, f := range fields {
		if n+1 == len(fields) || f.Name != fields[n+1].Name {
			kept = append(kept, f)
		}
	}
	return kept
}

// Get gives a field's value; nil where there is none.
func (f Fields) Get(name string) json.RawMessage {
	n, ok := slices.BinarySearchFunc(f, name, func(f Field, n string) int { return strings.Compare(f.Name, n) })
	if !ok {
		return nil
	}
	return f[n].Value
}

// with is the fields with others laid over them, but for the names that a report
// cannot set.
func (f Fields) with(others Fields, intern func(string) string) Fields {
	if len(others) == 0 {
		return f
	}
	merged := make(Fields, 0, len(f)+len(others))
	for _, o := range others {
		for len(f) > 0 && f[0].Name < o.Name {
			merged, f = append(merged, f[0]), f[1:]
		}
		switch {
		case len(f) > 0 && f[0].Name == o.Name:
			merged, f = append(merged, Field{Name: f[0].Name, Value: o.Value}), f[1:]
		case !ownFields[o.Name]:
			merged = append(merged, Field{Name: intern(o.Name), Value: o.Value})
		}
	}
	return slices.Clip(append(merged, f...))
}

// MarshalJSON implements json.Marshaler.
func (f Fields) MarshalJSON() ([]byte, error) { return f.appendJSON(nil) }

// appendJSON appends the object; it fails where a value is no JSON.
func (f Fields) appendJSON(b []byte) ([]byte, error) {
	for n, field := range f {
		if n == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = append(appendString(b, field.Name), ':')
		value := field.Value
		if value == nil {
			value = json.RawMessage("null")
		}
		compact := bytes.NewBuffer(b)
		if err := json.Compact(compact, value); err != nil {
			return nil, fmt.Errorf("field %q: %w", field.Name, err)
		}
		b = compact.Bytes()
	}
	if len(f) == 0 {
		b = append(b, '{')
	}
	return append(b, '}'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Fields) UnmarshalJSON(object []byte) (err error) {
	*f, err = scanFields(object)
	return err
}

// scanFields copies the members of a valid object, all their values into one
// piece of memory; nil where it is null.
func scanFields(object []byte) (Fields, error) {
	if string(object) == "null" {
		return nil, nil
	}
	fields := make([]Field, 0, 4)
	values := make([]byte, 0, len(object))
	err := validMembers(object, func(name, value []byte) error {
		from := len(values)
		values = append(values, value...)
		fields = append(fields, Field{Name: fieldName(name), Value: values[from:len(values):len(values)]})
		return nil
	})
	return SortedFields(fields), err
}

// fieldNames are the names that most reports and documents have.
var fieldNames = func() map[string]string {
	names := map[string]string{}
	for _, name := range []string{
		"public_ip", "private_ip", "hostname", "iaas_id", "update_counter", "pid", "exit_code", "exit_signal",
		"error", "stderr_tail", "state_desc", "timestamp",
	} {
		names[name] = name
	}
	for name := range ownFields {
		names[name] = name
	}
	return names
}()

func fieldName(name []byte) string {
	if known, ok := fieldNames[string(name)]; ok {
		return known
	}
	return string(name)
}
