package engines_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
)

// given is an engine_conf with all that engines share.
type given struct {
	engines.GivenSensing
	engines.GivenLaunch
	engines.GivenUnique
}

func decoded(t *testing.T, conf string) (g given) {
	t.Helper()
	if err := engines.DecodeEngineConf(json.RawMessage(conf), &g); err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	return g
}

// refused fails the test unless the error is about a field and says something.
func refused(t *testing.T, conf string, err error, field, message string) {
	t.Helper()
	refused, ok := errors.AsType[*engines.FieldError](err)
	if !ok || refused.Field != "engine_conf."+field || !strings.Contains(refused.Message, message) {
		t.Errorf("%s: got %v, want %s: …%s…", conf, err, field, message)
	}
}

func TestNameList_Decode(t *testing.T) {
	const unlike = "must be a list of strings, or one string with commas between them"
	for _, tt := range []struct {
		given string
		want  []string
		wrong bool
	}{
		{given: `null`},
		{given: `[]`, want: []string{}},
		{given: `["b"," a ","b",""]`, want: []string{"b", " a ", "b", ""}},
		{given: `["a,b"]`, want: []string{"a,b"}},
		{given: `""`, want: []string{}},
		{given: `" , ,"`, want: []string{}},
		{given: `"a"`, want: []string{"a"}},
		{given: `" a ,b,, c d\t,"`, want: []string{"a", "b", "c d"}},
		{given: `"\u0061,\"b\""`, want: []string{"a", `"b"`}},
		{given: `5`, wrong: true},
		{given: `true`, wrong: true},
		{given: `{}`, wrong: true},
		{given: `["a",5]`, wrong: true},
		{given: `["a",null]`, wrong: true},
		{given: `[["a"]]`, wrong: true},
	} {
		var g given
		err := engines.DecodeEngineConf(json.RawMessage(`{"unique_values":`+tt.given+`}`), &g)
		if tt.wrong {
			refused(t, tt.given, err, "unique_values", unlike)
			continue
		}
		if err != nil || (g.Values == nil) != (tt.want == nil) || !slices.Equal(g.Values, tt.want) {
			t.Errorf("%s: %#v, %v; want %q", tt.given, g.Values, err, tt.want)
		}
	}
}

func TestGivenUnique_Unique(t *testing.T) {
	for _, tt := range []struct {
		conf       string
		incomplete bool
		want       *engines.Unique
		field      string // "": accepted
		message    string
	}{
		{conf: `{}`},
		{conf: `{"unique_key":null,"unique_values":null}`},
		{conf: `{"unique_key":"k","unique_values":"b, a"}`, want: &engines.Unique{Key: "k", Values: []string{"b", "a"}}},
		{conf: `{"unique_key":"k","unique_values":["a"," "]}`, want: &engines.Unique{Key: "k", Values: []string{"a", " "}}},
		{conf: `{"unique_key":"k","unique_values":["a"]}`, incomplete: true, want: &engines.Unique{Key: "k", Values: []string{"a"}}},
		{conf: `{"unique_key":"k"}`, incomplete: true},
		{conf: `{"unique_values":["a"]}`, incomplete: true},
		{conf: `{"unique_key":"k"}`, field: "unique_values", message: "is required with unique_key"},
		{conf: `{"unique_values":["a"]}`, field: "unique_key", message: "is required with unique_values"},
		{conf: `{"unique_key":"","unique_values":["a"]}`, field: "unique_key", message: "must be a name"},
		{conf: `{"unique_key":"a\nb"}`, incomplete: true, field: "unique_key", message: "must be a name"},
		{conf: `{"unique_key":"node_id","unique_values":["a"]}`, field: "unique_key", message: "by the service itself"},
		{conf: `{"unique_key":"heartbeat_dest"}`, incomplete: true, field: "unique_key", message: "by the service itself"},
		{conf: `{"unique_key":"k","unique_values":["a",""]}`, field: "unique_values", message: `has the value ""`},
		{conf: `{"unique_values":["a","b","a"]}`, incomplete: true, field: "unique_values", message: `has the value "a"`},
		{conf: `{"unique_key":"k","unique_values":"a, b , a"}`, field: "unique_values", message: `has the value "a"`},
		{conf: `{"unique_key":"k","unique_values":[]}`, field: "unique_values", message: "is empty"},
		{conf: `{"unique_key":"k","unique_values":" ,"}`, incomplete: true, field: "unique_values", message: "is empty"},
	} {
		g := decoded(t, tt.conf)
		got, err := g.Unique(!tt.incomplete)
		if tt.field != "" {
			refused(t, tt.conf, err, tt.field, tt.message)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", tt.conf, err, diff)
		}
	}
}

