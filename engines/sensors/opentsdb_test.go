package sensors_test

import (
	"fmt"
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

func opentsdb(t *testing.T, o sensors.OpenTSDBOptions) *sensors.OpenTSDB {
	t.Helper()
	s, err := sensors.NewOpenTSDB(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenTSDB_Fetch(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r request) {
		if strings.Contains(r.body, "explicitTags") {
			fmt.Fprint(w, `[{"metric":"load","tags":{"owner":"alice","domain":"web"},"aggregateTags":[],"dps":{"1767323042":7}}]`)
			return
		}
		fmt.Fprint(w, `[
			{"metric":"load","tags":{"instance_id":"i1","owner":"alice"},"aggregateTags":["cpu"],"dps":{"1767323030500":1.5,"1767322999000":-2e3,"1767323031000":"NaN","1767323032000":null}},
			{"metric":"load","tags":{"instance_id":"i2"},"aggregateTags":[],"dps":{}},
			{"metric":"load","tags":{"instance_id":"stranger"},"aggregateTags":[],"dps":{"1767323030500":1}},
			{"metric":"load","tags":{},"aggregateTags":[],"dps":{"1767323030500":1}}]`)
	})
	o := opentsdb(t, sensors.OpenTSDBOptions{URL: s.URL, Header: http.Header{"Authorization": {"Basic x"}}})
	got, err := o.Fetch(t.Context(), asked("load", true, "i1", "i2", "i3"))
	want := sensors.Series{"i1": {second(46, -2000), second(14.5, 1.5), second(14, math.NaN())}, engines.OfDomain: {second(3, 7)}}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" || err != nil {
		t.Error(diff, err)
	}
	requests := s.requests()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	of := `{"type":"literal_or","tagk":"owner","filter":"alice","groupBy":false},{"type":"literal_or","tagk":"domain","filter":"web","groupBy":false}`
	for n, query := range []string{
		`{"metric":"load","aggregator":"avg","filters":[` + of + `,{"type":"wildcard","tagk":"instance_id","filter":"*","groupBy":true}]}`,
		`{"metric":"load","aggregator":"avg","explicitTags":true,"filters":[` + of + `]}`,
	} {
		r := requests[n]
		if r.Method != http.MethodPost || r.URL.Path != "/api/query" || r.Header.Get("Authorization") != "Basic x" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if diff := cmp.Diff(`{"start":1767322955000,"end":1767323045000,"msResolution":true,"queries":[`+query+`]}`, r.body); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOpenTSDB_Fetch_options(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ request) {
		fmt.Fprint(w, `[{"tags":{"host":"web-1"},"dps":{"1767323042":1}},{"tags":{"host":"i2"},"dps":{"1767323042":2}}]`)
	})
	o := opentsdb(t, sensors.OpenTSDBOptions{URL: s.URL + "/tsd", Tag: "host", Field: "hostname", Aggregator: "zimsum"})
	q := asked("load", false, "i1", "i2")
	q.Instances[0].Fields = []events.Field{{Name: "hostname", Value: []byte(`"web-1"`)}}
	got, err := o.Fetch(t.Context(), q)
	if diff := cmp.Diff(sensors.Series{"i1": {second(3, 1)}, "i2": {second(3, 2)}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if r := s.requests()[0]; r.URL.Path != "/tsd/api/query" || !strings.Contains(r.body, `"zimsum"`) || !strings.Contains(r.body, `"tagk":"host"`) {
		t.Error(r.URL, r.body)
	}
}

func TestOpenTSDB_Fetch_faults(t *testing.T) {
	t.Parallel()
	testFaults(t, func(url string, timeout time.Duration) sensors.Source {
		return opentsdb(t, sensors.OpenTSDBOptions{URL: url, Timeout: timeout})
	}, asked("load", false, "i1"))
	for name, c := range map[string]struct {
		status       int
		answer, says string
	}{
		"no such metric":  {400, `{"error":{"code":400,"message":"No such name for 'metrics': 'load'","details":"x"}}`, ""},
		"no such tag":     {400, `{"error":{"code":400,"message":"No such name for 'tagv': 'web'"}}`, ""},
		"empty":           {200, `[]`, ""},
		"null":            {200, `null`, "no list"},
		"another failure": {400, `{"error":{"code":400,"message":"Missing sub queries"}}`, "400: Missing sub queries"},
		"unavailable":     {503, `{"error":{"code":503,"message":"No such name for 'x'"}}`, "503"},
		"a bad time":      {200, `[{"tags":{},"dps":{"now":1}}]`, "no time"},
		"before 1970":     {200, `[{"tags":{},"dps":{"-5":1}}]`, "no time"},
		"a bad value":     {200, `[{"tags":{},"dps":{"1":"seven"}}]`, "no value"},
		"an object":       {200, `[{"tags":{},"dps":{"1":{}}}]`, "no value"},
		"bad tags":        {200, `[{"tags":{"a":1},"dps":{"1":1}}]`, "answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(c.status); fmt.Fprint(w, c.answer) })
			got, err := opentsdb(t, sensors.OpenTSDBOptions{URL: s.URL}).Fetch(t.Context(), asked("load", true, "i1"))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || len(got) != 0 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(http.ResponseWriter, request) {})
		o := opentsdb(t, sensors.OpenTSDBOptions{URL: s.URL})
		for _, q := range []sensors.Query{
			{Metric: "a|b", Domain: web}, {Metric: "load", Domain: events.DomainID{Owner: "alice|bob", Name: "web"}}, {Metric: "load", Domain: events.DomainID{Owner: "alice", Name: "*"}},
		} {
			q.OfDomain = true
			if _, err := o.Fetch(t.Context(), q); err == nil || !strings.Contains(err.Error(), "OpenTSDB has no name") || len(s.requests()) > 0 {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
}

// TestOpenTSDB_Fetch_part: what one request gives is kept where the other fails.
func TestOpenTSDB_Fetch_part(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r request) {
		if strings.Contains(r.body, "explicitTags") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, `[{"tags":{"instance_id":"i1"},"dps":{"1767323042":1}}]`)
	})
	got, err := opentsdb(t, sensors.OpenTSDBOptions{URL: s.URL}).Fetch(t.Context(), asked("load", true, "i1"))
	if err == nil || len(got["i1"]) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNewOpenTSDB(t *testing.T) {
	t.Parallel()
	for _, o := range []sensors.OpenTSDBOptions{{}, {URL: "host:4242"}, {URL: "http://host", Tag: "a|b"}, {URL: "http://host", Aggregator: "*"}} {
		if _, err := sensors.NewOpenTSDB(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
