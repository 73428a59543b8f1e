package passes

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
)

// sensed is a config that has load read from a source.
func sensed(source string) events.Config {
	return events.Config{
		General: []byte(`{"engine_class":"sensor"}`),
		EngineConf: fmt.Appendf(nil, `{"minimum_vms":1,"metric":"load","scale_up_threshold":4,"cooldown_period":0,"sensor_type":%q,"monitor_sensors":["load"],`+
			`"sample_period":60,"iaas_site":"s","iaas_allocation":"small","deployable_type":"w"}`, source),
	}
}

func (s *stage) add(id events.DomainID, config events.Config) {
	s.put(events.Envelope{Key: id.Key(), Time: s.now}, events.DomainAdded{Config: config})
	for s.act() {
	}
}

func (g *gauge) readings() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reads
}

// TestInputs_pushes: what is pushed is read soon, much at once in one go, and leaves
// no more readings to come than there were.
func TestInputs_pushes(t *testing.T) {
	s := newStage(t)
	s.gauge.values["load"] = 1
	s.add(dom, sensed("nats"))
	s.goOn(began.Add(time.Minute))
	readings := func(d time.Duration) int {
		before := s.gauge.readings()
		s.goOn(s.now.Add(d))
		return s.gauge.readings() - before
	}
	quiet := readings(time.Minute)
	for range 1000 {
		s.term.inputs.sampled(dom)
	}
	if n := readings(200 * time.Millisecond); n != 1 {
		t.Errorf("%d readings of 1,000 pushes", n)
	}
	for n := range 50 {
		s.term.inputs.sampled(dom)
		if got := readings(time.Second); got < 1 || got > 2 {
			t.Fatalf("%d readings in the second after push %d", got, n)
		}
	}
	readings(time.Minute)
	if n := readings(time.Minute); n > quiet {
		t.Errorf("%d readings a minute, before the pushes it was %d", n, quiet)
	}
	other := events.DomainID{Owner: "o", Name: "other"}
	s.term.Sources["prometheus"] = s.gauge
	s.add(other, sensed("prometheus"))
	s.goOn(s.now.Add(time.Second))
	before := s.gauge.readings()
	s.term.inputs.sampled(other)
	s.goOn(s.now.Add(time.Second))
	if n := s.gauge.readings() - before; n != 0 {
		t.Errorf("%d readings of another source, since something was pushed", n)
	}
}

// held is a source that answers when it is let.
type held struct {
	sensors.Source
	mu    sync.Mutex
	asked int
	let   chan struct{}
}

func (h *held) Fetch(ctx context.Context, q sensors.Query) (sensors.Series, error) {
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	select {
	case <-h.let:
		return h.Source.Fetch(ctx, q)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *held) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestInputs_hanging: more domains than are asked at a time hang with their source;
// another source is read all the same, and so is what is pushed during a reading.
func TestInputs_hanging(t *testing.T) {
	s := newStage(t)
	s.gauge.values["load"] = 1
	hangs := &held{Source: s.gauge, let: make(chan struct{})}
	s.term.Sources["prometheus"] = hangs
	for n := range 2 * inputSlots {
		s.put(events.Envelope{Key: events.DomainID{Owner: "o", Name: fmt.Sprint("hangs", n)}.Key(), Time: s.now}, events.DomainAdded{Config: sensed("prometheus")})
	}
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainAdded{Config: sensed("nats")})
	s.must(s.term.onChange(s.t.Context(), s.decisions))
	s.term.note()
	s.launchAll(t)
	s.term.inputs.readAll(s.now)
	until(t, "the other source is read", func() bool { return s.gauge.readings() > 0 })
	close(hangs.let)
	<-s.term.inputs.nothing()
	if n := hangs.times(); n != 2*inputSlots {
		t.Errorf("%d readings, want %d", n, 2*inputSlots)
	}
}

