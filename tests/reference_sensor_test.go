package tests

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

const sensorEngine = "epu.decisionengine.impls.sensor.SensorEngine"

// testSensorData: after the second decision the domain and its instance show what
// their metrics are.
func testSensorData(t *testing.T) {
	e := newEpum(t)
	conf := map[string]any{
		"sensor_type": "mockcloudwatch", "iaas_site": "fake", "iaas_allocation": "also.fake", "deployable_type": "fake",
		"minimum_vms": 1, "metric": "load", "monitor_sensors": []string{"load"}, "monitor_domain_sensors": []string{"queuelen"},
		"sample_function": "Average",
	}
	e.do("asterix",
		commands.AddDefinition{DefinitionID: "twodomaindef", Definition: ofEngine(sensorEngine)},
		commands.AddDomain{DomainID: "twodomain", DefinitionID: "twodomaindef", Config: events.Config{EngineConf: section(conf)}})
	if n := len(e.describe("asterix", "twodomain").Instances); n != 0 {
		t.Fatalf("%d instances before any decision", n)
	}
	e.decide()
	doc := e.describe("asterix", "twodomain")
	if len(doc.Instances) != 1 || doc.Instances[0].State != events.Requesting || doc.Instances[0].SensorData != nil {
		t.Fatalf("instances %+v", doc.Instances)
	}
	e.decide()
	doc = e.describe("asterix", "twodomain")
	if len(doc.Instances) != 1 {
		t.Fatalf("%d instances", len(doc.Instances))
	}
	type shown map[string]map[string]any
	var ofDomain, ofInstance shown
	for data, into := range map[string]*shown{string(doc.SensorData): &ofDomain, string(doc.Instances[0].SensorData): &ofInstance} {
		if err := json.Unmarshal([]byte(data), into); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	}
	want := map[string]any{engines.StatisticSeries: []any{0.0}, engines.StatisticAverage: 0.0}
	if diff := cmp.Diff(shown{"queuelen": want}, ofDomain); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(shown{"load": want}, ofInstance); diff != "" {
		t.Error(diff)
	}
}
