package step_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/step"
)

func TestKind_Validate(t *testing.T) {
	kind := step.Kind()
	steps := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"from":%d,"add":1}`, i))
		}
		return `{"steps_out":[` + strings.Join(list, ",") + `]}`
	}
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: conf(out, in, bounds)},
		{conf: conf(out, bounds)},
		{conf: conf(in, bounds)},
		{conf: conf(out, in, bounds, `,"cooldown_out":0,"cooldown_in":1.5,"on_missing":"fail_out","retirable_nodes":"a,b","unique_key":"k",
			"unique_values":["v"],"sample_function":"Maximum","sample_period":60,"provisioner_vars":{"a":1}`)},
		{conf: conf(out, bounds, `,"threshold_in":null,"steps_in":null,"cooldown_out":null`)},
		{conf: conf(out, bounds, `,"steps_in":[]`)},
		{conf: ``, incomplete: true},
		{conf: `{}`, incomplete: true},
		{conf: `{"threshold_out":5}`, incomplete: true},
		{conf: steps(32), incomplete: true},
		{conf: ``, field: "iaas_site"},
		{conf: conf(bounds), field: "threshold_out", message: "nothing would ever be done"},
		{conf: conf(bounds, `,"threshold_out":5`), field: "steps_out", message: "required with threshold_out"},
		{conf: conf(bounds, `,"threshold_in":5,"steps_in":[]`), field: "steps_in", message: "required with threshold_in"},
		{conf: conf(bounds, `,"steps_out":[{"from":0,"add":1}]`), field: "threshold_out", message: "required with steps_out"},
		{conf: conf(bounds, `,"steps_in":[{"from":0,"remove":1}]`), field: "threshold_in"},
		{conf: conf(in, bounds, `,"on_missing":"fail_out"`), field: "on_missing", message: "first of steps_out"},
		{conf: conf(out, `,"threshold_in":20,"steps_in":[{"from":0,"remove":1}]`), field: "maximum_vms", message: "required"},
		{conf: `{"threshold_out":5,"threshold_in":5}`, incomplete: true, field: "threshold_in", message: "below threshold_out, which is 5"},
		{conf: `{"steps_out":[{"add":1}]}`, incomplete: true, field: "steps_out.0.from", message: "required"},
		{conf: `{"steps_out":[{"from":-1,"add":1}]}`, incomplete: true, field: "steps_out.0.from"},
		{conf: `{"steps_out":[{"from":0}]}`, incomplete: true, field: "steps_out.0.add", message: "required"},
		{conf: `{"steps_out":[{"from":0,"add":0}]}`, incomplete: true, field: "steps_out.0.add"},
		{conf: `{"steps_out":[{"from":0,"remove":1}]}`, incomplete: true, field: "steps_out.0.remove"},
		{conf: `{"steps_in":[{"from":0,"remove":"1"}]}`, incomplete: true, field: "steps_in.0.remove", message: `"50%"`},
		{conf: `{"steps_in":[{"from":0,"remove":"-5%"}]}`, incomplete: true, field: "steps_in.0.remove"},
		{conf: `{"steps_out":[{"from":0,"add":1},{"from":0,"add":2}]}`, incomplete: true, field: "steps_out.1.from", message: "overlaps"},
		{conf: `{"steps_in":[{"from":9,"remove":1},{"from":3,"remove":2}]}`, incomplete: true, field: "steps_in.1.from", message: "sort the steps"},
		{conf: steps(33), incomplete: true, field: "steps_out", message: "at most 32"},
		{conf: `{"steps_out":{}}`, incomplete: true, field: "steps_out"},
		{conf: `{"threshold_out":"5"}`, incomplete: true, field: "threshold_out"},
		{conf: `{"cooldown_out":-1}`, incomplete: true, field: "cooldown_out"},
		{conf: `{"cooldown_in":-1}`, incomplete: true, field: "cooldown_in"},
		{conf: `{"minimum_vms":3,"maximum_vms":2}`, incomplete: true, field: "maximum_vms"},
		{conf: `{"on_missing":"zero"}`, incomplete: true, field: "on_missing"},
		{conf: `{"more":1}`, incomplete: true, field: "more"},
	} {
		var refused *engines.FieldError
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!errors.As(err, &refused) || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want one about %s, %q", tt.conf, err, tt.field, tt.message)
		}
	}
	for _, key := range []string{
		"metric", "threshold_out", "steps_out", "threshold_in", "steps_in", "cooldown_out", "cooldown_in", "minimum_vms", "maximum_vms",
		"sensor_type", "monitor_sensors", "monitor_domain_sensors", "sample_function", "sample_period", "sensor_data", "sensor_queries",
		"on_missing", "iaas_site", "iaas_allocation", "deployable_type", "provisioner_vars", "retirable_nodes", "unique_key", "unique_values",
	} {
		if !strings.Contains(kind.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestKind_Sensing(t *testing.T) {
	got := step.Kind().Sensing(json.RawMessage(conf(out, bounds, `,"sample_period":30`)))
	want := engines.Sensing{Source: "nats", Instances: []string{"load"}, Statistic: "Average", Period: 30e9, Data: []float64{0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzConf: an engine_conf that is accepted makes an engine that decides, one that
// is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := step.Kind()
	f.Fuzz(func(t *testing.T, given []byte) {
		err := kind.Validate(given, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		made, newErr := kind.New(given, nil)
		if (newErr == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, newErr)
		}
		if err != nil {
			return
		}
		if kind.Validate(given, false) != nil {
			t.Fatal("complete, but not as a template")
		}
		if d, err := made.Decide(&engines.View{MaxActions: 10}); err != nil || d.Target < 0 {
			t.Fatalf("%+v, %v", d, err)
		}
	})
}
