package service

import (
	"cmp"
	"context"
	"fmt"
	_ "time/tzdata" // time zones of schedules, also where the machine has none

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/external"
	"github.com/seed-524e47bf/epum/engines/needy"
	"github.com/seed-524e47bf/epum/engines/phantom"
	"github.com/seed-524e47bf/epum/engines/phantommulti"
	"github.com/seed-524e47bf/epum/engines/phantomoverflow"
	"github.com/seed-524e47bf/epum/engines/schedule"
	"github.com/seed-524e47bf/epum/engines/sensor"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/engines/sensors/cloudwatch"
	"github.com/seed-524e47bf/epum/engines/simplest"
	"github.com/seed-524e47bf/epum/engines/step"
	"github.com/seed-524e47bf/epum/engines/targettracking"
	"github.com/seed-524e47bf/epum/events"
)

// registry is the engines that this process knows.
func (c *Config) registry() *engines.Registry {
	site := ""
	if c.Provisioner == ProvisionerProcess {
		site = c.Agent.Site
	}
	return Registry(c.Prefix, site, c.Engines...)
}

// Registry is the engines that a process of a cell knows, and more ones. A config of
// simplest that names no site launches at the one that is given; "": at its default.
func Registry(prefix events.Prefix, site string, more ...engines.Kind) *engines.Registry {
	var known *engines.Registry
	kinds := []engines.Kind{
		simplest.Kind(cmp.Or(site, simplest.DefaultSite)), needy.Kind(), sensor.Kind(), targettracking.Kind(), step.Kind(),
		phantom.Kind(), phantommulti.Kind(), phantomoverflow.Kind(), external.Kind(prefix),
		schedule.Kind(func(class string) (engines.Kind, bool) { return known.Lookup(class) }),
	}
	known = engines.NewRegistry("simplest", append(kinds, more...)...)
	return known
}

// sources are where this process reads metrics.
func (c *Config) sources(ctx context.Context) (sensors.Sources, error) {
	all, from := sensors.NewSources(), c.Sensors
	if from.Prometheus.URL != "" {
		source, err := sensors.NewPrometheus(sensors.PrometheusOptions{
			URL: from.Prometheus.URL, Label: from.Prometheus.Label, Timeout: from.Timeout, Logger: c.Logger,
		})
		if err != nil {
			return nil, fmt.Errorf("sensors.prometheus: %w", err)
		}
		all["prometheus"] = source
	}
	if from.OpenTSDB.URL != "" {
		source, err := sensors.NewOpenTSDB(sensors.OpenTSDBOptions{URL: from.OpenTSDB.URL, Tag: from.OpenTSDB.Tag, Timeout: from.Timeout})
		if err != nil {
			return nil, fmt.Errorf("sensors.opentsdb: %w", err)
		}
		all["opentsdb"] = source
	}
	if from.CloudWatch.Region != "" {
		source, err := cloudwatch.New(ctx, cloudwatch.Options{
			Region: from.CloudWatch.Region, Endpoint: from.CloudWatch.Endpoint, Timeout: from.Timeout,
		})
		if err != nil {
			return nil, fmt.Errorf("sensors.cloudwatch: %w", err)
		}
		all["cloudwatch"] = source
	}
	return all, nil
}
