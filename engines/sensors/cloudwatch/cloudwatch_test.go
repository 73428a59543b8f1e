package cloudwatch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/engines/sensors/cloudwatch"
	"github.com/seed-524e47bf/epum/events"
)

var start = time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)

// call is one GetMetricData, as the server reads it.
type call struct {
	start, end time.Time
	token      string
	queries    map[string]string // id → namespace/metric{dimensions} statistic period
}

type amazon struct {
	url   string
	mu    sync.Mutex
	calls []call
}

func (a *amazon) made() []call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// serve is CloudWatch with its protocol, RPC v2 with CBOR.
func serve(t *testing.T, answer func(w http.ResponseWriter, c call)) *amazon {
	t.Helper()
	a := &amazon{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/service/GraniteServiceVersion20100801/operation/GetMetricData" || r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" ||
			!strings.Contains(r.Header.Get("Authorization"), "Credential=key/") || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/monitoring/") {
			t.Errorf("%s %v", r.URL.Path, r.Header)
		}
		c := read(t, body)
		a.mu.Lock()
		a.calls = append(a.calls, c)
		a.mu.Unlock()
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.Header().Set("Content-Type", "application/cbor")
		answer(w, c)
	}))
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func read(t *testing.T, body []byte) call {
	v, err := cbor.Decode(body)
	if err != nil {
		t.Error(err)
		return call{}
	}
	m := v.(cbor.Map)
	c := call{queries: map[string]string{}}
	c.start, _ = cbor.AsTime(m["StartTime"])
	c.end, _ = cbor.AsTime(m["EndTime"])
	if token, ok := m["NextToken"].(cbor.String); ok {
		c.token = string(token)
	}
	for _, entry := range m["MetricDataQueries"].(cbor.List) {
		q := entry.(cbor.Map)
		stat := q["MetricStat"].(cbor.Map)
		metric := stat["Metric"].(cbor.Map)
		var dimensions []string
		for _, d := range metric["Dimensions"].(cbor.List) {
			dimensions = append(dimensions, fmt.Sprintf("%s=%s", d.(cbor.Map)["Name"], d.(cbor.Map)["Value"]))
		}
		period, _ := cbor.AsInt32(stat["Period"])
		c.queries[string(q["Id"].(cbor.String))] = fmt.Sprintf("%s/%s{%s} %s %d", metric["Namespace"], metric["MetricName"], strings.Join(dimensions, ","), stat["Stat"], period)
	}
	return c
}

// result is one of an answer: values of the bins before start, the last of them the
// minute that start is in.
func result(id string, values ...float64) cbor.Map {
	m := cbor.Map{"Id": cbor.String(id), "StatusCode": cbor.String("Complete")}
	stamps, numbers := cbor.List{}, cbor.List{}
	for n, v := range values {
		at := start.Truncate(time.Minute).Add(-time.Duration(len(values)-1-n) * time.Minute)
		stamps = append(stamps, &cbor.Tag{ID: 1, Value: cbor.Float64(at.Unix())})
		numbers = append(numbers, cbor.Float64(v))
	}
	m["Timestamps"], m["Values"] = stamps, numbers
	return m
}

func answer(w http.ResponseWriter, token string, results ...cbor.Map) {
	list := cbor.List{}
	for _, r := range results {
		list = append(list, r)
	}
	m := cbor.Map{"MetricDataResults": list}
	if token != "" {
		m["NextToken"] = cbor.String(token)
	}
	_, _ = w.Write(cbor.Encode(m))
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	_, _ = w.Write(cbor.Encode(cbor.Map{"__type": cbor.String("com.amazonaws.cloudwatch#" + code), "message": cbor.String(text)}))
}

