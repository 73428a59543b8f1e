package phantomoverflow_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
)

func TestKind_Validate(t *testing.T) {
	kind := phantomoverflow.Kind()
	good := func(more string) string { return conf("a:2 b:-1", `"minimum_vms":1`+more) }
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: good("")},
		{conf: good(`,"maximum_vms":null,"metric":null,"retirable_nodes":"i1, i2","provisioner_vars":{"a":1}`)},
		{conf: good(`,"metric":"q","monitor_domain_sensors":["q"],"sensor_type":"mockcloudwatch","sensor_data":[1],"on_missing":"fail_out","cooldown_period":0`)},
		{conf: ``, incomplete: true},
		{conf: `{"clouds":[{"site_name":"a"},{"size":1}]}`, incomplete: true},
		{conf: ``, field: "clouds", message: "is required"},
		{conf: `{"clouds":[]}`, field: "clouds", message: "is required"},
		{conf: `{"clouds":{}}`, field: "clouds"},
		{conf: `{"clouds":[1]}`, field: "clouds.0", message: "must be a JSON object"},
		{conf: `{"clouds":[{"size":1}]}`, field: "clouds.0.site_name", message: "is required"},
		{conf: `{"clouds":[{"site_name":"..","size":1}]}`, field: "clouds.0.site_name"},
		{conf: `{"clouds":[{"site_name":"a"}]}`, field: "clouds.0.size", message: `is required: how many instances may be there (site "a")`},
		{conf: `{"clouds":[{"site_name":"a","size":-2}]}`, field: "clouds.0.size", message: `(site "a")`},
		{conf: `{"clouds":[{"site_name":"a","size":-2}]}`, incomplete: true, field: "clouds.0.size"},
		{conf: `{"clouds":[{"site_name":"a","size":"x"}]}`, field: "clouds.0.size", message: `must be an integer (site "a")`},
		{conf: `{"clouds":[{"site_name":"a","size":1,"more":1}]}`, field: "clouds.0.more", message: `(site "a")`},
		{conf: `{"clouds":[{"site_name":"a","size":1,"rank":9999999}]}`, field: "clouds.0.rank", message: `(site "a")`},
		{conf: conf("a:1 b:1 a:2", `"minimum_vms":1`), field: "clouds.2.site_name", message: `is that of clouds.0 already`},
		{conf: conf(strings.Repeat("a:1 ", 17), `"minimum_vms":1`), field: "clouds", message: "at most 16"},
		{conf: `{"clouds":[{"site_name":"a","size":1}]}`, field: "dtname"},
		{conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":"t"}`, field: "iaas_allocation"},
		{conf: good(`,"deployable_type":"other"`), field: "deployable_type"},
		{conf: good(`,"deployable_type":"t"`)},
		{conf: conf("a:1", `"maximum_vms":1`), field: "minimum_vms", message: "is required"},
		{conf: conf("a:1", `"minimum_vms":-1`), field: "minimum_vms"},
		{conf: conf("a:1 b:1", `"minimum_vms":3`), field: "minimum_vms", message: "the sizes of clouds together are 2"},
		{conf: conf("a:-1", `"minimum_vms":3,"maximum_vms":2`), field: "maximum_vms", message: "at least minimum_vms, which is 3"},
		{conf: good(`,"metric":"load"`), field: "metric", message: "is not monitored"},
		{conf: good(`,"scale_up_threshold":1,"scale_down_threshold":2`), field: "scale_down_threshold"},
		{conf: good(`,"scale_up_threshold":1`), field: "metric", message: "is required"},
		{conf: good(`,"metric":"..","monitor_sensors":["load"]`), field: "metric", message: "must be a name"},
		{conf: good(`,"scale_up_n_vms":0`), field: "scale_up_n_vms"},
		{conf: good(`,"scale_down_n_vms":0`), field: "scale_down_n_vms"},
		{conf: good(`,"cooldown_period":-1`), field: "cooldown_period"},
		{conf: good(`,"on_missing":"guess"`), field: "on_missing"},
		{conf: good(`,"sensor_type":"guess"`), field: "sensor_type"},
		{conf: good(`,"retirable_nodes":[1]`), field: "retirable_nodes"},
		{conf: good(`,"more":1`), field: "more"},
		{conf: good(`,"iaas_site":"a"`), field: "iaas_site"},
	} {
		var refused *engines.FieldError
		err := kind.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!errors.As(err, &refused) || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want one about %s", tt.conf, err, tt.field)
		}
		if _, newErr := kind.New(json.RawMessage(tt.conf), nil); !tt.incomplete && (newErr == nil) != (err == nil) {
			t.Errorf("%s: Validate says %v and New %v", tt.conf, err, newErr)
		}
	}
	for _, key := range []string{
		"clouds", "site_name", "size", "rank", "dtname", "deployable_type", "iaas_allocation", "minimum_vms", "maximum_vms", "metric",
		"scale_up_threshold", "scale_down_threshold", "scale_up_n_vms", "scale_down_n_vms", "cooldown_period", "on_missing", "retirable_nodes",
		"provisioner_vars", "sensor_type", "monitor_sensors", "monitor_domain_sensors", "sample_function", "sample_period", "sensor_data", "sensor_queries",
	} {
		if !strings.Contains(kind.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
	if got := kind.Sensing(json.RawMessage(good(`,"monitor_sensors":["load"],"sensor_type":"nats"`))); got.Source != "nats" || len(got.Instances) != 1 {
		t.Errorf("senses %+v", got)
	}
	for _, module := range []string{"phantom_multi_site_overflow", "phantom_multi"} {
		if alias := "epu.decisionengine.impls." + module + ".PhantomMultiSiteOverflowEngine"; !slices.Contains(kind.Aliases, alias) {
			t.Errorf("has no alias %s", alias)
		}
	}
	if kind.Name != "phantom_multi_site_overflow" {
		t.Error(kind.Name)
	}
}
