package targettracking_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/targettracking"
)

func TestKind_Validate(t *testing.T) {
	kind := targettracking.Kind()
	const rest = `,"target_value":2,"maximum_vms":10`
	both := `"metric":"load","sensor_type":"nats","monitor_sensors":["load"],"monitor_domain_sensors":["load"],` + launch
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: conf(instance, rest)},
		{conf: conf(domain, rest)},
		{conf: conf(domain, rest+`,"metric_scope":"domain"`)},
		{conf: conf(both, rest+`,"metric_scope":"instance"`)},
		{conf: conf(instance, rest+`,"minimum_vms":10,"scale_out_cooldown":0,"scale_in_cooldown":1.5,"tolerance":0,"stabilization_window":0,
			"max_step_out":4,"max_step_in":"12.5%","on_missing":"fail_out","retirable_nodes":"a,b","unique_key":"k","unique_values":["v"],
			"sample_function":"Maximum","sample_period":60,"provisioner_vars":{"a":1}`)},
		{conf: conf(instance, rest+`,"tolerance":null,"max_step_out":null,"max_step_in":null,"on_missing":null,"metric_scope":null,"stabilization_window":null`)},
		{conf: ``, incomplete: true},
		{conf: `{}`, incomplete: true},
		{conf: `{"metric":"load","metric_scope":"domain"}`, incomplete: true},
		{conf: ``, field: "iaas_site"},
		{conf: `{` + launch + `}`, field: "maximum_vms", message: "required"},
		{conf: `{` + launch + `,"maximum_vms":1}`, field: "metric", message: "required"},
		{conf: `{` + launch + `,"maximum_vms":1,"metric":"load"}`, field: "sensor_type", message: "required"},
		{conf: conf(launch, `,"maximum_vms":1,"metric":"load","sensor_type":"nats"`), field: "metric", message: "name it in monitor_sensors"},
		{conf: conf(instance, `,"maximum_vms":10`), field: "target_value", message: "required"},
		{conf: conf(instance, `,"maximum_vms":10,"target_value":0`), field: "target_value", message: "above 0"},
		{conf: `{"target_value":-1}`, incomplete: true, field: "target_value"},
		{conf: `{"target_value":"2"}`, incomplete: true, field: "target_value", message: "finite number"},
		{conf: `{"metric":"a\nb"}`, incomplete: true, field: "metric"},
		{conf: conf(both, rest), field: "metric_scope", message: "required"},
		{conf: conf(instance, rest+`,"metric_scope":"domain"`), field: "metric_scope", message: "monitor_domain_sensors"},
		{conf: conf(domain, rest+`,"metric_scope":"instance"`), field: "metric_scope", message: "not in monitor_sensors"},
		{conf: `{"metric_scope":"all"}`, incomplete: true, field: "metric_scope"},
		{conf: `{"minimum_vms":-1}`, incomplete: true, field: "minimum_vms"},
		{conf: `{"minimum_vms":3,"maximum_vms":2}`, incomplete: true, field: "maximum_vms", message: "which is 3"},
		{conf: `{"maximum_vms":-1}`, incomplete: true, field: "maximum_vms"},
		{conf: `{"maximum_vms":1.5}`, incomplete: true, field: "maximum_vms"},
		{conf: `{"tolerance":-0.1}`, incomplete: true, field: "tolerance"},
		{conf: `{"tolerance":1}`, incomplete: true, field: "tolerance"},
		{conf: `{"scale_out_cooldown":-1}`, incomplete: true, field: "scale_out_cooldown"},
		{conf: `{"scale_in_cooldown":-1}`, incomplete: true, field: "scale_in_cooldown"},
		{conf: `{"stabilization_window":-1}`, incomplete: true, field: "stabilization_window"},
		{conf: `{"max_step_out":0}`, incomplete: true, field: "max_step_out", message: `"50%"`},
		{conf: `{"max_step_out":1.5}`, incomplete: true, field: "max_step_out"},
		{conf: `{"max_step_out":"4"}`, incomplete: true, field: "max_step_out"},
		{conf: `{"max_step_in":"0%"}`, incomplete: true, field: "max_step_in"},
		{conf: `{"max_step_in":"NaN%"}`, incomplete: true, field: "max_step_in"},
		{conf: `{"max_step_in":{}}`, incomplete: true, field: "max_step_in"},
		{conf: `{"on_missing":"zero"}`, incomplete: true, field: "on_missing", message: "one of: hold"},
		{conf: `{"sensor_type":"x"}`, incomplete: true, field: "sensor_type"},
		{conf: `{"sample_function":"x"}`, incomplete: true, field: "sample_function"},
		{conf: `{"retirable_nodes":1}`, incomplete: true, field: "retirable_nodes"},
		{conf: `{"more":1}`, incomplete: true, field: "more"},
		{conf: `{"metric":"a","metric":"b"}`, incomplete: true, field: "metric"},
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
		"metric", "metric_scope", "target_value", "tolerance", "minimum_vms", "maximum_vms", "scale_out_cooldown", "scale_in_cooldown",
		"stabilization_window", "max_step_out", "max_step_in", "sensor_type", "monitor_sensors", "monitor_domain_sensors", "sample_function",
		"sample_period", "sensor_data", "sensor_queries", "on_missing", "iaas_site", "iaas_allocation", "deployable_type", "provisioner_vars",
		"retirable_nodes", "unique_key", "unique_values",
	} {
		if !strings.Contains(kind.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestKind_Sensing(t *testing.T) {
	got := targettracking.Kind().Sensing(json.RawMessage(conf(domain, `,"target_value":2,"maximum_vms":10,"sample_function":"Sum"`)))
	want := engines.Sensing{Source: "nats", Domain: []string{"queue"}, Statistic: "Sum", Period: 90e9, Data: []float64{0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzConf: an engine_conf that is accepted makes an engine that decides, one that
// is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	kind := targettracking.Kind()
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
