package commands_test

import (
	"encoding/json"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// keepConf is the engine_conf of the engine that these tests know.
type keepConf struct {
	N    *int            `json:"n"`
	Site string          `json:"site"`
	Vars json.RawMessage `json:"vars"`
}

// known is a registry with one engine, keep, that needs the key n.
func known() *engines.Registry {
	return engines.NewRegistry("keep", engines.Kind{
		Name: "keep", Aliases: []string{"old.Keep"}, Doc: "# keep",
		Validate: func(conf json.RawMessage, complete bool) error {
			var c keepConf
			if err := engines.DecodeEngineConf(conf, &c); err != nil {
				return err
			}
			if complete && c.N == nil {
				return &engines.FieldError{Field: "engine_conf.n", Message: "is missing; give an integer"}
			}
			return nil
		},
	})
}

func conf(engineConf string) events.Config {
	return events.Config{EngineConf: json.RawMessage(engineConf)}
}
