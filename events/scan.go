package events

import (
	"encoding/json"
)

// Most of a log are launches and reports, and a replay reads them all. So their
// bodies are read by hand here, about five times as fast as by encoding/json;
// whatever is not in the plain form that Encode writes is left to that.

// members calls each with the name and the raw value of every member of a JSON
// object that is known to be valid. It reports false, maybe after some calls,
// where it is no object or a name has an escape.
func members(object []byte, each func(name, value []byte) bool) bool {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return false
	}
	i = skipSpace(object, i+1)
	for object[i] != '}' {
		name := object[i+1 : skipValue(object, i)-1]
		i = skipSpace(object, i+len(name)+2)
		i = skipSpace(object, i+1) // the colon
		end := skipValue(object, i)
		if !plainString(name) || !each(name, object[i:end]) {
			return false
		}
		i = skipSpace(object, end)
		if object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
	return true
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
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
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

// plainText gives the text of a raw JSON string; false where it is none, or not
// one that means itself.
func plainText(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || !plainString(raw) {
		return "", false
	}
	return string(raw[1 : len(raw)-1]), true
}

// scanLaunch reads the body of a LaunchRequested; false where that takes more.
func scanLaunch(body []byte) (ev LaunchRequested, ok bool) {
	if !json.Valid(body) {
		return ev, false
	}
	ok = members(body, func(name, value []byte) (ok bool) {
		switch string(name) {
		case "launch_id":
			ev.LaunchID, ok = plainText(value)
		case "deployable_type":
			ev.DeployableType, ok = plainText(value)
		case "site":
			ev.Site, ok = plainText(value)
		case "allocation":
			ev.Allocation, ok = plainText(value)
		case "extravars":
			ev.ExtraVars, ok = append(json.RawMessage(nil), value...), true
		case "attempt":
			ok = json.Unmarshal(value, &ev.Attempt) == nil
		}
		return ok
	})
	return ev, ok
}

// scanState reads the body of a StateChanged; false where that takes more.
func scanState(body []byte) (ev StateChanged, ok bool) {
	if !json.Valid(body) {
		return ev, false
	}
	ok = members(body, func(name, value []byte) (ok bool) {
		switch string(name) {
		case "state":
			var state string
			state, ok = plainText(value)
			ev.State = InstanceState(state)
		case "fields":
			ev.Fields, ok = scanFields(value)
		}
		return ok
	})
	return ev, ok
}

// scanFields copies the members of an object, all their values into one piece of
// memory.
func scanFields(object []byte) (map[string]json.RawMessage, bool) {
	fields := make(map[string]json.RawMessage, 8)
	values := make([]byte, 0, len(object))
	ok := members(object, func(name, value []byte) bool {
		from := len(values)
		values = append(values, value...)
		fields[fieldName(name)] = values[from:len(values):len(values)]
		return true
	})
	return fields, ok
}

// fieldNames are the fields that most reports have.
var fieldNames = func() map[string]string {
	names := map[string]string{}
	for _, name := range []string{
		"public_ip", "private_ip", "hostname", "iaas_id", "update_counter", "pid", "exit_code", "exit_signal",
		"error", "stderr_tail", "state_desc", "timestamp",
	} {
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
