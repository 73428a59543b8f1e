package schedule_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

func TestKind_Validate(t *testing.T) {
	k := kind()
	one := func(keys string) string { return fixed(`{"cron":"0 8 * * *","size":1},{` + keys + `}`) }
	for _, tt := range []struct {
		conf       string
		incomplete bool
		field      string // "": accepted
		message    string // a part of it
	}{
		{conf: one(`"cron":"*/5 22-2 1,15 jan-MAR 7","time_zone":"Europe/Berlin","size":0`)},
		{conf: one(`"cron":" 0  8 ? * Mon#","size":0`), field: "schedules.1.cron"},
		{conf: one(`"cron":"0 8 ? * *","size":0,"time_zone":null,"minimum":null`)},
		{conf: one(`"cron":"0 0 29 2 *","size":0`)},
		{conf: tracked(`{"cron":"0 8 * * *","minimum":1},{"cron":"0 9 * * *","maximum":7},{"cron":"0 9 * * *","minimum":7,"maximum":7}`)},
		{conf: `{"schedules":[{"cron":"0 8 * * *","size":1}],"engine_class":"epu.decisionengine.impls.simplest.SimplestEngine","engine_conf":{"preserve_n":1},"provisioner_vars":{"a":1}}`},
		{conf: ``, incomplete: true},
		{conf: `{}`, incomplete: true},
		{conf: `{"schedules":[{"cron":"0 8 * * *","size":1}]}`, incomplete: true},
		{conf: ``, field: "engine_conf.preserve_n", message: "required"},
		{conf: `{"engine_conf":{"preserve_n":1}}`, field: "schedules", message: "required"},
		{conf: `{"schedules":[],"engine_conf":{"preserve_n":1}}`, field: "schedules", message: "required"},
		{conf: `{"engine_conf":{"preserve_n":-1}}`, incomplete: true, field: "engine_conf.preserve_n"},
		{conf: `{"engine_conf":{"target_value":1}}`, incomplete: true, field: "engine_conf.target_value", message: "not known"},
		{conf: `{"engine_conf":[]}`, incomplete: true, field: "engine_conf"},
		{conf: `{"engine_conf":{"provisioner_vars":{}}}`, incomplete: true, field: "engine_conf.provisioner_vars", message: "beside engine_conf"},
		{conf: `{"engine_class":"none"}`, incomplete: true, field: "engine_class", message: `there is no "none"`},
		{conf: `{"engine_class":""}`, incomplete: true, field: "engine_class"},
		{conf: `{"engine_class":"schedule"}`, incomplete: true, field: "engine_class", message: "itself"},
		{conf: one(`"size":1`), field: "schedules.1.cron", message: "required"},
		{conf: one(`"cron":"0 8 * *","size":1`), field: "schedules.1.cron", message: "five fields"},
		{conf: one(`"cron":"0 0 8 * * *","size":1`), field: "schedules.1.cron", message: "five fields"},
		{conf: one(`"cron":"@daily","size":1`), field: "schedules.1.cron", message: "five fields"},
		{conf: one(`"cron":"TZ=UTC 0 8 * *","size":1`), field: "schedules.1.cron", message: "five fields"},
		{conf: one(`"cron":"TZ=UTC 0 8 * * *","size":1`), field: "schedules.1.cron", message: "five fields"},
		{conf: one(`"cron":"60 8 * * *","size":1`), field: "schedules.1.cron", message: "no cron expression"},
		{conf: one(`"cron":"0 8 L * *","size":1`), field: "schedules.1.cron", message: "no cron expression"},
		{conf: one(`"cron":"0 8 30 2 *","size":1`), field: "schedules.1.cron", message: "never fires"},
		{conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"Europe/Nowhere"`), field: "schedules.1.time_zone", message: "no known time zone"},
		{conf: one(`"cron":"0 8 * * *","size":1,"time_zone":""`), field: "schedules.1.time_zone"},
		{conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"Local"`), field: "schedules.1.time_zone"},
		{conf: one(`"cron":"0 8 * * *","size":1,"time_zone":"../UTC"`), field: "schedules.1.time_zone"},
		{conf: one(`"cron":"0 8 * * *"`), field: "schedules.1", message: "sets nothing"},
		{conf: one(`"cron":"0 8 * * *","size":-1`), field: "schedules.1.size", message: "at least 0"},
		{conf: one(`"cron":"0 8 * * *","size":1.5`), field: "schedules.1.size"},
		{conf: one(`"cron":"0 8 * * *","minimum":1`), field: "schedules.1.minimum", message: `the engine "simplest" has no minimum_vms`},
		{conf: one(`"cron":"0 8 * * *","size":1,"more":1`), field: "schedules.1.more", message: "not known"},
		{conf: tracked(`{"cron":"0 8 * * *","size":1}`), field: "schedules.0.size", message: `"target_tracking" has no preserve_n or domain_desired_size`},
		{conf: tracked(`{"cron":"0 8 * * *","minimum":21}`), field: "schedules.0", message: "does not go with engine_conf: engine_conf.maximum_vms: is 20"},
		{conf: tracked(`{"cron":"0 8 * * *","minimum":5,"maximum":4}`), field: "schedules.0", message: "must be an integer of at least minimum_vms"},
		{conf: fixed(strings.TrimSuffix(strings.Repeat(`{"cron":"0 8 * * *","size":1},`, 101), ",")), field: "schedules", message: "at most 100"},
		{conf: `{"more":1}`, incomplete: true, field: "more"},
	} {
		var refused *engines.FieldError
		err := k.Validate(json.RawMessage(tt.conf), !tt.incomplete)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.conf, err)
		case tt.field != "" && (!errors.As(err, &refused) || refused.Field != "engine_conf."+tt.field || !strings.Contains(refused.Message, tt.message)):
			t.Errorf("%s: got %v, want one about %s, %q", tt.conf, err, tt.field, tt.message)
		}
	}
	for _, key := range []string{
		"schedules", "engine_class", "engine_conf", "provisioner_vars", "cron", "time_zone", "size", "minimum", "maximum",
	} {
		if !strings.Contains(k.Doc, "`"+key+"`") {
			t.Errorf("the documentation lacks %s", key)
		}
	}
}

// FuzzConf: an engine_conf that is accepted makes an engine that decides, one that
// is not is refused with the name of a field.
func FuzzConf(f *testing.F) {
	k := kind()
	f.Fuzz(func(t *testing.T, given []byte) {
		err := k.Validate(given, true)
		if err != nil {
			if field, ok := errors.AsType[*engines.FieldError](err); !ok || field.Field == "" {
				t.Fatalf("refused with %#v", err)
			}
		}
		made, newErr := k.New(given, nil)
		if (newErr == nil) != (err == nil) {
			t.Fatalf("accepted %v, made %v", err, newErr)
		}
		if err != nil {
			return
		}
		if k.Validate(given, false) != nil {
			t.Fatal("complete, but not as a template")
		}
		for _, now := range []string{"2026-03-29T01:00:00Z", "2024-02-29T12:00:00Z", "1901-12-13T20:45:52Z"} {
			if d, err := made.Decide(&engines.View{Now: at(t, now), MaxActions: 10}); err != nil || d.Target < 0 {
				t.Fatalf("%+v, %v", d, err)
			}
		}
	})
}
