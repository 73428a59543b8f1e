package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// said is a domain document as it was given.
type said struct {
	limit int // 0: none was named
	text  string
	seq   uint64
}

// withoutAsOf is a domain document without its last member, which is as_of.
func withoutAsOf(t testing.TB, text []byte) string {
	t.Helper()
	n := bytes.LastIndex(text, []byte(`,"as_of":{`))
	if n < 0 {
		t.Fatalf("no as_of: %s", text)
	}
	return string(text[:n])
}

// asOf asks for a domain as of a point, which is JSON.
func (e *epum) asOf(owner, domain, point string, limit int) answer {
	e.t.Helper()
	request := fmt.Sprintf(`{"domain_id":%q,"as_of":%s}`, domain, point)
	if limit > 0 {
		request = fmt.Sprintf(`{"domain_id":%q,"as_of":%s,"limit":%d}`, domain, point, limit)
	}
	return e.ask(owner, "describe_domain", request)
}

// witness describes a domain again and again, and keeps what it was told, once for each
// sequence.
type witness struct {
	e    *epum
	mu   sync.Mutex
	said map[uint64]said
}

// look describes the domain once.
func (w *witness) look(limit int) {
	w.e.t.Helper()
	request := `{"domain_id":"web"}`
	if limit > 0 {
		request = fmt.Sprintf(`{"domain_id":"web","limit":%d}`, limit)
	}
	a := w.e.ask("al", "describe_domain", request)
	if a.code == 404 {
		return
	}
	var doc struct {
		AsOf struct {
			Seq uint64 `json:"seq"`
		} `json:"as_of"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || a.code != 200 {
		w.e.t.Errorf("%d %s: %v", a.code, a.body, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[doc.AsOf.Seq] = said{limit, withoutAsOf(w.e.t, a.body), doc.AsOf.Seq}
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.said)
}

// randomStep does one of the things that make history.
func (e *epum) randomStep(r *rand.Rand) {
	e.t.Helper()
	owner := []string{"al", "al", "al", "bo"}[r.IntN(4)]
	try := func(cmd commands.Command) {
		if _, err := e.as(owner).Do(e.ctx(), cmd); err != nil && !isNotFound(err) && !errors.Is(err, commands.ErrWriteConflict) {
			e.t.Fatalf("%T: %v", cmd, err)
		}
	}
	switch r.IntN(14) {
	case 0, 1:
		try(commands.ReconfigureDomain{DomainID: "web", Config: preserve(r.IntN(6))})
	case 2:
		try(commands.ReconfigureDomain{DomainID: "web", Config: events.Config{
			General: fmt.Appendf(nil, `{ "chef_credential" : "ü<&>%d\u2028" }`, r.IntN(9)), Health: []byte(`{"monitor_health":true,"boot_timeout":1e3}`),
		}})
	case 3:
		try(commands.SubscribeDomain{DomainID: "web", SubscriberName: fmt.Sprint("s", r.IntN(3)), SubscriberOp: "o"})
	case 4:
		try(commands.UnsubscribeDomain{DomainID: "web", SubscriberName: fmt.Sprint("s", r.IntN(3))})
	case 5:
		if r.IntN(4) == 0 {
			try(commands.RemoveDomain{DomainID: "web"})
		}
		try(commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(r.IntN(4)), SubscriberName: "first", SubscriberOp: "o"})
	case 6:
		e.pass("reap")
	case 7, 8, 9:
		e.decide()
	default:
		e.randomReport(r, owner)
	}
}

// randomReport has an instance say something.
func (e *epum) randomReport(r *rand.Rand, owner string) {
	e.t.Helper()
	doc, err := e.as(owner).DescribeDomain(e.ctx(), "web", "", 0)
	if isNotFound(err) || err == nil && len(doc.Instances) == 0 {
		return
	}
	if err != nil {
		e.t.Fatal(err)
	}
	i := doc.Instances[r.IntN(len(doc.Instances))]
	if r.IntN(4) == 0 {
		beat := fmt.Sprintf(`{"node_id":%q,"state":%q,"error":"\u00e9 <%d>","error_time":"2026-01-02T03:04:05+02:00"}`,
			i.InstanceID, []string{"OK", "MONITOR_ERROR", "PROCESS_ERROR"}[r.IntN(3)], r.IntN(5))
		if err := e.nc.Publish(e.prefix.Node(i.InstanceID, "ou_heartbeat"), []byte(beat)); err != nil {
			e.t.Fatal(err)
		}
		return
	}
	state := events.InstanceStates[r.IntN(len(events.InstanceStates))]
	e.report(i.InstanceID, map[string]any{
		"state": state, "public_ip": fmt.Sprint("10.0.0.", r.IntN(9)), "odd <&>": map[string]any{"é": []float64{1, 2e30}}, "update_counter": r.Int32(),
	})
}

// TestAsOf_Property: at 100 random sequences of a random history, a domain as of then is
// byte for byte what describe_domain said then, from the bucket or from a replica; and
// where there was none, there is none.
func TestAsOf_Property(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	reapSoon := func(c *service.Config) { c.RecordReapingMaxAge = 0 }
	e := newEpum(t, named("a"), reapSoon)
	e.process(named("b"), reapSoon)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(3)})
	e.do("bo", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	w := &witness{e: e, said: map[uint64]said{}}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // catches sequences between the steps
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				w.look(0)
			}
		}
	}()
	for steps := 0; steps < 400 || w.count() < 150 && steps < 4000; steps++ {
		e.randomStep(r)
		w.look(r.IntN(4))
	}
	close(stop)
	await(t, "the witness ends", stopped)

	all := slices.Collect(maps.Values(w.said))
	slices.SortFunc(all, func(a, b said) int { return int(a.seq) - int(b.seq) })
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if len(all) < 100 {
		t.Fatalf("only %d sequences were seen", len(all))
	}
	for _, then := range all[:100] {
		a := e.asOf("al", "web", fmt.Sprint(then.seq), then.limit)
		if a.code != 200 {
			t.Fatalf("as of %d: %d %s", then.seq, a.code, a.body)
		}
		if diff := cmp.Diff(then.text, withoutAsOf(t, a.body)); diff != "" {
			t.Errorf("as of %d (-then +now):\n%s", then.seq, diff)
		}
		var doc struct {
			AsOf projections.AsOf `json:"as_of"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil || doc.AsOf.Seq != then.seq || doc.AsOf.Time.IsZero() {
			t.Errorf("as of %d: %+v, %v", then.seq, doc.AsOf, err)
		}
	}
	e.absentWhereAbsent(r)
}

