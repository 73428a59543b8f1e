package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/events"
)

// engineConf is a config of an engine: its own keys over those of a launch that it
// requires.
func engineConf(class string, keys map[string]any) events.Config {
	conf := map[string]any{}
	switch class {
	case "simplest", "schedule":
	case "phantom_multi", "phantom_multi_site_overflow":
		conf = map[string]any{"iaas_allocation": "small", "dtname": "w"}
	default:
		conf = map[string]any{"iaas_site": "s", "iaas_allocation": "small", "deployable_type": "w"}
	}
	maps.Copy(conf, keys)
	return events.Config{General: section(map[string]any{"engine_class": class}), EngineConf: section(conf)}
}

// push publishes a sample; instance "-": the domain's own.
func (e *epum) push(owner, domain, instance, metric string, value float64) {
	e.t.Helper()
	subject := fmt.Sprintf("%s.sensor.%s.%s.%s.%s", e.prefix, owner, domain, instance, metric)
	if _, err := e.js.Publish(e.ctx(), subject, fmt.Appendf(nil, `{"value":%g}`, value)); err != nil {
		e.t.Fatal(err)
	}
}

// live are the instances of a domain that count.
func (e *epum) live(owner, domain string) (live []natsapi.InstanceDocument) {
	e.t.Helper()
	for _, i := range e.describe(owner, domain).Instances {
		if i.State < events.Terminating {
			live = append(live, i)
		}
	}
	return live
}

// carryOut reports what a cloud would that does all it is asked.
func (e *epum) carryOut(owner, domain string) {
	e.t.Helper()
	doc, err := e.as(owner).DescribeDomain(e.ctx(), domain, "", 0)
	if isNotFound(err) {
		return
	}
	if err != nil {
		e.t.Fatal(err)
	}
	for _, i := range doc.Instances {
		switch {
		case i.State < events.Running:
			e.reportState(owner, domain, i.InstanceID, events.Running)
		case i.State == events.Terminating:
			e.reportStateOrGone(owner, domain, i.InstanceID, events.Terminated)
		}
	}
}

// comesTo has passes run, and done what they ask for, until a domain has so many
// instances, which all run, and the next pass asks for nothing.
func (e *epum) comesTo(owner, domain string, want int) {
	e.t.Helper()
	var got []natsapi.InstanceDocument
	defer func() {
		if e.t.Failed() {
			e.t.Logf("%d instances instead of %d; last: %s", len(got), want, e.lastDecision(owner, domain).Reason)
		}
	}()
	eventually(e.t, fmt.Sprintf("%s has %d instances", domain, want), func() bool {
		result := e.decide()
		e.carryOut(owner, domain)
		got = e.live(owner, domain)
		return result.Launched+result.Terminated == 0 && len(got) == want &&
			!slices.ContainsFunc(got, func(i natsapi.InstanceDocument) bool { return i.State != events.Running })
	})
}

// decisions are a domain's records, the oldest first.
func (e *epum) decisions(owner, domain string) (all []events.DecisionMade) {
	e.t.Helper()
	key := events.DomainID{Owner: owner, Name: domain}.DecisionKey()
	for _, l := range e.logOf(events.TypeDecisionMade) {
		if d, ok := l.decode().(events.DecisionMade); ok && l.key == key {
			all = append(all, d)
		}
	}
	return all
}

func (e *epum) lastDecision(owner, domain string) (last events.DecisionMade) {
	e.t.Helper()
	if all := e.decisions(owner, domain); len(all) > 0 {
		last = all[len(all)-1]
	}
	return last
}

// dead has an instance of a domain fail after it ran, and gives its id.
func (e *epum) dead(owner, domain string) string {
	e.t.Helper()
	id := e.live(owner, domain)[0].InstanceID
	e.reportState(owner, domain, id, events.RunningFailed)
	return id
}

// decider is somebody who decides for domains of the engine external.
type decider struct {
	e       *epum
	subject string

	mu     sync.Mutex
	answer func(view *enginetest.Question) any // nil: none; a []byte as it is, else as JSON
	asked  int
}

// decider starts one. Each question is answered on a goroutine of its own.
func (e *epum) decider(subject string, answer func(view *enginetest.Question) any) *decider {
	e.t.Helper()
	d := &decider{e: e, subject: subject, answer: answer}
	sub, err := e.nc.Subscribe(subject, func(m *nats.Msg) { go d.hear(m) })
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.nc.Flush(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return d
}

func (d *decider) hear(m *nats.Msg) {
	var view enginetest.Question
	if err := json.Unmarshal(m.Data, &view); err != nil {
		d.e.t.Errorf("question %s: %v", m.Data, err)
		return
	}
	d.mu.Lock()
	d.asked++
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		return
	}
	said := answer(&view)
	body, raw := said.([]byte)
	if !raw {
		body, _ = json.Marshal(said)
	}
	_ = m.Respond(body)
}

// says changes what is answered.
func (d *decider) says(answer func(view *enginetest.Question) any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func (d *decider) questions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// keeps is the answer that keeps settings.keep instances.
func keeps(view *enginetest.Question) any { return view.Keep() }

// soonHas waits, where passes start by themselves, until a domain has so many
// instances that count.
func (e *epum) soonHas(owner, domain string, want int) time.Duration {
	e.t.Helper()
	began := time.Now()
	eventually(e.t, fmt.Sprintf("%s has %d instances", domain, want), func() bool { return len(e.live(owner, domain)) == want })
	return time.Since(began)
}
