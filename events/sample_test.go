package events_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

var web = events.DomainID{Owner: "alice@example.com", Name: "web"}

func TestPrefix_Sensor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prefix           events.Prefix
		domain           events.DomainID
		instance, metric string
		want             string
	}{
		"an instance's": {"epum", web, "i-1", "load", "epum.sensor.alice=40example=2Ecom.web.i-1.load"},
		"a domain's":    {"epum", web, "", "queue len", "epum.sensor.alice=40example=2Ecom.web.-.queue=20len"},
		"named -":       {"two", web, "-", "-", "two.sensor.alice=40example=2Ecom.web.=2D.=2D"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subject := c.prefix.Sensor(c.domain, c.instance, c.metric)
			if subject != c.want {
				t.Errorf("%s, want %s", subject, c.want)
			}
			domain, instance, metric, ok := c.prefix.SensorOf(subject)
			if !ok || domain != c.domain || instance != c.instance || metric != c.metric {
				t.Errorf("%s came back as %v %q %q %v", subject, domain, instance, metric, ok)
			}
		})
	}
	for _, subject := range []string{
		"", "epum.sensor", "epum.sensor.a.b.c", "epum.sensor.a.b.c.d.e", "epum.sensor.-.b.c.d", "epum.sensor.a.b.c.-", "epum.sensor.a.b..d",
		"epum.sensor.a=41.b.c.d", "epum.sensors.a.b.c.d", "two.sensor.a.b.c.d", "a.b.c.d",
	} {
		if domain, instance, metric, ok := events.DefaultPrefix.SensorOf(subject); ok {
			t.Errorf("%q was taken for %v %q %q", subject, domain, instance, metric)
		}
	}
}

func TestPrefix_DecodeSample(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	subject := events.DefaultPrefix.Sensor(web, "i-1", "load")
	for name, c := range map[string]struct {
		body  string
		value float64
		at    time.Time
	}{
		"no time":             {`{"value":1.5}`, 1.5, received},
		"a null time":         {`{"value":-1,"time":null}`, -1, received},
		"RFC 3339":            {`{"value":0,"time":"2026-01-02T04:04:04.5+01:00"}`, 0, received.Add(-500 * time.Millisecond)},
		"seconds":             {`{"time":1767323044.25,"value":2}`, 2, received.Add(-750 * time.Millisecond)},
		"a clock ahead":       {`{"value":2,"time":"2026-01-02T03:05:00Z"}`, 2, received.Add(55 * time.Second)},
		"a minute ahead":      {`{"value":2,"time":"2026-01-02T03:05:05Z"}`, 2, received},
		"the future":          {`{"value":2,"time":"2030-01-02T03:05:06Z"}`, 2, received},
		"more than is wanted": {`{"value":2,"unit":"ms","host":{"a":[1]}}`, 2, received},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := events.DefaultPrefix.DecodeSample(subject, []byte(c.body), received)
			want := events.Sample{Domain: web, Instance: "i-1", Metric: "load", Time: c.at, Value: c.value}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
	for body, says := range map[string]string{
		``: "JSON", `7`: "object", `{}`: "no value", `{"value":null}`: "no value", `{"value":"7"}`: "value", `{"value":1e999}`: "value",
		`{"value":NaN}`: "JSON", `{"value":true}`: "value", `{"value":1,"time":"yesterday"}`: "time", `{"value":1,"time":-1}`: "time",
		`{"Value":1}`: "no value", `{"value":1}x`: "JSON",
	} {
		if got, err := events.DefaultPrefix.DecodeSample(subject, []byte(body), received); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
	if _, err := events.DefaultPrefix.DecodeSample("epum.sensor.a", []byte(`{"value":1}`), received); err == nil {
		t.Error("a subject that names nothing was taken")
	}
}

// FuzzDecodeSample: a sample that is taken is a number with a time not far ahead,
// and its names give its subject back.
func FuzzDecodeSample(f *testing.F) {
	received := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, subject string, body []byte) {
		s, err := events.DefaultPrefix.DecodeSample(subject, body, received)
		if err != nil {
			return
		}
		switch {
		case events.DefaultPrefix.Sensor(s.Domain, s.Instance, s.Metric) != subject:
			t.Fatalf("%q was taken for %+v", subject, s)
		case s.Value-s.Value != 0:
			t.Fatalf("the value is %v", s.Value)
		case s.Time.After(received.Add(time.Minute)) || s.Time.Location() != time.UTC:
			t.Fatalf("the time is %v", s.Time)
		}
	})
}