// absentWhereAbsent compares with the fold of the log, at random sequences, whether the
// domain was there.
func (e *epum) absentWhereAbsent(r *rand.Rand) {
	e.t.Helper()
	log := e.log()
	web := events.DomainID{Owner: "al", Name: "web"}
	state, there := events.NewState(), make([]bool, len(log))
	for n, l := range log {
		events.Apply(state, l.envelope(), l.decode())
		there[n] = state.Domain(web) != nil
	}
	for range 100 {
		n := r.IntN(len(log))
		code := 404
		if there[n] {
			code = 200
		}
		if a := e.asOf("al", "web", fmt.Sprint(log[n].seq), 1); a.code != code {
			e.t.Errorf("as of %d: %d, want %d: %s", log[n].seq, a.code, code, a.body)
		}
	}
}

// TestAsOf_Time: a time stands for the last event till then.
func TestAsOf_Time(t *testing.T) {
	t.Parallel()
	e := busy(t)
	log := e.log()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, len(log)-1).Draw(rt, "event")
		ago := time.Duration(rapid.IntRange(0, 1).Draw(rt, "before"))
		at := log[n].time.Add(-ago)
		want := uint64(0)
		for _, l := range log {
			if !l.time.After(at) {
				want = l.seq
			}
		}
		a := e.asOf("al", "web", fmt.Sprintf("%q", at.UTC().Format(time.RFC3339Nano)), 0)
		if want == 0 {
			if a.code != 404 {
				rt.Fatalf("before the log: %d %s", a.code, a.body)
			}
			return
		}
		b := e.asOf("al", "web", fmt.Sprint(want), 0)
		if a.code != b.code || !bytes.Equal(a.body, b.body) && a.code == 200 {
			rt.Fatalf("as of %s: %s\nas of %d: %s", at, a.body, want, b.body)
		}
	})
}