// launchAll has the instances of all domains run.
func (s *stage) launchAll(t *testing.T) {
	t.Helper()
	var keys []events.Key
	s.term.Replica.View(func(state *events.State) {
		for i := range state.AllInstances() {
			keys = append(keys, i.Domain.InstanceKey(i.ID))
		}
	})
	for _, key := range keys {
		s.put(events.Envelope{Key: key, Time: s.now}, events.StateChanged{State: events.Running})
	}
}

// TestInputs_pushedMeanwhile: what is pushed while the domain is read is read next.
func TestInputs_pushedMeanwhile(t *testing.T) {
	s := newStage(t)
	hangs := &held{Source: s.gauge, let: make(chan struct{})}
	s.term.Sources["nats"] = hangs
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainAdded{Config: sensed("nats")})
	s.must(s.term.onChange(s.t.Context(), s.decisions))
	s.term.note()
	s.term.inputs.readAll(s.now)
	until(t, "the source is asked", func() bool { return hangs.times() == 1 })
	s.term.inputs.sampled(dom)
	close(hangs.let)
	for s.act() {
	}
	s.goOn(s.now.Add(200 * time.Millisecond))
	if n := hangs.times(); n != 2 {
		t.Errorf("%d readings, want another one", n)
	}
}

// TestInputs_another: a domain of the name of one that was removed begins with
// nothing, whatever the bucket had.
func TestInputs_another(t *testing.T) {
	s := newStage(t)
	s.gauge.values["load"] = 9
	s.add(dom, sensed("nats"))
	s.launchAll(t)
	s.goOn(began.Add(time.Minute))
	if len(s.samples.all) != 1 || s.term.inputs.readingsOf(dom) == nil {
		t.Fatalf("nothing was read: %v", s.samples.all)
	}
	s.gauge.fails = true
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainRemovalRequested{})
	for s.act() {
	}
	if len(s.samples.all) != 0 {
		t.Errorf("kept of a removed domain: %v", s.samples.all)
	}
	s.tell([]string{"valid", "TERMINATED"})
	var open []events.Key
	s.term.Replica.View(func(state *events.State) {
		for _, i := range state.Instances(dom) {
			if !i.State.Terminal() {
				open = append(open, dom.InstanceKey(i.ID))
			}
		}
	})
	for _, key := range open {
		s.put(events.Envelope{Key: key, Time: s.now}, events.StateChanged{State: events.Terminated})
	}
	for s.act() {
	}
	s.add(dom, sensed("nats"))
	if r := s.term.inputs.readingsOf(dom); len(r["load"]) > 0 {
		t.Errorf("begins with %v", r)
	}
	// What cannot be read of one domain is no matter of the others.
	s.samples.all[events.DomainID{Owner: "o", Name: "z"}] = []byte("{")
	s.gauge.fails = false
	s.launchAll(t)
	s.goOn(s.now.Add(time.Minute))
	s.elect()
	if r := s.term.inputs.readingsOf(dom); len(r["load"]) == 0 {
		t.Errorf("the next leader begins with %v", r)
	}
	// Another source begins with nothing, too.
	s.term.Sources["prometheus"] = sensors.Mock{}
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainReconfigured{Config: sensed("prometheus")})
	s.term.note()
	if r := s.term.inputs.readingsOf(dom); len(r["load"]) != 0 {
		t.Errorf("another source begins with %v", r)
	}
}

