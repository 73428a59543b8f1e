package phantomoverflow_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
)

func TestKind_Validate(t *testing.T) {
	kind := phantomoverflow.Kind()
	good := func(more string) string { return conf("a:2 b:-1", `"minimum_vms":1`+more) }
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: good("")},
		{Conf: good(`,"maximum_vms":null,"metric":null,"retirable_nodes":"i1, i2","provisioner_vars":{"a":1}`)},
		{Conf: good(`,"metric":"q","monitor_domain_sensors":["q"],"sensor_type":"mockcloudwatch","sensor_data":[1],"on_missing":"fail_out","cooldown_period":0`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{"clouds":[{"site_name":"a"},{"size":1}]}`, Incomplete: true},
		{Conf: ``, Field: "clouds", Message: "is required"},
		{Conf: `{"clouds":[]}`, Field: "clouds", Message: "is required"},
		{Conf: `{"clouds":{}}`, Field: "clouds"},
		{Conf: `{"clouds":[1]}`, Field: "clouds.0", Message: "must be a JSON object"},
		{Conf: `{"clouds":[{"size":1}]}`, Field: "clouds.0.site_name", Message: "is required"},
		{Conf: `{"clouds":[{"site_name":"..","size":1}]}`, Field: "clouds.0.site_name"},
		{Conf: `{"clouds":[{"site_name":"a"}]}`, Field: "clouds.0.size", Message: `is required: how many instances may be there (site "a")`},
		{Conf: `{"clouds":[{"site_name":"a","size":-2}]}`, Field: "clouds.0.size", Message: `(site "a")`},
		{Conf: `{"clouds":[{"site_name":"a","size":-2}]}`, Incomplete: true, Field: "clouds.0.size"},
		{Conf: `{"clouds":[{"site_name":"a","size":"x"}]}`, Field: "clouds.0.size", Message: `must be an integer (site "a")`},
		{Conf: `{"clouds":[{"site_name":"a","size":1,"more":1}]}`, Field: "clouds.0.more", Message: `(site "a")`},
		{Conf: `{"clouds":[{"site_name":"a","size":1,"rank":9999999}]}`, Field: "clouds.0.rank", Message: `(site "a")`},
		{Conf: conf("a:1 b:1 a:2", `"minimum_vms":1`), Field: "clouds.2.site_name", Message: `is that of clouds.0 already`},
		{Conf: conf(strings.Repeat("a:1 ", 17), `"minimum_vms":1`), Field: "clouds", Message: "at most 16"},
		{Conf: `{"clouds":[{"site_name":"a","size":1}]}`, Field: "dtname"},
		{Conf: `{"clouds":[{"site_name":"a","size":1}],"dtname":"t"}`, Field: "iaas_allocation"},
		{Conf: good(`,"deployable_type":"other"`), Field: "deployable_type"},
		{Conf: good(`,"deployable_type":"t"`)},
		{Conf: conf("a:1", `"maximum_vms":1`), Field: "minimum_vms", Message: "is required"},
		{Conf: conf("a:1", `"minimum_vms":-1`), Field: "minimum_vms"},
		{Conf: conf("a:1 b:1", `"minimum_vms":3`), Field: "minimum_vms", Message: "the sizes of clouds together are 2"},
		{Conf: conf("a:-1", `"minimum_vms":3,"maximum_vms":2`), Field: "maximum_vms", Message: "at least minimum_vms, which is 3"},
		{Conf: good(`,"metric":"load"`), Field: "metric", Message: "is not monitored"},
		{Conf: good(`,"scale_up_threshold":1,"scale_down_threshold":2`), Field: "scale_down_threshold"},
		{Conf: good(`,"scale_up_threshold":1`), Field: "metric", Message: "is required"},
		{Conf: good(`,"metric":"..","monitor_sensors":["load"]`), Field: "metric", Message: "must be a name"},
		{Conf: good(`,"scale_up_n_vms":0`), Field: "scale_up_n_vms"},
		{Conf: good(`,"scale_down_n_vms":0`), Field: "scale_down_n_vms"},
		{Conf: good(`,"cooldown_period":-1`), Field: "cooldown_period"},
		{Conf: good(`,"on_missing":"guess"`), Field: "on_missing"},
		{Conf: good(`,"sensor_type":"guess"`), Field: "sensor_type"},
		{Conf: good(`,"retirable_nodes":[1]`), Field: "retirable_nodes"},
		{Conf: good(`,"more":1`), Field: "more"},
		{Conf: good(`,"iaas_site":"a"`), Field: "iaas_site"},
	})
	enginetest.CheckDoc(t, kind, good(""))
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
