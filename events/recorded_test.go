package events_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-524e47bf/epum/events"
)

// recorded is a message of the log as an append makes it.
func recorded(t testing.TB, ev events.Event) events.Recorded {
	t.Helper()
	body, err := events.Encode(ev)
	if err != nil {
		t.Fatal(err)
	}
	subject := "epum.event.domain.alice.web"
	headers := map[string][]string{
		"ce-specversion": {"1.0"}, "ce-id": {"0198a1c2-7d3e-7000-8000-000000000001"}, "ce-source": {"/epum/p1"}, "ce-type": {ev.Type()},
		"ce-time": {"2026-03-01T12:00:00.000000017Z"}, "ce-actor": {"alice"}, "ce-causationid": {"alice/c1"}, "ce-epoch": {"7"},
		"Nats-Expected-Last-Subject-Sequence": {"12"}, "Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"2"},
	}
	headers["ce-seal"] = []string{events.Seal(subject, headers, body)}
	return events.DefaultPrefix.Record(subject, 17, time.Unix(1_700_000_000, 123_456_789).UTC(), headers, body)
}

// TestSeal_golden holds the seal's bytes: old logs do not follow a change.
func TestSeal_golden(t *testing.T) {
	r := recorded(t, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
	if got, want := r.Header["ce-seal"][0], "1fce5bf9ce622825"; got != want {
		t.Errorf("the seal is %s, not %s", got, want)
	}
}

// TestSeal_finds changes one thing of a message after the other.
func TestSeal_finds(t *testing.T) {
	whole := recorded(t, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
	seal := whole.Header["ce-seal"][0]
	check := func(what string, same bool, subject string, headers map[string][]string, body []byte) {
		t.Helper()
		if (events.Seal(subject, headers, body) == seal) != same {
			t.Errorf("%s: the seal is the same: %v", what, !same)
		}
	}
	check("nothing", true, whole.Subject, whole.Header, whole.Body)
	check("the subject", false, whole.Subject+"s", whole.Header, whole.Body)
	for n := range whole.Body {
		body := bytes.Clone(whole.Body)
		body[n] ^= 1
		check("a byte of the body", false, whole.Subject, whole.Header, body)
	}
	check("no body", false, whole.Subject, whole.Header, nil)
	for name, values := range whole.Header {
		free := name == "ce-seal" || strings.HasPrefix(name, "Nats-Batch")
		for what, changed := range map[string][]string{"without": nil, "changed": {values[0] + "x"}, "twice": {values[0], values[0]}} {
			headers := maps.Clone(whole.Header)
			if headers[name] = changed; changed == nil {
				delete(headers, name)
			}
			check(what+" "+name, free, whole.Subject, headers, whole.Body)
		}
	}
	for name, free := range map[string]bool{"ce-new": false, "Nats-Expected-Last-Subject-Sequence-Subject": false, "Traceparent": true} {
		headers := maps.Clone(whole.Header)
		headers[name] = []string{"x"}
		check("added "+name, free, whole.Subject, headers, whole.Body)
	}
}

// TestRecorded_Sealed has no seal, the right one, and others; and headers of others.
func TestRecorded_Sealed(t *testing.T) {
	r := recorded(t, events.Reaped{})
	sealed := func() (has, intact bool, others []string) {
		var h events.Headers
		h.Read(r.Header)
		has, intact = r.Sealed(&h)
		return has, intact, h.Others
	}
	if _, _, others := sealed(); len(others) > 0 {
		t.Errorf("an event has others' headers: %v", others)
	}
	r.Header["Traceparent"], r.Header["Ce-id"] = []string{"x"}, []string{"y"}
	if _, intact, others := sealed(); !intact || !slices.Equal(others, []string{"Ce-id", "Traceparent"}) {
		t.Errorf("with others' headers: intact %v, %v", intact, others)
	}
	seal := r.Header["ce-seal"][0]
	for _, c := range []struct {
		seals       []string
		has, intact bool
	}{{nil, false, false}, {[]string{seal}, true, true}, {[]string{seal, seal}, true, false}, {[]string{""}, true, false}} {
		r.Header["ce-seal"] = c.seals
		if has, intact, _ := sealed(); has != c.has || intact != c.intact {
			t.Errorf("%v: has %v, intact %v", c.seals, has, intact)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	r := recorded(b, events.DomainAdded{DefinitionID: "web", Config: events.Config{General: json.RawMessage(`{"text":"` + strings.Repeat("x", 200) + `"}`)}})
	b.ReportAllocs()
	for b.Loop() {
		events.Seal(r.Subject, r.Header, r.Body)
	}
}

var sameRecord = cmp.Options{cmpopts.EquateEmpty(), cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() == ".Err"
}, cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) }))}