// TestAsOf_Refusals: what was not, or is yet to come.
func TestAsOf_Refusals(t *testing.T) {
	t.Parallel()
	e := busy(t)
	var added, removed uint64
	db := events.DomainID{Owner: "al", Name: "db"}
	for _, l := range e.log() {
		if l.key == db.Key() {
			switch l.typ() {
			case events.TypeDomainAdded:
				added = l.seq
			case events.TypeDomainRemoved:
				removed = l.seq
			}
		}
	}
	for _, c := range []struct {
		point       string
		code        int
		field, says string
	}{
		{fmt.Sprint(added - 1), 404, "", fmt.Sprintf("it was added at event %d", added)},
		{fmt.Sprint(added), 200, "", ""},
		{fmt.Sprint(removed - 1), 200, "", ""},
		{fmt.Sprint(removed), 404, "", fmt.Sprintf("it had gone at event %d", removed)},
		{"1000000", 400, "as_of", "beyond the log: it ends at"},
		{`"2999-01-01T00:00:00Z"`, 400, "as_of", "beyond the log: it is 20"},
		{`"1999-01-01T00:00:00Z"`, 404, "", "before the log begins"},
	} {
		a := e.asOf("al", "db", c.point, 0)
		if a.code != c.code || a.field != c.field || !bytes.Contains(a.body, []byte(c.says)) {
			t.Errorf("as of %s: %d, field %q: %s", c.point, a.code, a.field, a.body)
		}
		if a := e.asOf("bo", "db", c.point, 0); a.code == 200 {
			t.Errorf("another caller as of %s: %s", c.point, a.body)
		}
	}
}

// TestAsOf_SensorData: what was measured is not told as of a point, all else is.
func TestAsOf_SensorData(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	conf := engineConf("sensor", map[string]any{
		"minimum_vms": 1, "maximum_vms": 3, "metric": "load", "sensor_type": "nats", "monitor_sensors": []string{"load"},
		"monitor_domain_sensors": []string{"load"}, "scale_up_threshold": 5,
	})
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: conf})
	e.comesTo("al", "web", 1)
	e.push("al", "web", e.live("al", "web")[0].InstanceID, "load", 3)
	e.push("al", "web", "-", "load", 3)
	var live map[string]any
	instance := func(doc map[string]any) map[string]any {
		return doc["instances"].([]any)[0].(map[string]any)
	}
	eventually(t, "the samples are shown", func() bool {
		e.decide()
		live = nil
		a := e.ask("al", "describe_domain", `{"domain_id":"web"}`)
		if err := json.Unmarshal(a.body, &live); err != nil {
			t.Fatal(err)
		}
		return instance(live)["sensor_data"] != nil && len(live["sensor_data"].(map[string]any)) > 0
	})
	var past map[string]any
	seq := live["as_of"].(map[string]any)["seq"]
	if err := json.Unmarshal(e.asOf("al", "web", fmt.Sprint(seq), 0).body, &past); err != nil {
		t.Fatal(err)
	}
	live["sensor_data"] = map[string]any{}
	delete(instance(live), "sensor_data")
	delete(live, "as_of")
	delete(past, "as_of")
	if diff := cmp.Diff(live, past); diff != "" {
		t.Error(diff)
	}
}
