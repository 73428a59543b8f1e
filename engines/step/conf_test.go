package step_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
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
	enginetest.CheckConfs(t, kind, []enginetest.Given{
		{Conf: conf(out, in, bounds)},
		{Conf: conf(out, bounds)},
		{Conf: conf(in, bounds)},
		{Conf: conf(out, in, bounds, `,"cooldown_out":0,"cooldown_in":1.5,"on_missing":"fail_out","retirable_nodes":"a,b","unique_key":"k",
			"unique_values":["v"],"sample_function":"Maximum","sample_period":60,"provisioner_vars":{"a":1}`)},
		{Conf: conf(out, bounds, `,"threshold_in":null,"steps_in":null,"cooldown_out":null`)},
		{Conf: conf(out, bounds, `,"steps_in":[]`)},
		{Conf: ``, Incomplete: true},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"threshold_out":5}`, Incomplete: true},
		{Conf: steps(32), Incomplete: true},
		{Conf: ``, Field: "iaas_site"},
		{Conf: conf(bounds), Field: "threshold_out", Message: "nothing would ever be done"},
		{Conf: conf(bounds, `,"threshold_out":5`), Field: "steps_out", Message: "required with threshold_out"},
		{Conf: conf(bounds, `,"threshold_in":5,"steps_in":[]`), Field: "steps_in", Message: "required with threshold_in"},
		{Conf: conf(bounds, `,"steps_out":[{"from":0,"add":1}]`), Field: "threshold_out", Message: "required with steps_out"},
		{Conf: conf(bounds, `,"steps_in":[{"from":0,"remove":1}]`), Field: "threshold_in"},
		{Conf: conf(in, bounds, `,"on_missing":"fail_out"`), Field: "on_missing", Message: "first of steps_out"},
		{Conf: conf(out, `,"threshold_in":20,"steps_in":[{"from":0,"remove":1}]`), Field: "maximum_vms", Message: "required"},
		{Conf: `{"threshold_out":5,"threshold_in":5}`, Incomplete: true, Field: "threshold_in", Message: "below threshold_out, which is 5"},
		{Conf: `{"steps_out":[{"add":1}]}`, Incomplete: true, Field: "steps_out.0.from", Message: "required"},
		{Conf: `{"steps_out":[{"from":-1,"add":1}]}`, Incomplete: true, Field: "steps_out.0.from"},
		{Conf: `{"steps_out":[{"from":0}]}`, Incomplete: true, Field: "steps_out.0.add", Message: "required"},
		{Conf: `{"steps_out":[{"from":0,"add":0}]}`, Incomplete: true, Field: "steps_out.0.add"},
		{Conf: `{"steps_out":[{"from":0,"remove":1}]}`, Incomplete: true, Field: "steps_out.0.remove"},
		{Conf: `{"steps_in":[{"from":0,"remove":"1"}]}`, Incomplete: true, Field: "steps_in.0.remove", Message: `"50%"`},
		{Conf: `{"steps_in":[{"from":0,"remove":"-5%"}]}`, Incomplete: true, Field: "steps_in.0.remove"},
		{Conf: `{"steps_out":[{"from":0,"add":1},{"from":0,"add":2}]}`, Incomplete: true, Field: "steps_out.1.from", Message: "overlaps"},
		{Conf: `{"steps_in":[{"from":9,"remove":1},{"from":3,"remove":2}]}`, Incomplete: true, Field: "steps_in.1.from", Message: "sort the steps"},
		{Conf: steps(33), Incomplete: true, Field: "steps_out", Message: "at most 32"},
		{Conf: `{"steps_out":{}}`, Incomplete: true, Field: "steps_out"},
		{Conf: `{"threshold_out":"5"}`, Incomplete: true, Field: "threshold_out"},
		{Conf: `{"cooldown_out":-1}`, Incomplete: true, Field: "cooldown_out"},
		{Conf: `{"cooldown_in":-1}`, Incomplete: true, Field: "cooldown_in"},
		{Conf: `{"minimum_vms":3,"maximum_vms":2}`, Incomplete: true, Field: "maximum_vms"},
		{Conf: `{"on_missing":"zero"}`, Incomplete: true, Field: "on_missing"},
		{Conf: `{"more":1}`, Incomplete: true, Field: "more"},
	})
	enginetest.CheckDoc(t, kind, conf(out, in, bounds))
}

func TestKind_Sensing(t *testing.T) {
	got := step.Kind().Sensing(json.RawMessage(conf(out, bounds, `,"sample_period":30`)))
	want := engines.Sensing{Source: "nats", Instances: []string{"load"}, Statistic: "Average", Period: 30e9, Data: []float64{0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, step.Kind()) }
