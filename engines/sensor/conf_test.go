package sensor_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
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
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string
	}{
		{conf: reference},
		{conf: conf(`"minimum_vms":0`)},
		{conf: conf(`"minimum_vms":2,"maximum_vms":2`)},
		{conf: conf(`"minimum_vms":2,"maximum_vms":null,"metric":null,"scale_up_threshold":null,"cooldown_period":null,"on_missing":null,"scale_down_n_vms":null`)},
		{conf: scaling(`"minimum_vms":0,"maximum_vms":5,"cooldown_period":0.5,"scale_up_n_vms":2,"scale_down_n_vms":-2,"on_missing":"fail_out"`)},
		{conf: scaling(`"minimum_vms":0,"retirable_nodes":"a, b","unique_key":"k","unique_values":["a"],"provisioner_vars":{},"sample_period":5,"sensor_data":[1],"sensor_queries":{"load":"q"}`)},
		{conf: conf(`"minimum_vms":1,"metric":"q","monitor_domain_sensors":["q"],"scale_down_threshold":-1`)},
		{conf: conf(`"minimum_vms":1,"metric":"q","monitor_domain_sensors":["q"],"scale_up_threshold":1,"scale_down_threshold":1`)},
		{conf: conf(`"minimum_vms":1,"scale_down_n_vms":-9223372036854775808`)},
		{conf: ``, incomplete: true},
		{conf: `{"scale_up_threshold":1}`, incomplete: true},
		{conf: `{"metric":"load","scale_up_threshold":1}`, incomplete: true},
		{conf: `{"unique_key":"k","maximum_vms":0}`, incomplete: true},

		{conf: conf(`"maximum_vms":3`), field: "minimum_vms", message: "is required"},
		{conf: conf(`"minimum_vms":-1`), field: "minimum_vms", message: "is -1, but must be an integer of 0 or more"},
		{conf: conf(`"minimum_vms":1.5`), field: "minimum_vms", message: "must be an integer"},
		{conf: conf(`"minimum_vms":2,"maximum_vms":1`), field: "maximum_vms", message: "at least minimum_vms, which is 2"},
		{conf: `{"maximum_vms":-1}`, incomplete: true, field: "maximum_vms", message: "is -1"},
		{conf: `{"minimum_vms":1,"iaas_allocation":"a","deployable_type":"t"}`, field: "iaas_site", message: "is required"},
		{conf: `{"minimum_vms":1,"iaas_site":"s","deployable_type":"t"}`, field: "iaas_allocation", message: "is required"},
		{conf: `{"minimum_vms":1,"iaas_site":"s","iaas_allocation":"a"}`, field: "deployable_type", message: "is required"},
		{conf: conf(`"minimum_vms":1,"scale_up_threshold":1`), field: "metric", message: "is required with scale_up_threshold"},
		{conf: conf(`"minimum_vms":1,"scale_down_threshold":1,"monitor_sensors":["load"]`), field: "metric", message: "is required with"},
		{conf: conf(`"minimum_vms":1,"metric":"load"`), field: "metric", message: `is "load", which is not monitored: name it in monitor_sensors`},
		{conf: conf(`"minimum_vms":1,"metric":"load","monitor_sensors":["Load"],"scale_up_threshold":1`), field: "metric", message: "is not monitored"},
		{conf: conf(`"minimum_vms":1,"metric":""`), field: "metric", message: "must be a name"},
		{conf: scaling(`"minimum_vms":1,"scale_down_threshold":3`), field: "scale_down_threshold", message: "given twice"},
		{conf: `{"scale_up_threshold":1,"scale_down_threshold":1.5}`, incomplete: true, field: "scale_down_threshold", message: "is 1.5, but must be at most scale_up_threshold, 1"},
		{conf: `{"scale_up_threshold":"1"}`, incomplete: true, field: "scale_up_threshold", message: "must be a finite number"},
		{conf: `{"scale_up_threshold":1e999}`, incomplete: true, field: "scale_up_threshold", message: "must be a finite number"},
		{conf: `{"scale_up_n_vms":0}`, incomplete: true, field: "scale_up_n_vms", message: "is 0, but must be an integer of 1 or more"},
		{conf: `{"scale_up_n_vms":-1}`, incomplete: true, field: "scale_up_n_vms", message: "is -1"},
		{conf: `{"scale_down_n_vms":0}`, incomplete: true, field: "scale_down_n_vms", message: "is 0"},
		{conf: `{"cooldown_period":-1}`, incomplete: true, field: "cooldown_period", message: "at least 0"},
		{conf: `{"on_missing":"panic"}`, incomplete: true, field: "on_missing", message: "one of: hold, ignore_instance, fail_out"},
		{conf: `{"sensor_type":"ganglia"}`, incomplete: true, field: "sensor_type", message: "one of"},
		{conf: `{"sample_function":"Median"}`, incomplete: true, field: "sample_function", message: "one of"},
		{conf: `{"sample_period":0}`, incomplete: true, field: "sample_period", message: "above 0"},
		{conf: `{"retirable_nodes":1}`, incomplete: true, field: "retirable_nodes", message: "must be a list of strings, or one string with commas between them"},
		{conf: conf(`"minimum_vms":1,"unique_key":"k"`), field: "unique_values", message: "is required with unique_key"},
		{conf: `{"preserve_n":1}`, incomplete: true, field: "preserve_n", message: "is not known"},
	} {
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		refused, ok := errors.AsType[*engines.FieldError](err)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!ok || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want %s: …%s…", tt.conf, err, tt.field, tt.message)
		}
		if _, newErr := kind.New(json.RawMessage(tt.conf), nil); !tt.incomplete && (newErr == nil) != (err == nil) {
			t.Errorf("%s: Validate says %v and New %v", tt.conf, err, newErr)
		}
	}
	if kind.Name != "sensor" || !slices.Contains(kind.Aliases, "epu.decisionengine.impls.sensor.SensorEngine") {
		t.Errorf("%s %q", kind.Name, kind.Aliases)
	}
	for key := range strings.FieldsSeq(`minimum_vms maximum_vms metric scale_up_threshold scale_down_threshold scale_up_n_vms scale_down_n_vms cooldown_period
		on_missing iaas_site iaas_allocation deployable_type retirable_nodes unique_key unique_values sensor_type monitor_sensors monitor_domain_sensors
		sample_function sample_period sensor_data sensor_queries provisioner_vars`) {
		if !strings.Contains(kind.Doc, "| `"+key+"` |") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

func TestKind_Sensing(t *testing.T) {
	want := engines.Sensing{
		Source: "mockcloudwatch", Instances: []string{"load"}, Domain: []string{"queuelen"}, Statistic: "Average", Period: 90 * time.Second, Data: []float64{0},
	}
	if diff := cmp.Diff(want, sensor.Kind().Sensing(json.RawMessage(reference))); diff != "" {
		t.Error(diff)
	}
}
