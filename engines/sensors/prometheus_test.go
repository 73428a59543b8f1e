package sensors_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

func prometheus(t *testing.T, o sensors.PrometheusOptions) *sensors.Prometheus {
	t.Helper()
	p, err := sensors.NewPrometheus(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// asked is a query over the 90 seconds before start.
func asked(metric string, ofDomain bool, instances ...string) sensors.Query {
	return sensors.Query{
		Domain: web, Metric: metric, OfDomain: ofDomain, Instances: running(instances...), From: start.Add(-90 * time.Second), To: start,
		Statistic: engines.StatisticAverage,
	}
}

// second is a sample so many seconds before start.
func second(before float64, value float64) sensors.Sample {
	return sensors.Sample{Time: start.Add(-time.Duration(before * float64(time.Second))), Value: value}
}

// point is how the API writes it.
func point(before float64, value string) string {
	return fmt.Sprintf("[%.3f,%q]", float64(start.UnixMilli())/1000-before, value)
}

func answers(kind string, result ...string) string {
	return fmt.Sprintf(`{"status":"success","data":{"resultType":%q,"result":[%s]}}`, kind, strings.Join(result, ","))
}

func TestPrometheus_Fetch(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r request) {
		if strings.Contains(r.Form.Get("query"), `instance_id=""`) {
			fmt.Fprint(w, answers("matrix", `{"metric":{"__name__":"load"},"values":[`+point(3, "7")+`]}`))
			return
		}
		fmt.Fprint(w, answers("matrix",
			`{"metric":{"instance_id":"i1","job":"a"},"values":[`+point(30.5, "1")+`,`+point(15, "NaN")+`]}`,
			`{"metric":{"instance_id":"i1","job":"b"},"values":[`+point(20, "+Inf")+`]}`,
			`{"metric":{"instance_id":"i2"},"values":[`+point(1, "-2.5e3")+`]}`,
			`{"metric":{"instance_id":"i3"},"histograms":[[1,{"count":"3"}]]}`,
			`{"metric":{"instance_id":"stranger"},"values":[`+point(1, "5")+`]}`,
			`{"metric":{},"values":[`+point(1, "6")+`]}`,
		))
	})
	p := prometheus(t, sensors.PrometheusOptions{URL: s.URL + "/prom/", Header: http.Header{"Authorization": {"Bearer x"}}})
	got, err := p.Fetch(t.Context(), asked("load", true, "i1", "i2", "i3", "i4"))
	want := sensors.Series{
		"i1": {second(30.5, 1), second(15, math.NaN()), second(20, math.Inf(1))}, "i2": {second(1, -2500)}, engines.OfDomain: {second(3, 7)},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" || err != nil {
		t.Error(diff, err)
	}
	requests := s.requests()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	for n, query := range []string{
		`{__name__="load",owner="alice",domain="web",instance_id!=""}[90s]`, `{__name__="load",owner="alice",domain="web",instance_id=""}[90s]`,
	} {
		r := requests[n]
		if r.Method != http.MethodPost || r.URL.Path != "/prom/api/v1/query" || r.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if r.Form.Get("query") != query || r.Form.Get("time") != "1767323045.000" || r.Form.Get("timeout") != "5s" {
			t.Errorf("%v", r.Form)
		}
	}
}

