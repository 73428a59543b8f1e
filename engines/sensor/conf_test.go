package sensor_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/sensor"
)

// conf is an engine_conf with the launch keys and these.
func conf(more string) string {
	return `{"iaas_site":"s","iaas_allocation":"small","deployable_type":"worker",` + more + `}`
}

// scaling is an engine_conf that scales by the load of each instance, and these.
func scaling(more string) string {
	return conf(`"sensor_type":"nats","metric":"load","monitor_sensors":["load"],"scale_up_threshold":2,"scale_down_threshold":1,` + more)
}

// reference is the config of the reference's test_sensor_data.
const reference = `{"sensor_type":"mockcloudwatch","iaas_site":"fake","iaas_allocation":"also.fake","deployable_type":"fake","minimum_vms":1,
	"metric":"load","monitor_sensors":["load"],"monitor_domain_sensors":["queuelen"],"sample_function":"Average"}`

func TestKind_Validate(t *testing.T) {
	kind := sensor.Kind()
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: reference},
		{Conf: conf(`"minimum_vms":0`)},
		{Conf: conf(`"minimum_vms":2,"maximum_vms":2`)},
		{Conf: conf(`"minimum_vms":2,"maximum_vms":null,"metric":null,"scale_up_threshold":null,"cooldown_period":null,"on_missing":null,"scale_down_n_vms":null`)},
		{Conf: scaling(`"minimum_vms":0,"maximum_vms":5,"cooldown_period":0.5,"scale_up_n_vms":2,"scale_down_n_vms":-2,"on_missing":"fail_out"`)},
		{Conf: scaling(`"minimum_vms":0,"retirable_nodes":"a, b","unique_key":"k","unique_values":["a"],"provisioner_vars":{},"sample_period":5,"sensor_data":[1],"sensor_queries":{"load":"q"}`)},
		{Conf: conf(`"minimum_vms":1,"metric":"q","monitor_domain_sensors":["q"],"scale_down_threshold":-1`)},
		{Conf: conf(`"minimum_vms":1,"metric":"q","monitor_domain_sensors":["q"],"scale_up_threshold":1,"scale_down_threshold":1`)},
		{Conf: conf(`"minimum_vms":1,"scale_down_n_vms":-9223372036854775808`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{"scale_up_threshold":1}`, Incomplete: true},
		{Conf: `{"metric":"load","scale_up_threshold":1}`, Incomplete: true},
		{Conf: `{"unique_key":"k","maximum_vms":0}`, Incomplete: true},

		{Conf: conf(`"maximum_vms":3`), Field: "minimum_vms", Message: "is required"},
		{Conf: conf(`"minimum_vms":-1`), Field: "minimum_vms", Message: "is -1, but must be an integer of 0 or more"},
		{Conf: conf(`"minimum_vms":1.5`), Field: "minimum_vms", Message: "must be an integer"},
		{Conf: conf(`"minimum_vms":2,"maximum_vms":1`), Field: "maximum_vms", Message: "at least minimum_vms, which is 2"},
		{Conf: `{"maximum_vms":-1}`, Incomplete: true, Field: "maximum_vms", Message: "is -1"},
		{Conf: `{"minimum_vms":1,"iaas_allocation":"a","deployable_type":"t"}`, Field: "iaas_site", Message: "is required"},
		{Conf: `{"minimum_vms":1,"iaas_site":"s","deployable_type":"t"}`, Field: "iaas_allocation", Message: "is required"},
		{Conf: `{"minimum_vms":1,"iaas_site":"s","iaas_allocation":"a"}`, Field: "deployable_type", Message: "is required"},
		{Conf: conf(`"minimum_vms":1,"scale_up_threshold":1`), Field: "metric", Message: "is required with scale_up_threshold"},
		{Conf: conf(`"minimum_vms":1,"scale_down_threshold":1,"monitor_sensors":["load"]`), Field: "metric", Message: "is required with"},
		{Conf: conf(`"minimum_vms":1,"metric":"load"`), Field: "metric", Message: `is "load", which is not monitored: name it in monitor_sensors`},
		{Conf: conf(`"minimum_vms":1,"metric":"load","monitor_sensors":["Load"],"scale_up_threshold":1`), Field: "metric", Message: "is not monitored"},
		{Conf: conf(`"minimum_vms":1,"metric":""`), Field: "metric", Message: "must be a name"},
		{Conf: scaling(`"minimum_vms":1,"scale_down_threshold":3`), Field: "scale_down_threshold", Message: "given twice"},
		{Conf: `{"scale_up_threshold":1,"scale_down_threshold":1.5}`, Incomplete: true, Field: "scale_down_threshold", Message: "is 1.5, but must be at most scale_up_threshold, 1"},
		{Conf: `{"scale_up_threshold":"1"}`, Incomplete: true, Field: "scale_up_threshold", Message: "must be a finite number"},
		{Conf: `{"scale_up_threshold":1e999}`, Incomplete: true, Field: "scale_up_threshold", Message: "must be a finite number"},
		{Conf: `{"scale_up_n_vms":0}`, Incomplete: true, Field: "scale_up_n_vms", Message: "is 0, but must be an integer of 1 or more"},
		{Conf: `{"scale_up_n_vms":-1}`, Incomplete: true, Field: "scale_up_n_vms", Message: "is -1"},
		{Conf: `{"scale_down_n_vms":0}`, Incomplete: true, Field: "scale_down_n_vms", Message: "is 0"},
		{Conf: `{"cooldown_period":-1}`, Incomplete: true, Field: "cooldown_period", Message: "at least 0"},
		{Conf: `{"on_missing":"panic"}`, Incomplete: true, Field: "on_missing", Message: "one of: hold, ignore_instance, fail_out"},
		{Conf: `{"sensor_type":"ganglia"}`, Incomplete: true, Field: "sensor_type", Message: "one of"},
		{Conf: `{"sample_function":"Median"}`, Incomplete: true, Field: "sample_function", Message: "one of"},
		{Conf: `{"sample_period":0}`, Incomplete: true, Field: "sample_period", Message: "above 0"},
		{Conf: `{"retirable_nodes":1}`, Incomplete: true, Field: "retirable_nodes", Message: "must be a list of strings, or one string with commas between them"},
		{Conf: conf(`"minimum_vms":1,"unique_key":"k"`), Field: "unique_values", Message: "is required with unique_key"},
		{Conf: `{"preserve_n":1}`, Incomplete: true, Field: "preserve_n", Message: "is not known"},
	})
	if kind.Name != "sensor" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.sensor.SensorEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	enginetest.CheckDoc(t, kind, conf(`"minimum_vms":1`))
}

func TestKind_Sensing(t *testing.T) {
	want := engines.Sensing{
		Source: "mockcloudwatch", Instances: []string{"load"}, Domain: []string{"queuelen"}, Statistic: "Average", Period: 90 * time.Second, Data: []float64{0},
	}
	if diff := cmp.Diff(want, sensor.Kind().Sensing(json.RawMessage(reference))); diff != "" {
		t.Error(diff)
	}
}
