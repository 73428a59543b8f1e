package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// scanned are bodies in the plain form and all others, of types that are read by
// hand.
var scanned = []string{
	`{}`, ` { } `, `null`, `[]`, `"x"`, `1`, ``, `{`, `{"state":"600-RUNNING"`,
	`{"state":"600-RUNNING","fields":{"a":1,"b":"x\"y","c":{"d":[1,{"e":"}"}]},"f":null,"g":true,"h":-1.5e3}}`,
	"{ \"state\" : \"600-RUNNING\" ,\n\t\"fields\" : { \"a\" : [ 1 , 2 ] , \"b\" : { } } }",
	`{"state":"600-RUNNING","fields":{"a":1,"a":2}}`, `{"state":"600-RUNNING","fields":null}`, `{"state":"600-RUNNING","fields":[]}`,
	`{"state":7}`, `{"state":null}`, `{"state":"\u0041"}`, `{"st\u0061te":"x"}`, `{"fields":{"\u0061":1,"ä":"ö"}}`, `{"unknown":1,"state":"x"}`,
	`{"launch_id":"l","deployable_type":"t","site":"s","allocation":"a","extravars":{"a":[1]},"attempt":3}`,
	`{"launch_id":"ü","site":"a\\b","attempt":1.5}`, `{"launch_id":1}`, `{"attempt":"x"}`, `{"extravars":null}`, `{"launch_id":null,"attempt":null}`,
}

// plainState is a StateChanged for encoding/json alone.
type plainState struct {
	State  events.InstanceState       `json:"state"`
	Fields map[string]json.RawMessage `json:"fields,omitempty"`
}

func checkScanned(t *testing.T, typ string, into func() any, body []byte) {
	t.Helper()
	want := into()
	err := json.Unmarshal(body, want)
	if string(bytes.TrimSpace(body)) == "null" {
		err = errors.New("null is no body of an event") // which encoding/json takes for an empty one
	}
	got := events.Decode(typ, body)
	if _, unknown := got.(events.Unknown); unknown != (err != nil) {
		t.Fatalf("%s %s: decoded as %#v, encoding/json says %v", typ, body, got, err)
	}
	if err != nil {
		return
	}
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Fatalf("%s %s: (-encoding/json +by hand)\n%s", typ, body, cmp.Diff(string(b), string(a)))
	}
}

// TestDecode_ByHand: what is read by hand comes out as encoding/json reads it.
func TestDecode_ByHand(t *testing.T) {
	for _, body := range scanned {
		checkScanned(t, events.TypeStateChanged, func() any { return &plainState{} }, []byte(body))
		checkScanned(t, events.TypeLaunchRequested, func() any { return &events.LaunchRequested{} }, []byte(body))
	}
}

// FuzzDecode_ByHand is TestDecode_ByHand for any body. Member names that differ
// only in case are left out: encoding/json takes them for the same, and Encode
// never writes them.
func FuzzDecode_ByHand(f *testing.F) {
	for _, body := range scanned {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if s := string(body); strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ\u017f\u212a") {
			return
		}
		checkScanned(t, events.TypeStateChanged, func() any { return &plainState{} }, body)
		checkScanned(t, events.TypeLaunchRequested, func() any { return &events.LaunchRequested{} }, body)
	})
}

// TestEncode_ByHand: what is encoded by hand is what encoding/json makes of it.
func TestEncode_ByHand(t *testing.T) {
	t.Parallel()
	for _, reported := range []map[string]json.RawMessage{
		nil,
		{},
		{"a": nil},
		{"b": raw(` { "x" : [ 1.0, "\u2028<" ] } `), "a": raw(`"é\n"`), "\"é\n": raw("null"), "": raw("1")},
		{"a": raw(`{`)},
		{"a": raw(``)},
	} {
		var list []events.Field
		for name, value := range reported {
			list = append(list, events.Field{Name: name, Value: value})
		}
		ev := events.StateChanged{State: events.Running, Fields: events.SortedFields(list)}
		got, err := events.Encode(ev)
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if wantErr := enc.Encode(plainState{State: events.Running, Fields: reported}); (err != nil) != (wantErr != nil) {
			t.Errorf("%s: %v, encoding/json says %v", reported, err, wantErr)
		}
		if err == nil && string(got)+"\n" != want.String() {
			t.Errorf("got %s, want %s", got, want.String())
		}
	}
}
