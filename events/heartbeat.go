package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Heartbeat is what an OU agent says of its instance (design §4). It is no
// event: only a change of health that it causes is.
type Heartbeat struct {
	Health    Health            // HealthOK, HealthMonitorError or HealthProcessError
	Address   string            // where the agent is asked, a name; "": at the instance's id
	Errors    []json.RawMessage // the error, then the failed processes; nil: none
	ErrorTime time.Time         // UTC; zero: not said
}

// maxErrors is the most that the errors of one heartbeat may take, in bytes:
// a quarter of an instance's document.
const maxErrors = MaxInstanceBytes / 4

// DecodeHeartbeat reads the heartbeat of an instance. It fails where it is no JSON
// object, is another's, or says no state: all else is ignored where it is not as it
// should be, as are unknown fields, among them its timestamp: what counts is when it
// is heard.
func DecodeHeartbeat(nodeID string, body []byte) (Heartbeat, error) {
	var h Heartbeat
	var reported, node string
	var failure json.RawMessage
	var processes []json.RawMessage
	err := members(body, func(name, value []byte) (err error) {
		switch string(name) {
		case "node_id":
			node, err = text(value)
		case "state":
			reported, err = text(value)
		case "caller":
			h.Address, _ = text(value) // "" where it is no string
		case "error":
			failure = present(value)
		case "error_time":
			if at, err := moment(value); err == nil {
				h.ErrorTime = at
			}
		case "failed_processes":
			processes = elements(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return Heartbeat{}, fmt.Errorf("events: heartbeat: %w", err)
	case node != nodeID:
		return Heartbeat{}, fmt.Errorf("events: heartbeat: node_id %q differs from the subject's %q", node, nodeID)
	case CheckName(h.Address) != nil:
		h.Address = ""
	}
	switch h.Health = Health(reported); h.Health {
	case HealthOK:
		return h, nil
	case HealthMonitorError, HealthProcessError:
		h.Errors = errorsOf(failure, processes)
		return h, nil
	}
	return Heartbeat{}, fmt.Errorf("events: heartbeat: state %q is none of OK, MONITOR_ERROR, PROCESS_ERROR", reported)
}

// elements gives the values of a valid JSON array; nil where it is none.
func elements(array []byte) (list []json.RawMessage) {
	if json.Unmarshal(array, &list) != nil {
		return nil
	}
	return list
}

// errorsOf is the list of errors, as much of it as may be kept.
func errorsOf(failure json.RawMessage, processes []json.RawMessage) (list []json.RawMessage) {
	all := processes
	if failure != nil {
		all = append([]json.RawMessage{failure}, processes...)
	}
	size := 0
	for n, e := range all {
		kept, err := json.RawMessage(nil), errTooLarge
		if len(e) <= MaxInstanceBytes {
			kept, err = keepable(e)
		}
		if size += len(kept); err != nil || size > maxErrors {
			left := fmt.Sprintf("%d more errors are left out: they are too large", len(all)-n)
			return append(list, appendString(nil, left))
		}
		list = append(list, kept)
	}
	return list
}

// keepable is an error as it is kept: without white space, and what other readers
// refuse made right: invalid text, and members of the same name, of which the last counts.
func keepable(value json.RawMessage) (json.RawMessage, error) {
	switch {
	case TooDeep(value):
		return appendString(nil, fmt.Sprintf("an error is left out: it is nested more than %d levels deep", MaxDepth)), nil
	case wellFormed(value):
		return marshal(value)
	}
	var plain any
	numbers := json.NewDecoder(bytes.NewReader(value))
	numbers.UseNumber() // they stay as they are written
	if err := numbers.Decode(&plain); err != nil {
		return nil, err
	}
	return marshal(plain)
}

var errTooLarge = errors.New("it is too large")

var errNoTime = errors.New("a time from 1970 to 9999 is wanted")

// moment reads a time, as RFC 3339 or as seconds since 1970; null is none.
func moment(value []byte) (time.Time, error) {
	if string(value) == "null" {
		return time.Time{}, nil
	}
	if value[0] == '"' {
		s, err := text(value)
		if err != nil {
			return time.Time{}, err
		}
		t, err := time.Parse(time.RFC3339Nano, s)
		if t = t.UTC(); err == nil && (t.Year() < 0 || t.Year() > 9999) {
			err = errNoTime // in UTC it has a year that RFC 3339 does not
		}
		return t, err
	}
	var seconds float64
	if err := json.Unmarshal(value, &seconds); err != nil {
		return time.Time{}, err
	}
	const last = 253402300799 // the last second of the year 9999
	whole, fraction := math.Modf(seconds)
	if seconds < 0 || whole > last {
		return time.Time{}, errNoTime
	}
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), nil
}

// Heard gives what a heartbeat at a time changes of the instance's health; news
// is false where it changes nothing (design §4). A ZOMBIE stays one: that it
// lives is what is wrong with it, whatever it says of itself.
func (i *Instance) Heard(h Heartbeat, now time.Time) (ev HealthChanged, news bool) {
	switch {
	case i.Health == HealthZombie, i.Health == h.Health:
		return HealthChanged{}, false
	case h.Health == HealthOK:
		return HealthChanged{Health: HealthOK}, i.State < Terminated
	}
	ev = HealthChanged{Health: h.Health, Errors: h.Errors, ErrorTime: &h.ErrorTime}
	if h.ErrorTime.IsZero() {
		ev.ErrorTime = &now
	}
	if ev.Errors == nil {
		ev.Errors = []json.RawMessage{}
	}
	return ev, true
}