func TestGivenLaunch_Launch(t *testing.T) {
	const all = `{"iaas_site":"s","iaas_allocation":"a","deployable_type":"t","provisioner_vars":{"x":1}}`
	for _, tt := range []struct {
		conf       string
		incomplete bool
		want       engines.Launch
		field      string // "": accepted
	}{
		{conf: all, want: engines.Launch{Site: "s", Allocation: "a", DeployableType: "t"}},
		{conf: `{}`, incomplete: true},
		{conf: `{"iaas_allocation":"a","iaas_site":null}`, incomplete: true, want: engines.Launch{Allocation: "a"}},
		{conf: `{}`, field: "iaas_site"},
		{conf: `{"iaas_site":"s","iaas_allocation":null,"deployable_type":"t"}`, field: "iaas_allocation"},
		{conf: `{"iaas_site":"s","iaas_allocation":"a"}`, field: "deployable_type"},
		{conf: `{"iaas_site":""}`, incomplete: true, field: "iaas_site"},
		{conf: `{"iaas_site":"s","iaas_allocation":".."}`, incomplete: true, field: "iaas_allocation"},
		{conf: `{"deployable_type":"a\u0000"}`, incomplete: true, field: "deployable_type"},
	} {
		g := decoded(t, tt.conf)
		got, err := g.Launch(!tt.incomplete)
		if tt.field != "" {
			refused(t, tt.conf, err, tt.field, "")
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", tt.conf, err, diff)
		}
	}
}

func TestGivenSensing_Sensing(t *testing.T) {
	defaults := engines.Sensing{Statistic: "Average", Period: 90 * time.Second, Data: []float64{0}}
	many := `["` + strings.Repeat(`m","`, 32) + `m"]`
	for _, tt := range []struct {
		conf           string
		want           engines.Sensing
		field, message string // "": accepted
	}{
		{conf: `{}`, want: defaults},
		{conf: `{"sensor_type":null,"monitor_sensors":null,"sample_function":null,"sample_period":null,"sensor_data":[]}`, want: defaults},
		{
			conf: `{"sensor_type":"nats","monitor_sensors":["a","b"],"monitor_domain_sensors":["c"],"sample_function":"Maximum",
				"sample_period":0.5,"sensor_data":[1,2.5],"sensor_queries":{"a":"q"}}`,
			want: engines.Sensing{
				Source: "nats", Instances: []string{"a", "b"}, Domain: []string{"c"}, Statistic: "Maximum",
				Period: time.Second / 2, Data: []float64{1, 2.5}, Queries: map[string]string{"a": "q"},
			},
		},
		{conf: `{"sensor_type":"statsd"}`, field: "sensor_type", message: "one of: nats, prometheus"},
		{conf: `{"sensor_type":""}`, field: "sensor_type", message: "one of"},
		{conf: `{"sample_function":"average"}`, field: "sample_function", message: "one of: Series, Average"},
		{conf: `{"sample_period":0}`, field: "sample_period", message: "above 0"},
		{conf: `{"sample_period":-1}`, field: "sample_period", message: "above 0"},
		{conf: `{"sample_period":1e-12}`, field: "sample_period", message: "above 0"},
		{conf: `{"sample_period":86400.5}`, field: "sample_period", message: "at most 86400"},
		{conf: `{"sample_period":1e300}`, field: "sample_period", message: "at most 86400"},
		{conf: `{"monitor_sensors":` + many + `}`, field: "monitor_sensors", message: "names 33 metrics"},
		{conf: `{"monitor_domain_sensors":` + many + `}`, field: "monitor_domain_sensors", message: "at most 32"},
		{conf: `{"monitor_sensors":["a",""]}`, field: "monitor_sensors.1", message: "must be a name"},
		{conf: `{"monitor_domain_sensors":[null]}`, field: "monitor_domain_sensors.0", message: "must be a name"},
	} {
		g := decoded(t, tt.conf)
		got, err := g.Sensing()
		if tt.field != "" {
			refused(t, tt.conf, err, tt.field, tt.message)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", tt.conf, err, diff)
		}
	}
}

func TestNotNegative(t *testing.T) {
	for n, ok := range map[float64]bool{
		0: true, 0.5: true, 1e300: true, -1e-9: false, math.Inf(1): false, math.Inf(-1): false, math.NaN(): false,
	} {
		if err := engines.NotNegative("k", n); (err == nil) != ok {
			t.Errorf("%g: %v", n, err)
		} else if !ok {
			refused(t, "k", err, "k", "at least 0")
		}
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[float64]time.Duration{0: 0, 0.25: 250 * time.Millisecond, 1e300: math.MaxInt64, math.Inf(1): math.MaxInt64} {
		if got := engines.Seconds(s); got != want {
			t.Errorf("%g: %v, want %v", s, got, want)
		}
	}
}
