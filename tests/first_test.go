package tests

import (
	"testing"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

func preserve(n string) events.Config {
	return events.Config{EngineConf: []byte(`{"preserve_n":` + n + `}`)}
}

func TestFirst(t *testing.T) {
	e := newEpum(t)
	p := e.provisioner()
	e.do("owner1", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve("2")})
	t.Log(e.decide())
	ids := p.provisions(2)
	e.reportState("owner1", "web", ids[0], events.Running)
	t.Log(e.describe("owner1", "web"))
}
