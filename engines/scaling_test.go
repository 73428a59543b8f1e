package engines_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

// TestGivenScaling_Required: each engine says which keys it cannot do without, and
// what is wrong is refused all the same in a definition.
func TestGivenScaling_Required(t *testing.T) {
	const all = `{"minimum_vms":1,"maximum_vms":2,"metric":"load","sensor_type":"nats","monitor_sensors":["load"]}`
	for _, tt := range []struct {
		conf     string
		required string
		field    string // "": accepted
	}{
		{`{}`, "", ""},
		{all, "minimum_vms maximum_vms metric sensor_type", ""},
		{`{}`, "minimum_vms", "minimum_vms"},
		{`{"minimum_vms":0}`, "minimum_vms", ""},
		{`{}`, "maximum_vms metric sensor_type", "maximum_vms"},
		{`{"maximum_vms":3}`, "maximum_vms metric sensor_type", "metric"},
		{`{"maximum_vms":3,"metric":"load"}`, "maximum_vms metric sensor_type", "sensor_type"},
		{`{"metric":"load"}`, "", "metric"},
	} {
		var given engines.GivenScaling
		if err := engines.DecodeEngineConf(json.RawMessage(tt.conf), &given); err != nil {
			t.Fatal(err)
		}
		s, err := given.Scaling(true, strings.Fields(tt.required)...)
		refused, _ := errors.AsType[*engines.FieldError](err)
		if (err == nil) != (tt.field == "") || err != nil && refused.Field != "engine_conf."+tt.field {
			t.Errorf("%s: %v", tt.conf, err)
		}
		if given.Maximum == nil && err == nil && s.Maximum != engines.Unlimited {
			t.Errorf("%s: at most %d", tt.conf, s.Maximum)
		}
		if _, err := given.Scaling(false, strings.Fields(tt.required)...); err != nil {
			t.Errorf("%s: %v, though it is a definition", tt.conf, err)
		}
	}
}

func TestFigure(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 10: "10", 4.2: "4.2", 4.25678: "4.257", 0.000423456: "0.000423", -0.05: "-0.05", 2.001: "2.001", 1234567.5: "1234567.5", -1.5: "-1.5", 1e6: "1000000"} {
		if got := engines.Figure(n); got != want {
			t.Errorf("%g: %s, want %s", n, got, want)
		}
	}
	if got := engines.Figure(math.MaxFloat64); strings.Trim(got, "0123456789") != "" {
		t.Errorf("more than one figure: %s", got)
	}
}
