package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

func TestDecodeHeartbeat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       events.Heartbeat
	}{
		{"ok", `{"node_id":"n","state":"OK"}`, events.Heartbeat{Health: events.HealthOK}},
		{
			"all of it", `{"node_id":"n","state":"PROCESS_ERROR","error":"full","error_time":"2026-01-02T03:04:05+01:00",
				"failed_processes":[{"name": "p"}],"caller":"agent 7","timestamp":1,"more":{}}`,
			events.Heartbeat{
				Health: events.HealthProcessError, Address: "agent 7", Errors: rawList(`"full"`, `{"name":"p"}`),
				ErrorTime: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
			},
		},
		{
			"seconds", `{"node_id":"n","state":"MONITOR_ERROR","error_time":1767322800.5,"failed_processes":null,"error":null}`,
			events.Heartbeat{Health: events.HealthMonitorError, ErrorTime: time.Date(2026, 1, 2, 3, 0, 0, 5e8, time.UTC)},
		},
		{"error_time is no time", `{"node_id":"n","state":"MONITOR_ERROR","error_time":"","error":"x"}`, events.Heartbeat{Health: events.HealthMonitorError, Errors: rawList(`"x"`)}},
		{"failed_processes is no list", `{"node_id":"n","state":"MONITOR_ERROR","failed_processes":{},"error":1}`, events.Heartbeat{Health: events.HealthMonitorError, Errors: rawList(`1`)}},
		{"all optional ones wrong", `{"node_id":"n","state":"OK","caller":5,"error_time":"soon","failed_processes":"p","timestamp":{}}`, events.Heartbeat{Health: events.HealthOK}},
		{"later than any time", `{"node_id":"n","state":"OK","error_time":"9999-12-31T23:59:59-01:00"}`, events.Heartbeat{Health: events.HealthOK}},
		{"seconds after the last year", `{"node_id":"n","state":"OK","error_time":253402300800}`, events.Heartbeat{Health: events.HealthOK}},
		{"seconds before the first", `{"node_id":"n","state":"OK","error_time":-1}`, events.Heartbeat{Health: events.HealthOK}},
		{
			"errors that other readers refuse", "{\"node_id\":\"n\",\"state\":\"PROCESS_ERROR\",\"error\":\"a\xffb\",\"failed_processes\":[" +
				`{"n":1.50,"b":{"x":1,"x":2},"n":1e400},"\ud800","\ud83d\ude00",[[{"a":1,"\u0061":2}]],{ "ok" : ["ä<", 1.0] }]}`,
			events.Heartbeat{Health: events.HealthProcessError, Errors: rawList(`"a�b"`, `{"b":{"x":2},"n":1e400}`, `"�"`, `"😀"`, `[[{"a":2}]]`, `{"ok":["ä<",1.0]}`)},
		},
		{
			"errors too deep", `{"node_id":"n","state":"PROCESS_ERROR","error":` + nested(101) + `,"failed_processes":[` + nested(100) + `,` + nested(9000) + `]}`,
			events.Heartbeat{Health: events.HealthProcessError, Errors: rawList(
				`"an error is left out: it is nested more than 100 levels deep"`, nested(100), `"an error is left out: it is nested more than 100 levels deep"`)},
		},
		{"an address that is no name", `{"node_id":"n","state":"OK","caller":".."}`, events.Heartbeat{Health: events.HealthOK}},
		{"errors of one that is ok", `{"node_id":"n","state":"OK","error":"x"}`, events.Heartbeat{Health: events.HealthOK}},
	} {
		got, err := events.DecodeHeartbeat("n", []byte(tt.body))
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tt.name, err, diff)
		}
	}
	for _, body := range []string{
		``, `[]`, `{}`, `nonsense`, `{"node_id":"n"}`, `{"state":"OK"}`, `{"node_id":"m","state":"OK"}`, `{"node_id":1,"state":"OK"}`,
		`{"node_id":"n","state":"MISSING"}`, `{"node_id":"n","state":"600-RUNNING"}`, `{"node_id":"n","state":1}`, `{"node_id":"n","state":"OK"`,
	} {
		if got, err := events.DecodeHeartbeat("n", []byte(body)); err == nil {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

// nested is a list so many levels deep.
func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

func TestDecodeHeartbeat_largeErrors(t *testing.T) {
	t.Parallel()
	large, err := json.Marshal(map[string]any{
		"node_id": "n", "state": "PROCESS_ERROR", "error": "first",
		"failed_processes": []any{map[string]string{"stderr": strings.Repeat("x", 100_000)}, map[string]string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := events.DecodeHeartbeat("n", large)
	want := rawList(`"first"`, `"2 more errors are left out: they are too large"`)
	if diff := cmp.Diff(want, h.Errors); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// TestInstance_Heard is the table of design §4: what is news.
func TestInstance_Heard(t *testing.T) {
	t.Parallel()
	ok := events.Heartbeat{Health: events.HealthOK}
	failed := events.Heartbeat{Health: events.HealthProcessError, Errors: rawList("1")}
	now, then := time.Unix(100, 0).UTC(), time.Unix(50, 0).UTC()
	late := failed
	late.ErrorTime = then
	for _, tt := range []struct {
		health events.Health
		state  events.InstanceState
		said   events.Heartbeat
		want   events.Health // "": no news
	}{
		{events.HealthUnknown, events.Running, ok, events.HealthOK},
		{events.HealthOK, events.Running, ok, ""},
		{events.HealthMonitorError, events.Running, ok, events.HealthOK},
		{events.HealthOutOfContact, events.Running, ok, events.HealthOK},
		{events.HealthMissing, events.Running, ok, events.HealthOK},
		{events.HealthUnknown, events.Pending, ok, events.HealthOK},
		{events.HealthUnknown, events.Terminating, ok, events.HealthOK},
		{events.HealthUnknown, events.Terminated, ok, ""},
		{events.HealthUnknown, events.Failed, ok, ""},
		{events.HealthZombie, events.Terminating, ok, ""},
		{events.HealthZombie, events.Terminated, failed, ""},
		{events.HealthOK, events.Running, failed, events.HealthProcessError},
		{events.HealthMonitorError, events.Running, failed, events.HealthProcessError},
		{events.HealthProcessError, events.Running, failed, ""},
		{events.HealthUnknown, events.Terminated, failed, events.HealthProcessError},
	} {
		i := events.Instance{Health: tt.health, State: tt.state}
		ev, news := i.Heard(tt.said, now)
		if news != (tt.want != "") || news && ev.Health != tt.want {
			t.Errorf("%s %s hears %s: %+v %v, want %q", tt.state, tt.health, tt.said.Health, ev, news, tt.want)
		}
	}
	i := events.Instance{Health: events.HealthOK, State: events.Running}
	if ev, _ := i.Heard(failed, now); !ev.ErrorTime.Equal(now) || len(ev.Errors) != 1 {
		t.Errorf("without a time of its own: %+v", ev)
	}
	if ev, _ := i.Heard(late, now); !ev.ErrorTime.Equal(then) {
		t.Errorf("with a time of its own: %+v", ev)
	}
	bare := events.Heartbeat{Health: events.HealthMonitorError}
	if ev, _ := i.Heard(bare, now); ev.Errors == nil {
		t.Error("errors of before stay where there are none")
	}
}

// BenchmarkDecodeHeartbeat is one that changes nothing.
func BenchmarkDecodeHeartbeat(b *testing.B) {
	body := []byte(`{"node_id":"01a20569-d60e-739f-833b-5e7e952822b5","state":"OK","caller":"epum-agent-local","timestamp":"2026-01-02T03:04:05Z"}`)
	i := events.Instance{Health: events.HealthOK, State: events.Running}
	for b.Loop() {
		h, err := events.DecodeHeartbeat("01a20569-d60e-739f-833b-5e7e952822b5", body)
		if _, news := i.Heard(h, time.Time{}); err != nil || news {
			b.Fatal(err)
		}
	}
}
