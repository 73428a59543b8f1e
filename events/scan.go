package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// Most of a log are launches and reports, and a replay reads them all; most of a
// bucket are instances. So these are read by hand here, about five times as fast
// as by encoding/json.

// members calls each with the name and the raw value of every member of a JSON
// object. It fails with each's first error, and where it is not a valid object.
func members(object []byte, each func(name, value []byte) error) error {
	if !json.Valid(object) {
		return errors.New("it is no valid JSON")
	}
	return validMembers(object, each)
}

// validMembers is members for what is known to be valid JSON.
func validMembers(object []byte, each func(name, value []byte) error) error {
	i := skipSpace(object, 0)
	if object[i] != '{' {
		return errors.New("it is no JSON object")
	}
	i = skipSpace(object, i+1)
	for object[i] != '}' {
		end := skipValue(object, i)
		name := object[i+1 : end-1]
		if !plainString(name) {
			unescaped, err := text(object[i:end])
			if err != nil {
				return err
			}
			name = []byte(unescaped)
		}
		i = skipSpace(object, skipSpace(object, end)+1) // behind the colon
		end = skipValue(object, i)
		if err := each(name, object[i:end]); err != nil {
			return err
		}
		i = skipSpace(object, end)
		if object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
	return nil
}

// MaxDepth is how many levels deep a JSON value given from outside may be nested. What
// is kept of one stands some levels deep in an event, in a document and in an answer,
// and no reader has to take more than mostDepth.
const MaxDepth = 100

// mostDepth is how many levels deep encoding/json reads.
const mostDepth = 10_000

// TooDeep reports whether a valid JSON value is nested more than MaxDepth levels.
func TooDeep(value []byte) bool { return deeper(value, MaxDepth) }

// deeper reports whether a valid JSON value is nested more than most levels. Each
// level takes two bytes, so that a value of usual size costs nothing.
func deeper(value []byte, most int) bool {
	if len(value) <= 2*most {
		return false
	}
	depth := 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '"':
			i = skipString(value, i)
		case '{', '[':
			if depth++; depth > most {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// skipString gives the end of the valid JSON string that starts at i: its last quote.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue gives the end of the valid JSON value that starts at i.
func skipValue(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of a number or literal, and of what it stands in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// plainString reports whether the inside of a JSON string means itself.
func plainString(s []byte) bool {
	for _, c := range s {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

// text gives what a raw JSON value says that has to be a string.
func text(raw []byte) (s string, err error) {
	if len(raw) >= 2 && raw[0] == '"' && plainString(raw) {
		return string(raw[1 : len(raw)-1]), nil
	}
	err = json.Unmarshal(raw, &s)
	return s, err
}

// wellFormed reports whether readers that are stricter than encoding/json take a valid
// JSON value, too: its text is valid Unicode, and no object has a name twice.
func wellFormed(value []byte) bool {
	return utf8.Valid(value) && !bytes.Contains(bytes.ToLower(value), []byte(`\ud`)) && distinct(value)
}

// distinct reports whether no object in a valid JSON value has a name twice.
func distinct(value []byte) bool {
	switch value[0] {
	case '{':
		seen := map[string]bool{}
		return validMembers(value, func(name, member []byte) error {
			if seen[string(name)] || !distinct(member) {
				return errTwice
			}
			seen[string(name)] = true
			return nil
		}) == nil
	case '[':
		for _, element := range elements(value) {
			if !distinct(element) {
				return false
			}
		}
	}
	return true
}

var errTwice = errors.New("a name is given twice")

// scanLaunch reads the body of a LaunchRequested.
func scanLaunch(body []byte) (ev LaunchRequested, err error) {
	err = members(body, func(name, value []byte) (err error) {
		switch string(name) {
		case "launch_id":
			ev.LaunchID, err = text(value)
		case "deployable_type":
			ev.DeployableType, err = text(value)
		case "site":
			ev.Site, err = text(value)
		case "allocation":
			ev.Allocation, err = text(value)
		case "extravars":
			ev.ExtraVars = append(json.RawMessage(nil), value...)
		case "attempt":
			err = json.Unmarshal(value, &ev.Attempt)
		case "replaces":
			ev.Replaces, err = text(value)
		}
		return err
	})
	return ev, err
}

// scanState reads the body of a StateChanged.
func scanState(body []byte) (ev StateChanged, err error) {
	err = members(body, func(name, value []byte) (err error) {
		switch string(name) {
		case "state":
			var state string
			state, err = text(value)
			ev.State = InstanceState(state)
		case "fields":
			ev.Fields, err = scanFields(value)
		}
		return err
	})
	return ev, err
}

// encode gives the body of a StateChanged as encoding/json does, at a fifth of its
// cost. It fails where a field's value is no JSON.
func (ev StateChanged) encode() ([]byte, error) {
	size := len(ev.State) + 40
	for _, f := range ev.Fields {
		size += len(f.Name) + len(f.Value) + 6
	}
	b := appendString(append(make([]byte, 0, size), `{"state":`...), string(ev.State))
	if len(ev.Fields) > 0 {
		var err error
		if b, err = ev.Fields.appendJSON(append(b, `,"fields":`...)); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}