func TestPrometheus_Fetch_templates(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r request) {
		switch query := r.Form.Get("query"); query {
		case "avg by (host) (rate(x[90s]))":
			fmt.Fprint(w, answers("vector", `{"metric":{"host":"web-1"},"value":`+point(0, "4")+`}`, `{"metric":{},"value":`+point(0, "5")+`}`))
		case "one web-1":
			fmt.Fprint(w, answers("vector", `{"metric":{},"value":`+point(0, "1")+`}`))
		case "one ":
			fmt.Fprintf(w, `{"status":"success","data":{"resultType":"scalar","result":%s}}`, point(0, "3"))
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"status":"error","errorType":"execution","error":"no such thing"}`)
		}
	})
	p := prometheus(t, sensors.PrometheusOptions{URL: s.URL, Label: "host", Field: "hostname"})
	q := asked("load", true, "i1", "i2")
	q.Instances[0].Fields = []events.Field{{Name: "hostname", Value: []byte(`"web-1"`)}}
	for template, c := range map[string]struct {
		want sensors.Series
		says string
	}{
		"avg by (host) (rate(x[{{.Period}}]))": {sensors.Series{"i1": {second(0, 4)}, engines.OfDomain: {second(0, 5)}}, ""},
		"one {{.Instance}}":                    {sensors.Series{"i1": {second(0, 1)}, engines.OfDomain: {second(0, 3)}}, `1 of 3 queries failed, the first: it refuses the query one i2: execution: no such thing`},
		"bad {{.Metric}}":                      {sensors.Series{}, "it refuses the query bad load: execution: no such thing"},
		"{{range 5}}{{end}}":                   {nil, "a query may have only"},
	} {
		q.Template = template
		got, err := p.Fetch(t.Context(), q)
		if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v\n%s", template, err, diff)
		}
	}
}

func TestPrometheus_Fetch_faults(t *testing.T) {
	t.Parallel()
	testFaults(t, func(url string, timeout time.Duration) sensors.Source {
		return prometheus(t, sensors.PrometheusOptions{URL: url, Timeout: timeout})
	}, asked("load", false, "i1"))
	for name, c := range map[string]struct{ answer, says string }{
		"an error without a status": {`{"status":"error","errorType":"bad_data","error":"parse error"}`, "bad_data: parse error"},
		"no status":                 {`{}`, "status"},
		"no data":                   {`{"status":"success"}`, "type"},
		"a string":                  {`{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`, `"string" has no numbers`},
		"a bad value":               {answers("vector", `{"metric":{},"value":[1,"seven"]}`), "point"},
		"a number for a value":      {answers("vector", `{"metric":{},"value":[1,7]}`), "point"},
		"a bad time":                {answers("vector", `{"metric":{},"value":["now","7"]}`), "point"},
		"a time out of all bounds":  {answers("vector", `{"metric":{},"value":[1e300,"7"]}`), "point"},
		"half a point":              {answers("matrix", `{"metric":{},"values":[[1]]}`), "point"},
		"labels that are none":      {answers("matrix", `{"metric":{"a":1},"values":[]}`), "answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ request) { fmt.Fprint(w, c.answer) })
			got, err := prometheus(t, sensors.PrometheusOptions{URL: s.URL}).Fetch(t.Context(), asked("load", false, "i1"))
			if err == nil || !strings.Contains(err.Error(), c.says) || len(got) != 0 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, _ request) { fmt.Fprint(w, answers("matrix")) })
		got, err := prometheus(t, sensors.PrometheusOptions{URL: s.URL}).Fetch(t.Context(), asked("load", true, "i1"))
		if err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("warnings", func(t *testing.T) {
		t.Parallel()
		var logged bytes.Buffer
		s := serve(t, func(w http.ResponseWriter, _ request) {
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance_id":"i1"},"value":[1,"2"]}]},"warnings":["half a store"]}`)
		})
		p := prometheus(t, sensors.PrometheusOptions{URL: s.URL, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		for range 3 {
			if got, err := p.Fetch(t.Context(), asked("load", false, "i1")); err != nil || len(got["i1"]) != 1 {
				t.Error(got, err)
			}
		}
		if strings.Count(logged.String(), "half a store") != 1 {
			t.Error(logged.String())
		}
	})
}

func TestNewPrometheus(t *testing.T) {
	t.Parallel()
	for _, o := range []sensors.PrometheusOptions{
		{}, {URL: "host:9090"}, {URL: "ftp://host"}, {URL: "http://"}, {URL: "http://host?x=1"}, {URL: "http://host/%zz"}, {URL: "http://host", Label: `a"b`},
	} {
		if _, err := sensors.NewPrometheus(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
