package targettracking_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/targettracking"
)

func TestKind_Validate(t *testing.T) {
	kind := targettracking.Kind()
	const rest = `,"target_value":2,"maximum_vms":10`
	both := `"metric":"load","sensor_type":"nats","monitor_sensors":["load"],"monitor_domain_sensors":["load"],` + launch
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: conf(instance, rest)},
		{Conf: conf(domain, rest)},
		{Conf: conf(domain, rest+`,"metric_scope":"domain"`)},
		{Conf: conf(both, rest+`,"metric_scope":"instance"`)},
		{Conf: conf(instance, rest+`,"minimum_vms":10,"scale_out_cooldown":0,"scale_in_cooldown":1.5,"tolerance":0,"stabilization_window":0,
			"max_step_out":4,"max_step_in":"12.5%","on_missing":"fail_out","retirable_nodes":"a,b","unique_key":"k","unique_values":["v"],
			"sample_function":"Maximum","sample_period":60,"provisioner_vars":{"a":1}`)},
		{Conf: conf(instance, rest+`,"tolerance":null,"max_step_out":null,"max_step_in":null,"on_missing":null,"metric_scope":null,"stabilization_window":null`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"metric":"load","metric_scope":"domain"}`, Incomplete: true},
		{Conf: ``, Field: "iaas_site"},
		{Conf: `{` + launch + `}`, Field: "maximum_vms", Message: "required"},
		{Conf: `{` + launch + `,"maximum_vms":1}`, Field: "metric", Message: "required"},
		{Conf: `{` + launch + `,"maximum_vms":1,"metric":"load"}`, Field: "sensor_type", Message: "required"},
		{Conf: conf(launch, `,"maximum_vms":1,"metric":"load","sensor_type":"nats"`), Field: "metric", Message: "name it in monitor_sensors"},
		{Conf: conf(instance, `,"maximum_vms":10`), Field: "target_value", Message: "required"},
		{Conf: conf(instance, `,"maximum_vms":10,"target_value":0`), Field: "target_value", Message: "above 0"},
		{Conf: `{"target_value":-1}`, Incomplete: true, Field: "target_value"},
		{Conf: `{"target_value":"2"}`, Incomplete: true, Field: "target_value", Message: "finite number"},
		{Conf: `{"metric":"a\nb"}`, Incomplete: true, Field: "metric"},
		{Conf: conf(both, rest), Field: "metric_scope", Message: "required"},
		{Conf: conf(instance, rest+`,"metric_scope":"domain"`), Field: "metric_scope", Message: "monitor_domain_sensors"},
		{Conf: conf(domain, rest+`,"metric_scope":"instance"`), Field: "metric_scope", Message: "not in monitor_sensors"},
		{Conf: `{"metric_scope":"all"}`, Incomplete: true, Field: "metric_scope"},
		{Conf: `{"minimum_vms":-1}`, Incomplete: true, Field: "minimum_vms"},
		{Conf: `{"minimum_vms":3,"maximum_vms":2}`, Incomplete: true, Field: "maximum_vms", Message: "which is 3"},
		{Conf: `{"maximum_vms":-1}`, Incomplete: true, Field: "maximum_vms"},
		{Conf: `{"maximum_vms":1.5}`, Incomplete: true, Field: "maximum_vms"},
		{Conf: `{"tolerance":-0.1}`, Incomplete: true, Field: "tolerance"},
		{Conf: `{"tolerance":1}`, Incomplete: true, Field: "tolerance"},
		{Conf: `{"scale_out_cooldown":-1}`, Incomplete: true, Field: "scale_out_cooldown"},
		{Conf: `{"scale_in_cooldown":-1}`, Incomplete: true, Field: "scale_in_cooldown"},
		{Conf: `{"stabilization_window":-1}`, Incomplete: true, Field: "stabilization_window"},
		{Conf: `{"max_step_out":0}`, Incomplete: true, Field: "max_step_out", Message: `"50%"`},
		{Conf: `{"max_step_out":1.5}`, Incomplete: true, Field: "max_step_out"},
		{Conf: `{"max_step_out":"4"}`, Incomplete: true, Field: "max_step_out"},
		{Conf: `{"max_step_in":"0%"}`, Incomplete: true, Field: "max_step_in"},
		{Conf: `{"max_step_in":"NaN%"}`, Incomplete: true, Field: "max_step_in"},
		{Conf: `{"max_step_in":{}}`, Incomplete: true, Field: "max_step_in"},
		{Conf: `{"on_missing":"zero"}`, Incomplete: true, Field: "on_missing", Message: "one of: hold"},
		{Conf: `{"sensor_type":"x"}`, Incomplete: true, Field: "sensor_type"},
		{Conf: `{"sample_function":"x"}`, Incomplete: true, Field: "sample_function"},
		{Conf: `{"retirable_nodes":1}`, Incomplete: true, Field: "retirable_nodes"},
		{Conf: `{"more":1}`, Incomplete: true, Field: "more"},
		{Conf: `{"metric":"a","metric":"b"}`, Incomplete: true, Field: "metric"},
	})
	enginetest.CheckDoc(t, kind, conf(instance, rest))
}

func TestKind_Sensing(t *testing.T) {
	got := targettracking.Kind().Sensing(json.RawMessage(conf(domain, `,"target_value":2,"maximum_vms":10,"sample_function":"Sum"`)))
	want := engines.Sensing{Source: "nats", Domain: []string{"queue"}, Statistic: "Sum", Period: 90e9, Data: []float64{0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, targettracking.Kind()) }
