// Package phantomoverflow is the reference's phantom engine that fills sites one
// after the other: a number that may follow a metric is kept at the best sites that
// take it, and what one of them does not take overflows to the next.
package phantomoverflow

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
)

//go:embed phantomoverflow.md
var doc string

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	engines.GivenClouds
	engines.GivenThresholds
	Retirable engines.NameList `json:"retirable_nodes"`
}

// conf is engine_conf as the engine takes it.
type conf struct {
	clouds    []engines.Cloud    // by rank
	launch    engines.Launch     // but for its site
	scaling   engines.Thresholds // to at most what the sites take
	maximum   int                // also while instances move
	retirable []string
}

// Kind is the engine as a registry takes it.
func Kind() engines.Kind {
	return engines.Kind{
		Name: "phantom_multi_site_overflow",
		Aliases: []string{
			"epu.decisionengine.impls.phantom_multi_site_overflow.PhantomMultiSiteOverflowEngine",
			"epu.decisionengine.impls.phantom_multi.PhantomMultiSiteOverflowEngine",
		},
		Doc: doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
		Sensing: func(given json.RawMessage) engines.Sensing {
			c, _ := parse(given, false) // Validate has accepted it
			return c.scaling.Sensing
		},
	}
}

func parse(given json.RawMessage, complete bool) (c conf, err error) {
	var s section
	if err := engines.DecodeEngineConf(given, &s); err != nil {
		return c, err
	}
	c.retirable = s.Retirable
	if c.clouds, err = s.Clouds(complete, true); err != nil {
		return c, err
	}
	if c.launch, err = s.Launch(complete); err != nil {
		return c, err
	}
	if c.scaling, err = s.Thresholds(complete); err != nil || !complete {
		return c, err
	}
	size := 0
	for _, cloud := range c.clouds {
		size += min(cloud.Size, engines.Unlimited-size)
	}
	if size < c.scaling.Minimum {
		return c, engines.RefuseEngineConf("minimum_vms",
			fmt.Sprintf("is %d, but the sizes of clouds together are %d; give a site more, or -1 for no limit", c.scaling.Minimum, size))
	}
	c.maximum, c.scaling.Maximum = c.scaling.Maximum, min(c.scaling.Maximum, size)
	return c, nil
}

// engine has its config and nothing else: all it decides on is in the view.
type engine struct{ conf conf }

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// memory is what outlives the process.
type memory struct {
	*engines.Stepped                    // nil: no metric, or nothing was wanted by it yet
	Sites            map[string]breaker `json:"sites,omitempty"` // those whose launches fail
}

// Decide implements engines.Engine.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	kept := engines.Recall[memory](v)
	if kept == nil { // what is there counts, as at first
		kept = &memory{}
	}
	followed := e.conf.scaling.Follow(v, kept.Stepped)
	next := memory{Stepped: followed.Kept, Sites: map[string]breaker{}}
	p := &plan{wanted: followed.Wanted, maximum: e.conf.maximum}
	for _, cloud := range e.conf.clouds {
		at := look(v, cloud)
		b := kept.Sites[cloud.Site].count(at.view.Instances)
		if b.Failures > 0 {
			next.Sites[cloud.Site] = b
		}
		at.gate = gateOf(b, at.view.Instances, cloud.Site, v.Now)
		p.places = append(p.places, at)
	}
	for _, site := range v.OtherSites(e.conf.clouds) {
		at := look(v, engines.Cloud{Site: site})
		at.cloud.Size = at.healthy // they stay until they are replaced at the others
		p.places = append(p.places, at)
	}
	p.settle()
	d := e.carryOut(p, v.MaxActions)
	d.Reason = followed.Reason + "; " + d.Reason
	return d, e.record(&d, p, next, followed)
}

// record adds what the engine keeps and what it saw.
func (e *engine) record(d *engines.Decision, p *plan, next memory, followed *engines.Followed) (err error) {
	if next.Stepped != nil || len(next.Sites) > 0 {
		if d.Memory, err = json.Marshal(next); err != nil {
			return fmt.Errorf("encode memory: %w", err)
		}
	}
	type siteSeen struct {
		Site    string   `json:"site"`
		Size    int      `json:"size"` // -1: no limit
		Healthy int      `json:"healthy"`
		Running int      `json:"running"`
		Ideal   int      `json:"ideal"`
		Goal    int      `json:"goal"`
		Breaker *breaker `json:"breaker,omitempty"`
	}
	seen := struct {
		*engines.Followed
		Sites []siteSeen `json:"sites"`
	}{Followed: followed}
	for _, at := range p.places {
		s := siteSeen{Site: at.cloud.Site, Size: at.cloud.Size, Healthy: at.healthy, Running: at.running, Ideal: at.ideal, Goal: at.goal}
		if s.Size == engines.Unlimited {
			s.Size = -1
		}
		if at.gate.Failures > 0 {
			s.Breaker = &at.gate.breaker
		}
		seen.Sites = append(seen.Sites, s)
	}
	if d.Saw, err = json.Marshal(seen); err != nil {
		return fmt.Errorf("encode what was seen: %w", err)
	}
	return nil
}