// TestTerm_decideAsked: a pass that somebody asks for where passes are driven from
// outside decides once on what it has read, and on others before.
func TestTerm_decideAsked(t *testing.T) {
	s := newStage(t)
	s.term.ExternalDecide, s.term.periodic = true, nil
	s.gauge.values["load"] = 9
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainAdded{Config: sensed("nats")})
	other := events.DomainID{Owner: "o", Name: "other"}
	s.put(events.Envelope{Key: other.Key(), Time: s.now}, events.DomainAdded{Config: events.Config{EngineConf: []byte(`{"preserve_n":1}`)}})
	pass := func() Result {
		t.Helper()
		s.term.note()
		result, err := s.term.decideAsked(t.Context())
		s.must(err)
		return result
	}
	if r := pass(); r.Launched != 2 || r.Domains != 2 || r.Changed != 2 {
		t.Errorf("%+v", r)
	}
	s.launchAll(t)
	for range 3 { // with no cool-down each decide is a step
		if r := pass(); r.Launched != 1 || r.Domains != 2 {
			t.Errorf("%+v", r)
		}
		s.launchAll(t)
	}
	for _, source := range []string{"prometheus", "opentsdb"} {
		id := events.DomainID{Owner: "o", Name: source}
		s.put(events.Envelope{Key: id.Key(), Time: s.now}, events.DomainAdded{Config: sensed(source)})
	}
	pass()
	s.launchAll(t)
	// One source hangs and another fails; whoever waits for neither does not wait.
	hangs := &held{Source: s.gauge, let: make(chan struct{})}
	s.term.Sources["prometheus"], s.term.Sources["opentsdb"] = hangs, &gauge{fails: true}
	reconfigured := sensed("opentsdb")
	reconfigured.EngineConf = []byte(strings.Replace(string(reconfigured.EngineConf), `"minimum_vms":1`, `"minimum_vms":3`, 1))
	s.put(events.Envelope{Key: events.DomainID{Owner: "o", Name: "opentsdb"}.Key(), Time: s.now}, events.DomainReconfigured{Config: reconfigured})
	s.put(events.Envelope{Key: other.Key(), Time: s.now}, events.DomainReconfigured{Config: events.Config{EngineConf: []byte(`{"preserve_n":2}`)}})
	s.term.note()
	done := make(chan Result)
	go func() {
		result, err := s.term.decideAsked(t.Context())
		if err != nil {
			t.Error(err)
		}
		done <- result
	}()
	for id, want := range map[events.DomainID]int{other: 2, {Owner: "o", Name: "opentsdb"}: 3, dom: 6} {
		until(t, id.Name+" is decided on", func() bool {
			n := 0
			s.term.Replica.View(func(state *events.State) {
				for _, i := range state.Instances(id) {
					if i.State < events.Terminating {
						n++
					}
				}
			})
			return n == want
		})
	}
	select {
	case r := <-done:
		t.Fatalf("%+v before the one that hangs", r)
	default:
	}
	close(hangs.let)
	if r := <-done; r.Launched != 5 || r.Domains != 4 {
		t.Errorf("%+v\n%s", r, s.out.String())
	}
}

// TestInputs_new: whoever decides outside is asked about a domain as soon as it is
// there, and so is a source when somebody asks for a pass.
func TestInputs_new(t *testing.T) {
	s := newStage(t)
	outside := []byte(`{"subject":"s","settings":{"keep":2},"iaas_site":"s","iaas_allocation":"small","deployable_type":"w"}`)
	s.put(events.Envelope{Key: dom.Key(), Time: s.now}, events.DomainAdded{
		Config: events.Config{General: []byte(`{"engine_class":"external"}`), EngineConf: outside},
	})
	s.must(s.term.onChange(t.Context(), s.decisions))
	for s.act() {
	}
	if n := strings.Count(s.out.String(), "    launch i"); n != 2 {
		t.Errorf("%d launches\n%s", n, s.out.String())
	}
	s.term.ExternalDecide = true
	s.gauge.values["load"] = 1
	s.put(events.Envelope{Key: events.DomainID{Owner: "o", Name: "other"}.Key(), Time: s.now}, events.DomainAdded{Config: sensedOfDomain()})
	_, err := s.term.decideAsked(t.Context())
	s.must(err)
	if s.gauge.readings() != 1 {
		t.Errorf("%d readings", s.gauge.readings())
	}
}

// sensedOfDomain is sensed, but for a metric of the domain itself.
func sensedOfDomain() events.Config {
	c := sensed("nats")
	c.EngineConf = []byte(strings.Replace(string(c.EngineConf), "monitor_sensors", "monitor_domain_sensors", 1))
	return c
}