func source(t *testing.T, url string, timeout time.Duration) *cloudwatch.Source {
	t.Helper()
	s, err := cloudwatch.New(t.Context(), cloudwatch.Options{
		Region: "eu-west-1", Endpoint: url, Timeout: timeout,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret"}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func query(statistic string, ofDomain bool, ids ...string) sensors.Query {
	q := sensors.Query{
		Domain: events.DomainID{Owner: "alice", Name: "web"}, Metric: "load", OfDomain: ofDomain, Statistic: statistic,
		From: start.Add(-90 * time.Second), To: start,
	}
	for _, id := range ids {
		q.Instances = append(q.Instances, &events.Instance{ID: id, State: events.Running})
	}
	return q
}

func TestSource_Fetch(t *testing.T) {
	t.Parallel()
	a := serve(t, func(w http.ResponseWriter, c call) {
		if c.token == "" {
			answer(w, "more", result("v0", 7), result("n0", 2), result("v1", 1, 4), result("n1", 3))
			return
		}
		answer(w, "", result("v2"), result("n2"), result("n1", 1, 3), result("stray", 5))
	})
	q := query(engines.StatisticAverage, true, "i1", "i2")
	q.Instances[0].Fields = []events.Field{{Name: "iaas_id", Value: []byte(`"i-0abc"`)}}
	got, err := source(t, a.url, 0).Fetch(t.Context(), q)
	minute := start.Truncate(time.Minute)
	want := sensors.Series{
		engines.OfDomain: {{Time: minute, Value: 7, Of: 2}}, "i1": {{Time: minute.Add(-time.Minute), Value: 1, Of: 1}, {Time: minute, Value: 4, Of: 3}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if v, _ := sensors.Value(got["i1"], engines.StatisticAverage); v.Value != 13.0/4 {
		t.Errorf("the average is %v", v)
	}
	calls := a.made()
	if len(calls) != 2 || calls[1].token != "more" || !calls[0].start.Equal(start.Add(-90*time.Second)) || !calls[0].end.Equal(start) {
		t.Fatalf("%+v", calls)
	}
	if diff := cmp.Diff(map[string]string{
		"v0": "epum/load{Owner=alice,Domain=web} Average 60", "n0": "epum/load{Owner=alice,Domain=web} SampleCount 60",
		"v1": "AWS/EC2/load{InstanceId=i-0abc} Average 60", "n1": "AWS/EC2/load{InstanceId=i-0abc} SampleCount 60",
		"v2": "AWS/EC2/load{InstanceId=i2} Average 60", "n2": "AWS/EC2/load{InstanceId=i2} SampleCount 60",
	}, calls[0].queries); diff != "" {
		t.Error(diff)
	}
}

func TestSource_Fetch_statistics(t *testing.T) {
	t.Parallel()
	a := serve(t, func(w http.ResponseWriter, _ call) { answer(w, "", result("v0", 2, 5)) })
	s := source(t, a.url, 0)
	for statistic, want := range map[string]float64{
		engines.StatisticSeries: 5, engines.StatisticSum: 7, engines.StatisticSampleCount: 7, engines.StatisticMaximum: 5, engines.StatisticMinimum: 2,
	} {
		got, err := s.Fetch(t.Context(), query(statistic, false, "i1"))
		if v, ok := sensors.Value(got["i1"], statistic); err != nil || !ok || v.Value != want {
			t.Errorf("%s: %v, %v", statistic, v, err)
		}
		asked := a.made()[len(a.made())-1].queries
		stat := statistic
		if statistic == engines.StatisticSeries {
			stat = engines.StatisticAverage
		}
		if len(asked) != 1 || !strings.HasSuffix(asked["v0"], stat+" 60") {
			t.Errorf("%s: %v", statistic, asked)
		}
	}
	long := query(engines.StatisticSum, false, "i1")
	long.From = long.To.Add(-24 * time.Hour)
	if _, err := s.Fetch(t.Context(), long); err != nil {
		t.Error(err)
	}
	c := a.made()[len(a.made())-1]
	if !strings.HasSuffix(c.queries["v0"], "Sum 900") || c.start.Minute()%15 != 0 || c.start.After(long.From) {
		t.Errorf("%+v", c)
	}
}

func TestSource_Fetch_batches(t *testing.T) {
	t.Parallel()
	a := serve(t, func(w http.ResponseWriter, c call) {
		var results []cbor.Map
		for id := range c.queries {
			results = append(results, result(id, 1))
		}
		if len(c.queries) < 500 {
			refuse(w, 400, "InvalidParameterValue", "the last one is refused")
			return
		}
		answer(w, "", results...)
	})
	var ids []string
	for n := range 600 {
		ids = append(ids, fmt.Sprint("i", n))
	}
	got, err := source(t, a.url, 0).Fetch(t.Context(), query(engines.StatisticAverage, false, ids...))
	if err == nil || !strings.Contains(err.Error(), "the last one is refused") || len(got) != 500 || len(a.made()) != 3 {
		t.Errorf("%d series in %d calls, %v", len(got), len(a.made()), err)
	}
}

func TestSource_Fetch_faults(t *testing.T) {
	t.Parallel()
	bad := func(status, message string) cbor.Map {
		m := result("v0", 1)
		m["StatusCode"] = cbor.String(status)
		m["Messages"] = cbor.List{cbor.Map{"Code": cbor.String("x"), "Value": cbor.String(message)}}
		return m
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, c call)
		says   string
		some   bool
	}{
		"forbidden":     {func(w http.ResponseWriter, _ call) { answer(w, "", bad("Forbidden", "not yours")) }, "Forbidden: not yours", true},
		"broken":        {func(w http.ResponseWriter, _ call) { answer(w, "", bad("InternalError", "")) }, "InternalError", true},
		"in part":       {func(w http.ResponseWriter, _ call) { answer(w, "", bad("PartialData", "")) }, "", true},
		"empty":         {func(w http.ResponseWriter, _ call) { answer(w, "") }, "", false},
		"denied":        {func(w http.ResponseWriter, _ call) { refuse(w, 403, "AccessDenied", "no such right") }, "AccessDenied", false},
		"throttled":     {func(w http.ResponseWriter, _ call) { refuse(w, 400, "Throttling", "Rate exceeded") }, "Rate exceeded", false},
		"garbage":       {func(w http.ResponseWriter, _ call) { fmt.Fprint(w, "<html>welcome") }, "GetMetricData", false},
		"cut off":       {func(w http.ResponseWriter, _ call) { w.Header().Set("Content-Length", "99"); fmt.Fprint(w, "\xbf") }, "GetMetricData", false},
		"huge":          {func(w http.ResponseWriter, _ call) { _, _ = w.Write(bytes.Repeat([]byte{0x60}, 9<<20)) }, "larger than 8 MiB", false},
		"the same page": {func(w http.ResponseWriter, _ call) { answer(w, "again", result("v0", 1)) }, "", true},
		"half a result": {func(w http.ResponseWriter, _ call) {
			m := result("v0", 1, 2)
			m["Values"] = cbor.List{cbor.Float64(1)}
			answer(w, "", m)
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, c.answer)
			got, err := source(t, a.url, 30*time.Second).Fetch(t.Context(), query(engines.StatisticSum, false, "i1"))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || (len(got["i1"]) == 1) != c.some {
				t.Errorf("%v, %v", got, err)
			}
			if name == "throttled" && len(a.made()) != 3 {
				t.Errorf("asked %d times", len(a.made()))
			}
		})
	}
	t.Run("throttled once", func(t *testing.T) {
		t.Parallel()
		var calls atomic.Int32
		a := serve(t, func(w http.ResponseWriter, _ call) {
			if calls.Add(1) == 1 {
				refuse(w, 400, "ThrottlingException", "Rate exceeded")
				return
			}
			answer(w, "", result("v0", 1))
		})
		if got, err := source(t, a.url, 30*time.Second).Fetch(t.Context(), query(engines.StatisticSum, false, "i1")); err != nil || len(got["i1"]) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("endless pages", func(t *testing.T) {
		t.Parallel()
		var calls atomic.Int32
		a := serve(t, func(w http.ResponseWriter, _ call) { answer(w, fmt.Sprint(calls.Add(1))) })
		if _, err := source(t, a.url, 0).Fetch(t.Context(), query(engines.StatisticSum, false, "i1")); err == nil || !strings.Contains(err.Error(), "pages") {
			t.Error(err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		block := make(chan struct{})
		a := serve(t, func(http.ResponseWriter, call) { <-block })
		t.Cleanup(func() { close(block) })
		began := time.Now()
		if _, err := source(t, a.url, 100*time.Millisecond).Fetch(t.Context(), query(engines.StatisticSum, false, "i1")); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, o := range []cloudwatch.Options{{}, {Region: "eu-west-1", Endpoint: "host:80"}, {Region: "eu-west-1", Endpoint: "http://"}} {
		if _, err := cloudwatch.New(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
