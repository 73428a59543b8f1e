package schedule_test

import (
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/enginetest"
)

func TestKind_Validate(t *testing.T) {
	k := kind()
	one := func(keys string) string { return fixed(`{"cron":"0 8 * * *","size":1},{` + keys + `}`) }
	enginetest.CheckConfs(t, k, []enginetest.Given{
		{Conf: one(`"cron":"*/5 22-2 1,15 jan-MAR 7","time_zone":"Europe/Berlin","size":0`)},
		{Conf: one(`"cron":" 0  8 ? * Mon#","size":0`), Field: "schedules.1.cron"},
		{Conf: one(`"cron":"0 8 ? * *","size":0,"time_zone":null,"minimum":null`)},
		{Conf: one(`"cron":"0 0 29 2 *","size":0`)},
		{Conf: tracked(`{"cron":"0 8 * * *","minimum":1},{"cron":"0 9 * * *","maximum":7},{"cron":"0 9 * * *","minimum":7,"maximum":7}`)},
		{Conf: `{"schedules":[{"cron":"0 8 * * *","size":1}],"engine_class":"epu.decisionengine.impls.simplest.SimplestEngine","engine_conf":{"preserve_n":1},"provisioner_vars":{"a":1}}`},
		{Conf: ``, Incomplete: true},
		{Conf: `{}`, Incomplete: true},
		{Conf: `{"schedules":[{"cron":"0 8 * * *","size":1}]}`, Incomplete: true},
		{Conf: ``, Field: "engine_conf.preserve_n", Message: "required"},
		{Conf: `{"engine_conf":{"preserve_n":1}}`, Field: "schedules", Message: "required"},
		{Conf: `{"schedules":[],"engine_conf":{"preserve_n":1}}`, Field: "schedules", Message: "required"},
		{Conf: `{"engine_conf":{"preserve_n":-1}}`, Incomplete: true, Field: "engine_conf.preserve_n"},
		{Conf: `{"engine_conf":{"target_value":1}}`, Incomplete: true, Field: "engine_conf.target_value", Message: "not known"},
		{Conf: `{"engine_conf":[]}`, Incomplete: true, Field: "engine_conf"},
		{Conf: `{"engine_conf":{"provisioner_vars":{}}}`, Incomplete: true, Field: "engine_conf.provisioner_vars", Message: "beside engine_conf"},
		{Conf: `{"engine_class":"none"}`, Incomplete: true, Field: "engine_class", Message: `there is no "none"`},
		{Conf: `{"engine_class":""}`, Incomplete: true, Field: "engine_class"},
		{Conf: `{"engine_class":"schedule"}`, Incomplete: true, Field: "engine_class", Message: "itself"},
		{Conf: one(`"size":1`), Field: "schedules.1.cron", Message: "required"},
		{Conf: one(`"cron":"0 8 * *","size":1`), Field: "schedules.1.cron", Message: "five fields"},
		{Conf: one(`"cron":"0 0 8 * * *","size":1`), Field: "schedules.1.cron", Message: "five fields"},
		{Conf: one(`"cron":"@daily","size":1`), Field: "schedules.1.cron", Message: "five fields"},
		{Conf: one(`"cron":"TZ=UTC 0 8 * *","size":1`), Field: "schedules.1.cron", Message: "five fields"},
		{Conf: one(`"cron":"TZ=UTC 0 8 * * *","size":1`), Field: "schedules.1.cron", Message: "five fields"},
		{Conf: one(`"cron":"60 8 * * *","size":1`), Field: "schedules.1.cron", Message: "no cron expression"},
		{Conf: one(`"cron":"0 8 L * *","size":1`), Field: "schedules.1.cron", Message: "no cron expression"},
		{Conf: one(`"cron":"0 8 30 2 *","size":1`), Field: "schedules.1.cron", Message: "never fires"},
		{Conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"Europe/Nowhere"`), Field: "schedules.1.time_zone", Message: "no known time zone"},
		{Conf: one(`"cron":"0 8 * * *","size":1,"time_zone":""`), Field: "schedules.1.time_zone"},
		{Conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"Local"`), Field: "schedules.1.time_zone"},
		{Conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"../UTC"`), Field: "schedules.1.time_zone"},
		{Conf: one(`"cron":"0 8 * * *"`), Field: "schedules.1", Message: "sets nothing"},
		{Conf: one(`"cron":"0 8 * * *","size":-1`), Field: "schedules.1.size", Message: "at least 0"},
		{Conf: one(`"cron":"0 8 * * *","size":1.5`), Field: "schedules.1.size"},
		{Conf: one(`"cron":"0 8 * * *","minimum":1`), Field: "schedules.1.minimum", Message: `the engine "simplest" has no minimum_vms`},
		{Conf: one(`"cron":"0 8 * * *","size":1,"more":1`), Field: "schedules.1.more", Message: "not known"},
		{Conf: tracked(`{"cron":"0 8 * * *","size":1}`), Field: "schedules.0.size", Message: `"target_tracking" has no preserve_n or domain_desired_size`},
		{Conf: tracked(`{"cron":"0 8 * * *","minimum":21}`), Field: "schedules.0", Message: "does not go with engine_conf: engine_conf.maximum_vms: is 20"},
		{Conf: tracked(`{"cron":"0 8 * * *","minimum":5,"maximum":4}`), Field: "schedules.0", Message: "must be an integer of at least minimum_vms"},
		{Conf: fixed(strings.TrimSuffix(strings.Repeat(`{"cron":"0 8 * * *","size":1},`, 101), ",")), Field: "schedules", Message: "at most 100"},
		{Conf: `{"more":1}`, Incomplete: true, Field: "more"},
	})
	enginetest.CheckDoc(t, k, fixed(`{"cron":"0 8 * * *","size":1}`), tracked(`{"cron":"0 8 * * *","minimum":1}`))
}

// FuzzConf is that of every engine, at times that clocks have trouble with.
func FuzzConf(f *testing.F) {
	k := kind()
	f.Fuzz(func(t *testing.T, conf []byte) {
		e := enginetest.Accepted(t, k, conf)
		if e == nil {
			return
		}
		for _, now := range []string{"2026-03-29T01:00:00Z", "2024-02-29T12:00:00Z", "1901-12-13T20:45:52Z"} {
			enginetest.Begins(t, e, &engines.View{Now: at(t, now), MaxActions: 10})
		}
	})
}
