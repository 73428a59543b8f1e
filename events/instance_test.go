package events_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// fields makes reported fields of names and JSON values.
func fields(pairs ...string) events.Fields {
	var list []events.Field
	for n := 0; n < len(pairs); n += 2 {
		list = append(list, events.Field{Name: pairs[n], Value: raw(pairs[n+1])})
	}
	return events.SortedFields(list)
}

func rawList(values ...string) []json.RawMessage {
	var list []json.RawMessage
	for _, v := range values {
		list = append(list, raw(v))
	}
	return list
}

func TestInstanceState_Order(t *testing.T) {
	if !slices.IsSorted(events.InstanceStates) || len(events.InstanceStates) != 11 {
		t.Errorf("states %q", events.InstanceStates)
	}
	for _, s := range events.InstanceStates {
		terminal := s == events.Terminated || s == events.Failed || s == events.Rejected
		i := events.Instance{State: s}
		if !s.Known() || s.Terminal() != terminal || i.Valid() == (terminal || s == events.Terminating) {
			t.Errorf("%s: known %v, terminal %v, valid %v", s, s.Known(), s.Terminal(), i.Valid())
		}
	}
	for _, s := range []events.InstanceState{"", "600", "RUNNING", "600-RUNNING ", "999-NEWER"} {
		if s.Known() {
			t.Errorf("%q is known", s)
		}
	}
}

// TestApply_StateNeverGoesBack goes from every state to every state.
func TestApply_StateNeverGoesBack(t *testing.T) {
	for _, from := range events.InstanceStates {
		for _, to := range events.InstanceStates {
			l := newLog().all()
			l.add(dom.InstanceKey("i"), events.StateChanged{State: from})
			l.add(dom.InstanceKey("i"), events.HealthChanged{Health: events.HealthOK, Errors: rawList("1")})
			before := l.state.Instance("i")
			seq := l.add(dom.InstanceKey("i"), events.StateChanged{State: to, Fields: fields("a", "1")})
			i := l.state.Instance("i")

			want := *before
			want.Seq, want.Fields = seq, []events.Field{{Name: "a", Value: raw("1")}}
			if to > from {
				want.State, want.StateTime = to, at(seq)
				if to == events.Running {
					want.RunningTime, want.HealthyTime = at(seq), at(seq) // it was OK already
				}
				if to >= events.Terminating {
					want.Health = events.HealthUnknown
				}
			}
			if diff := cmp.Diff(&want, i); diff != "" {
				t.Errorf("%s to %s: %s", from, to, diff)
			}
			if before.Fields != nil {
				t.Errorf("%s to %s changed an instance that was handed out", from, to)
			}
		}
	}
}

func TestApply_Health(t *testing.T) {
	first, second := at(100), at(200)
	l := newLog().all()
	for _, step := range []struct {
		ev     events.Event
		health events.Health
		errs   []json.RawMessage
		time   any
	}{
		{events.HealthChanged{Health: events.HealthOK}, events.HealthOK, nil, nil},
		{events.HealthChanged{Health: events.HealthMonitorError, Errors: rawList("1"), ErrorTime: &first}, events.HealthMonitorError, rawList("1"), first},
		{events.HealthChanged{Health: events.HealthOutOfContact}, events.HealthOutOfContact, rawList("1"), first},
		{events.HealthChanged{Health: events.HealthProcessError, Errors: rawList("2", "3"), ErrorTime: &second}, events.HealthProcessError, rawList("2", "3"), second},
		{events.StateChanged{State: events.Running}, events.HealthProcessError, rawList("2", "3"), second},
		{events.TerminateRequested{}, events.HealthUnknown, rawList("2", "3"), second},
		{events.HealthChanged{Health: events.HealthZombie}, events.HealthZombie, rawList("2", "3"), second},
		{events.TerminateRequested{}, events.HealthZombie, rawList("2", "3"), second}, // no news
		{events.StateChanged{State: events.Terminated}, events.HealthUnknown, rawList("2", "3"), second},
	} {
		l.add(dom.InstanceKey("i"), step.ev)
		i := l.state.Instance("i")
		var when any
		if i.ErrorTime != nil {
			when = *i.ErrorTime
		}
		if i.Health != step.health || cmp.Diff(step.errs, i.Errors) != "" || when != step.time {
			t.Errorf("after %+v: %s %s %v", step.ev, i.Health, i.Errors, when)
		}
	}
}

func TestInstance_Unhealthy(t *testing.T) {
	sick := map[events.Health]bool{
		events.HealthUnknown: false, events.HealthOK: false, events.HealthMonitorError: true, events.HealthProcessError: true,
		events.HealthOutOfContact: false, events.HealthMissing: true, events.HealthZombie: false,
	}
	for _, s := range events.InstanceStates {
		for h, unhealthy := range sick {
			i := events.Instance{State: s, Health: h}
			want := s == events.RunningFailed || unhealthy && s < events.Terminated
			if i.Unhealthy() != want {
				t.Errorf("%s %s: unhealthy %v", s, h, i.Unhealthy())
			}
		}
	}
}

func TestInstance_NewFields(t *testing.T) {
	i := &events.Instance{Fields: []events.Field{{Name: "a", Value: raw(`{"x":1,"y":2}`)}, {Name: "b", Value: raw("null")}}}
	tests := []struct {
		name           string
		reported, want events.Fields
	}{
		{"nothing", nil, nil},
		{"the same", fields("a", `{"x":1,"y":2}`, "b", "null"), nil},
		{"the same, written otherwise", fields("a", `{ "y":2, "x":1 }`), nil},
		{"changed", fields("a", `{"x":1}`, "b", "null"), fields("a", `{"x":1}`)},
		{"new", fields("c", "1"), fields("c", "1")},
		{"a new null", fields("c", "null"), fields("c", "null")},
		{"another case", fields("A", `{"x":1,"y":2}`, "State", "1"), fields("A", `{"x":1,"y":2}`, "State", "1")},
		{"not a report's to set", fields(
			"instance_id", "1", "node_id", "1", "owner", "1", "launch_id", "1", "deployable_type", "1", "site", "1", "allocation", "1", "extravars", "1",
			"state", "1", "state_time", "1", "health", "1", "errors", "1", "error_time", "1", "sensor_data", "1", "seq", "1", "epum", "1",
		), nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, i.NewFields(tt.reported)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestInstance_Field(t *testing.T) {
	l := newLog().all()
	l.add(dom.InstanceKey("i"), events.StateChanged{State: events.Pending, Fields: fields("b", "1", "d", "2")})
	l.add(dom.InstanceKey("i"), events.StateChanged{State: events.Pending, Fields: fields("a", "3", "d", "4", "c", "5")})
	i := l.state.Instance("i")
	was := string(i.AppendShown(nil, nil))
	l.add(dom.InstanceKey("i"), events.StateChanged{State: events.Pending, Fields: fields("b", "6", "e", "7")})
	if diff := cmp.Diff(was, string(i.AppendShown(nil, nil))); diff != "" {
		t.Errorf("an instance that was handed out has changed: %s", diff)
	}
	for name, want := range map[string]string{"a": "3", "b": "1", "c": "5", "d": "4", "e": "", "": ""} {
		if got := string(i.Fields.Get(name)); got != want {
			t.Errorf("field %q is %s, want %s", name, got, want)
		}
	}
}