// TestRecorded_CloudEvent writes all kinds of messages as CloudEvents and reads them back.
func TestRecorded_CloudEvent(t *testing.T) {
	all := []events.Recorded{}
	for _, ev := range samples() {
		all = append(all, recorded(t, ev))
	}
	change := func(name string, values ...string) events.Recorded {
		r := recorded(t, events.DomainSubscribed{SubscriberName: "<s>\u2028", SubscriberOp: "o"})
		if r.Header[name] = values; values == nil {
			delete(r.Header, name)
		}
		return events.DefaultPrefix.Record(r.Subject, r.Seq, r.Time, r.Header, r.Body)
	}
	for name := range recorded(t, events.Reaped{}).Header {
		all = append(all, change(name), change(name, ""), change(name, "\xff"), change(name, " a\tb:c "), change(name, "a", "b"))
	}
	all = append(all, change("Nats-Stream", "s"), change("X-other", "1", "2"), change("ce-new", "x"), change("ce-type", "epum.new.thing.v1"), change("ce-type", events.TypeForeign))
	bodies := []string{"", "null", " {}", "{}\n", `{"a": 1}`, "no JSON", "\x00\xff", `"<&>"`, `"` + "\u2028" + `"`, `"` + "\xff" + `"`, "1e400", `{"a":1,"a":2}`, "[]]"}
	for _, body := range bodies {
		r := recorded(t, events.Reaped{})
		all = append(all, events.DefaultPrefix.Record(r.Subject, r.Seq, r.Time, r.Header, []byte(body)))
		all = append(all, events.DefaultPrefix.Record("elsewhere", 1, r.Time, nil, []byte(body)))
	}
	for _, r := range all {
		line := r.AppendCloudEvent([]byte("x"))[1:]
		if bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
			t.Errorf("no line of JSON: %q", line)
		}
		got, err := events.DefaultPrefix.ParseCloudEvent(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if d := cmp.Diff(r, got, sameRecord); d != "" {
			t.Errorf("%s:\n%s", line, d)
		}
		var attributes map[string]json.RawMessage
		if err := json.Unmarshal(line, &attributes); err != nil {
			t.Error(err)
		}
		for _, required := range []string{"specversion", "id", "source", "type"} {
			if len(attributes[required]) < len(`"x"`) {
				t.Errorf("%s: %s is %s", line, required, attributes[required])
			}
		}
		for name := range attributes {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" && name != "data_base64" {
				t.Errorf("%s: the attribute %q", line, name)
			}
		}
	}
}

// TestRecorded_CloudEvent_golden is what a program of somebody else reads.
func TestRecorded_CloudEvent_golden(t *testing.T) {
	want := `{"specversion":"1.0","id":"0198a1c2-7d3e-7000-8000-000000000001","source":"/epum/p1","type":"epum.domain.subscribed.v1",` +
		`"time":"2026-03-01T12:00:00.000000017Z","subject":"epum.event.domain.alice.web","datacontenttype":"application/json","sequence":"17",` +
		`"streamtime":"2023-11-14T22:13:20.123456789Z","actor":"alice","causationid":"alice/c1","epoch":"7","expectedsequence":"12","batchid":"b",` +
		`"batchsequence":"2","seal":"1fce5bf9ce622825","data":{"subscriber_name":"s","subscriber_op":"o"}}`
	r := recorded(t, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
	if d := cmp.Diff(want, string(r.AppendCloudEvent(nil))); d != "" {
		t.Error(d)
	}
}

func TestParseCloudEvent_refuses(t *testing.T) {
	r := recorded(t, events.Reaped{})
	line := string(r.AppendCloudEvent(nil))
	for name, bad := range map[string]string{
		"no JSON":       line[1:],
		"an array":      "[" + line + "]",
		"two":           line + line,
		"no sequence":   strings.Replace(line, `"sequence":"17",`, "", 1),
		"sequence 0":    strings.Replace(line, `"sequence":"17"`, `"sequence":"0"`, 1),
		"no subject":    strings.Replace(line, `"subject":"epum.event.domain.alice.web",`, "", 1),
		"no streamtime": strings.Replace(line, `streamtime`, "streemtime", 1),
		"version 2":     strings.Replace(line, `"specversion":"1.0"`, `"specversion":"2.0"`, 1),
		"headers":       strings.Replace(line, `"seal"`, `"headers":"eA==","seal"`, 1),
	} {
		if bad == line {
			t.Fatalf("%s: nothing was changed", name)
		}
		if got, err := events.DefaultPrefix.ParseCloudEvent([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzParseCloudEvent: what is read is written as it was.
func FuzzParseCloudEvent(f *testing.F) {
	r := recorded(f, events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "o"})
	f.Add(r.AppendCloudEvent(nil))
	foreign := events.DefaultPrefix.Record("elsewhere", 1, r.Time, map[string][]string{"a": {"b"}}, []byte("\xff"))
	f.Add(foreign.AppendCloudEvent(nil))
	f.Fuzz(func(t *testing.T, line []byte) {
		first, err := events.DefaultPrefix.ParseCloudEvent(line)
		if err != nil {
			return
		}
		second, err := events.DefaultPrefix.ParseCloudEvent(first.AppendCloudEvent(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second, sameRecord); d != "" {
			t.Error(d)
		}
	})
}
