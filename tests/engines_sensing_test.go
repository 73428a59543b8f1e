package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/commands"
)

// TestEngines_Pushed pushes a metric of the domain and one of each instance: they are
// shown, and decided on; where too few are known, nothing is given up.
func TestEngines_Pushed(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	conf := engineConf("sensor", measuredBy(map[string]any{
		"monitor_sensors": []string{"load"}, "monitor_domain_sensors": []string{"queue"},
		"minimum_vms": 2, "maximum_vms": 5, "scale_up_threshold": 4, "scale_up_n_vms": 3, "scale_down_threshold": 2, "cooldown_period": 0,
	}))
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: conf})
	e.comesTo("al", "web", 2)
	first := e.live("al", "web")
	e.push("al", "web", "-", "queue", 7)
	e.push("al", "web", first[0].InstanceID, "load", 4)
	e.push("al", "web", first[1].InstanceID, "load", 6)
	e.comesTo("al", "web", 5)
	shown := map[string]string{"the domain": string(e.describe("al", "web").SensorData)}
	for n, i := range e.live("al", "web") {
		shown[fmt.Sprint("instance ", n)] = string(i.SensorData)
	}
	if diff := cmp.Diff(map[string]string{
		"the domain": `{"queue":{"Series":[7]}}`, "instance 0": `{"load":{"Series":[4]}}`, "instance 1": `{"load":{"Series":[6]}}`,
		"instance 2": "", "instance 3": "", "instance 4": "",
	}, shown); diff != "" {
		t.Error(diff)
	}
	// Three new ones say nothing: so nobody goes, though the two that do are idle.
	e.push("al", "web", first[0].InstanceID, "load", 1)
	e.push("al", "web", first[1].InstanceID, "load", 1)
	eventually(t, "what was pushed is read", func() bool {
		e.decide()
		i, _ := e.instance("al", "web", first[1].InstanceID)
		return slices.Contains(series(i.SensorData, "load"), 1)
	})
	e.comesTo("al", "web", 5)
	if r := e.lastDecision("al", "web").Reason; !contains(r, "3 of 5") {
		t.Errorf("the reason does not say what is missing: %s", r)
	}
	for _, i := range e.live("al", "web") {
		e.push("al", "web", i.InstanceID, "load", 1)
	}
	e.comesTo("al", "web", 2)
}

// series is what sensor_data has of a metric; nil: nothing.
func series(data json.RawMessage, metric string) []float64 {
	var shown map[string]map[string][]float64
	if json.Unmarshal(data, &shown) != nil {
		return nil
	}
	return shown[metric]["Series"]
}

// hanging is a metric source that takes questions and answers none until it is let.
func hanging(t *testing.T) (source func(*service.Config), asked *atomic.Int64, let func()) {
	t.Helper()
	asked = &atomic.Int64{}
	over := make(chan struct{})
	let = sync.OnceFunc(func() { close(over) })
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { let(); server.Close() })
	return func(c *service.Config) { c.Sensors.Prometheus.URL, c.Sensors.Timeout = server.URL, 2*patience }, asked, let
}

// sensed is a domain of the engine sensor that follows its own load by a source.
func sensed(source string) commands.AddDomain {
	conf := engineConf("sensor", measuredBy(map[string]any{
		"sensor_type": source, "minimum_vms": 1, "maximum_vms": 4, "cooldown_period": 0,
		"scale_up_threshold": 4, "scale_down_threshold": 2, "scale_up_n_vms": 3, "scale_down_n_vms": 3,
	}))
	return commands.AddDomain{DefinitionID: "d", Config: conf}
}

// hang adds domains whose source hangs, and one of each other kind.
func (e *epum) hang(n int) {
	e.t.Helper()
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	for i := range n {
		hangs := sensed("prometheus")
		hangs.DomainID = fmt.Sprint("hangs", i)
		e.do("al", hangs)
	}
	pushed := sensed("nats")
	pushed.DomainID = "pushed"
	e.do("al", pushed, commands.AddDomain{DomainID: "fixed", DefinitionID: "d", Config: preserve(2)})
}

// TestEngines_HangingSource: domains whose metrics hang wait for nobody but
// themselves, and still have their minimum.
func TestEngines_HangingSource(t *testing.T) {
	t.Parallel()
	source, asked, _ := hanging(t)
	e := newEpum(t, eventDriven, source)
	e.hang(40)
	eventually(t, "the source hangs", func() bool { return asked.Load() > 0 })
	e.soonHas("al", "fixed", 2)
	e.soonHas("al", "pushed", 1)
	e.soonHas("al", "hangs0", 1)
	for _, tt := range []struct {
		load float64
		want int
	}{{9, 4}, {0, 1}, {9, 4}} {
		e.push("al", "pushed", "-", "load", tt.load)
		if took := e.soonHas("al", "pushed", tt.want); took > 2*time.Second {
			t.Errorf("%d instances after %s", tt.want, took)
		}
	}
}

// TestEngines_HangingSourceAsked: so it is in a pass that somebody asks for.
func TestEngines_HangingSourceAsked(t *testing.T) {
	t.Parallel()
	source, asked, let := hanging(t)
	e := newEpum(t, source)
	e.hang(40)
	done := make(chan error, 1)
	go func() {
		_, err := e.as("operator").RunPass(e.ctx(), "decide")
		done <- err
	}()
	eventually(t, "the source hangs", func() bool { return asked.Load() > 0 })
	e.soonHas("al", "fixed", 2)
	e.soonHas("al", "pushed", 1)
	select {
	case err := <-done:
		t.Errorf("the pass is over before all is read: %v", err)
	default:
	}
	let()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(e.live("al", "hangs0")); n != 1 {
		t.Errorf("%d instances where nothing could be read, want the minimum", n)
	}
}
