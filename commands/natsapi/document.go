package natsapi

import (
	"encoding/json"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// DomainDocument is the reply of describe_domain (design §5).
type DomainDocument struct {
	Name           string                       `json:"name"`
	Owner          string                       `json:"owner"`
	DefinitionID   string                       `json:"definition_id"`
	Config         ConfigDocument               `json:"config"`
	SensorData     json.RawMessage              `json:"sensor_data"`
	Instances      []InstanceDocument           `json:"instances"` // sorted by id
	Subscribers    []events.Subscriber          `json:"subscribers"`
	EngineState    events.EngineState           `json:"engine_state"`
	Removed        bool                         `json:"removed"` // it drains
	InstanceCounts map[events.InstanceState]int `json:"instance_counts"`
	Next           string                       `json:"next,omitempty"` // id of the last instance given; "": there are no more
	Seq            uint64                       `json:"seq"`
	AsOf           projections.AsOf             `json:"as_of"`
}

// ConfigDocument is a domain's config; each section is a JSON object.
type ConfigDocument struct {
	General    json.RawMessage `json:"general"`
	Health     json.RawMessage `json:"health"`
	EngineConf json.RawMessage `json:"engine_conf"`
}

// InstanceDocument is one instance of a DomainDocument.
type InstanceDocument struct {
	InstanceID     string               `json:"instance_id"`
	LaunchID       string               `json:"launch_id"`
	DeployableType string               `json:"deployable_type"`
	Site           string               `json:"site"`
	Allocation     string               `json:"allocation"`
	State          events.InstanceState `json:"state"`
	StateTime      time.Time            `json:"state_time"` // UTC
	Health         events.Health        `json:"health"`
	Errors         []json.RawMessage    `json:"errors"`
	ErrorTime      *time.Time           `json:"error_time"` // nil: no error yet
	ExtraVars      json.RawMessage      `json:"extravars"`
	SensorData     json.RawMessage      `json:"sensor_data,omitempty"` // metric → what was last read; nil: nothing
	Seq            uint64               `json:"seq"`
	// Fields are what reports said beyond that, such as public_ip.
	Fields map[string]json.RawMessage `json:",embed"`
}

// plainInstance is an InstanceDocument without its methods.
type plainInstance InstanceDocument

// UnmarshalJSON implements json.Unmarshaler.
func (i *InstanceDocument) UnmarshalJSON(data []byte) error {
	return jsonv2.Unmarshal(data, (*plainInstance)(i))
}

// MarshalJSON implements json.Marshaler.
func (i InstanceDocument) MarshalJSON() ([]byte, error) {
	return jsonv2.Marshal(plainInstance(i), jsonv2.Deterministic(true))
}
